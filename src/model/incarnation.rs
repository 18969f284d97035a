//! Which run of the database server an answer came from.

use std::sync::Arc;

/// Which run of the database server answered; two are the same or not, and no more is known of them.
///
/// A crash, a restart, or a fail-over to another server begins a new one. What was committed last may be lost
/// with the old one: with `synchronous_commit = off`, or where an asynchronous replica takes over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Incarnation(Arc<str>);

impl Incarnation {
    /// The run that the server describes by this text.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The server's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
