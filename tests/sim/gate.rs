//! A gate that a stopped process stands before. All who wait pass in the order in which they came: a `watch`
//! wakes its receivers in an order of its own chance, and then the same seed is not the same run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// One process's gate; clones are the same one.
#[derive(Clone, Default)]
pub struct Gate(Arc<Inner>);

#[derive(Default)]
struct Inner {
    shut: AtomicBool,
    opened: Notify,
}

impl Gate {
    /// Shuts it, or opens it for all who wait.
    pub fn shut(&self, shut: bool) {
        self.0.shut.store(shut, Ordering::SeqCst);
        if !shut {
            self.0.opened.notify_waiters();
        }
    }

    /// Waits until it is open.
    pub async fn pass(&self) {
        loop {
            let opened = self.0.opened.notified();
            if !self.0.shut.load(Ordering::SeqCst) {
                return;
            }
            opened.await;
        }
    }
}
