//! Measures the lag as a reader of the target sees it: from a child's write to its row.

use sqlx::Row;
use sqlx::postgres::PgPool;

use crate::engine::ports::Clock;
use crate::error::{Error, ErrorKind, Result};

/// Polls `children`; each row has the time at which its item was written.
///
/// New rows are those with a higher version than the last poll saw. That works because the demo's stream has
/// one shard, whose records are applied in order.
#[derive(Debug, Default)]
pub struct LagProbe {
    newest: Option<String>,
    lags_ms: Vec<i64>,
}

impl LagProbe {
    /// Notes the lag of every row that changed since the last look.
    ///
    /// # Errors
    /// When the target does not answer.
    pub async fn look(&mut self, pool: &PgPool, clock: &impl Clock) -> Result<()> {
        let rows = sqlx::query(
            "select (extract(epoch from updated_at) * 1000)::bigint, dynaurora_version::text \
             from children where dynaurora_version > coalesce($1::text, '0')::numeric \
             order by dynaurora_version",
        )
        .bind(&self.newest)
        .fetch_all(pool)
        .await
        .map_err(failed)?;
        let now = clock.wall().0;
        for row in rows {
            let written: i64 = row.try_get(0).map_err(failed)?;
            self.lags_ms.push(now - written);
            self.newest = Some(row.try_get(1).map_err(failed)?);
        }
        Ok(())
    }

    /// The lag, in milliseconds, that this share of the rows stayed below; `None` before the first row.
    #[must_use]
    pub fn percentile(&self, share: f64) -> Option<i64> {
        let mut sorted = self.lags_ms.clone();
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1)?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index into a list of samples"
        )]
        let index = (share * last as f64).round() as usize;
        sorted.get(index.min(last)).copied()
    }
}

fn failed(error: sqlx::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "look at the table children").with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_was_seen() {
        let probe = LagProbe { lags_ms: (0..=100).rev().collect(), ..LagProbe::default() };
        assert_eq!(probe.percentile(0.5), Some(50));
        assert_eq!(probe.percentile(0.99), Some(99));
        assert_eq!(LagProbe::default().percentile(0.5), None);
    }
}
