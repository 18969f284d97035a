//! A secret that somebody rotates while the daemon runs.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::{Secret, SecretRef};
use crate::engine::ports::Clock;
use crate::error::Result;

/// How old a secret may be before its place is looked at again: it is asked for before each transaction.
const READ_EVERY: Duration = Duration::from_secs(1);

/// A secret, as its place had it a moment ago.
#[derive(Debug)]
pub(super) struct RotatingSecret<C> {
    place: SecretRef,
    clock: C,
    held: Mutex<(Instant, Secret)>,
}

impl<C: Clock> RotatingSecret<C> {
    /// Reads it for the first time.
    ///
    /// # Errors
    /// `Config` if the secret is missing or empty.
    pub(super) fn read(place: SecretRef, clock: C) -> Result<Self> {
        let secret = resolved(&place)?;
        let held = Mutex::new((clock.now(), secret));
        Ok(Self { place, clock, held })
    }

    /// The secret now. While its place cannot be read, as in the midst of a rotation, it is the last one.
    pub(super) fn current(&self) -> String {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        if now >= held.0 + READ_EVERY {
            held.0 = now;
            match resolved(&self.place) {
                Ok(secret) => held.1 = secret,
                Err(error) => {
                    tracing::warn!(error = %error.chain(), "the secret stays as it was read last");
                }
            }
        }
        held.1.expose().to_owned()
    }
}

fn resolved(place: &SecretRef) -> Result<Secret> {
    place.resolve(|name| std::env::var(name).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::SystemClock;

    #[tokio::test(start_paused = true)]
    async fn a_secret_that_is_rotated_is_read_again_and_one_that_is_away_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, "first").unwrap();
        let secret = RotatingSecret::read(SecretRef::File(path.clone()), SystemClock).unwrap();
        let later = async || {
            let then = SystemClock.now() + READ_EVERY;
            SystemClock.sleep_until(then).await;
            secret.current()
        };
        std::fs::write(&path, "second\n").unwrap();
        assert_eq!(secret.current(), "first", "it was read a moment ago");
        assert_eq!(later().await, "second");
        std::fs::write(&path, "").unwrap();
        assert_eq!(later().await, "second", "a file that is just being written");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(later().await, "second");
        std::fs::write(&path, "third").unwrap();
        assert_eq!(later().await, "third");
        assert!(!format!("{secret:?}").contains("third"));
    }
}
