//! One transaction of the target. Its statements are made here and nowhere else, so that none can forget
//! whether it may stay prepared on its connection.
//!
//! A statement that does not stay prepared is sent in two steps. Behind a pooler both must come to the same
//! connection of the server, or one is answered with the rows of another's. A transaction keeps its
//! connection, so everything with parameters runs in one, a single read too.

use std::borrow::Cow;

use sqlx::encode::Encode;
use sqlx::postgres::{PgArguments, PgPool, PgRow};
use sqlx::query::Query;
use sqlx::{Postgres, SqlSafeStr, Transaction, Type};

use crate::error::Result;
use crate::postgres::sqlstate;

/// A transaction that is under way; dropped it is rolled back.
pub(in crate::postgres) struct Tx {
    inner: Transaction<'static, Postgres>,
    what: &'static str,
    /// Whether statements stay prepared on the connection.
    prepared: bool,
    undone: bool,
}

impl Tx {
    /// Goes on with a transaction that has begun; `what` is being done in it, in the infinitive.
    pub(super) fn new(
        inner: Transaction<'static, Postgres>,
        what: &'static str,
        prepared: bool,
    ) -> Self {
        Self { inner, what, prepared, undone: false }
    }

    /// A statement that is run again and again: it stays prepared where the config lets it.
    pub(in crate::postgres) fn query(&mut self, sql: impl SqlSafeStr) -> Statement<'_> {
        let query = sqlx::query(sql).persistent(self.prepared);
        Statement { what: self.what.into(), query, tx: self }
    }

    /// A rare statement: it never stays prepared.
    pub(in crate::postgres) fn query_once(&mut self, sql: impl SqlSafeStr) -> Statement<'_> {
        let query = sqlx::query(sql).persistent(false);
        Statement { what: self.what.into(), query, tx: self }
    }

    /// Statements without parameters, sent as they are; `what` they do.
    pub(in crate::postgres) async fn run(
        &mut self,
        sql: impl SqlSafeStr,
        what: impl Into<Cow<'static, str>>,
    ) -> Result<()> {
        let done = sqlx::raw_sql(sql).execute(&mut *self.inner).await;
        done.map(drop).map_err(|error| sqlstate::error(what.into(), error))
    }

    /// Lets the transaction end without an effect, although its work succeeds.
    pub(in crate::postgres) fn undo(&mut self) {
        self.undone = true;
    }

    /// Ends it: commits, unless its work was undone.
    pub(super) async fn end(self) -> Result<()> {
        let Self { inner, what, undone, .. } = self;
        let ended = if undone { inner.rollback().await } else { inner.commit().await };
        ended.map_err(|error| sqlstate::error(what, error))
    }
}

/// A statement of a transaction, to be bound and run.
#[must_use = "a statement does nothing until it is run"]
pub(in crate::postgres) struct Statement<'t> {
    tx: &'t mut Tx,
    query: Query<'static, Postgres, PgArguments>,
    what: Cow<'static, str>,
}

impl Statement<'_> {
    /// Says what this statement does, where that is not what its whole transaction does.
    pub(in crate::postgres) fn named(mut self, what: impl Into<Cow<'static, str>>) -> Self {
        self.what = what.into();
        self
    }

    /// The next parameter.
    pub(in crate::postgres) fn bind<'v, T>(mut self, value: T) -> Self
    where
        T: Encode<'v, Postgres> + Type<Postgres>,
    {
        self.query = self.query.bind(value);
        self
    }

    /// Runs it; yields how many rows were affected.
    pub(in crate::postgres) async fn execute(self) -> Result<u64> {
        let done = self.query.execute(&mut *self.tx.inner).await;
        done.map(|done| done.rows_affected()).map_err(|error| sqlstate::error(self.what, error))
    }

    /// Runs it and reads its rows, in order.
    pub(in crate::postgres) async fn all<T>(
        self,
        read: impl FnMut(&PgRow) -> sqlx::Result<T>,
    ) -> Result<Vec<T>> {
        let rows = self.query.fetch_all(&mut *self.tx.inner).await;
        let read = rows.and_then(|rows| rows.iter().map(read).collect());
        read.map_err(|error| sqlstate::error(self.what, error))
    }

    /// Runs it and reads its one row.
    pub(in crate::postgres) async fn one<T>(
        self,
        read: impl FnOnce(&PgRow) -> sqlx::Result<T>,
    ) -> Result<T> {
        let row = self.query.fetch_one(&mut *self.tx.inner).await;
        row.and_then(|row| read(&row)).map_err(|error| sqlstate::error(self.what, error))
    }

    /// Runs it and reads its row, where there is one.
    pub(in crate::postgres) async fn optional<T>(
        self,
        read: impl FnOnce(&PgRow) -> sqlx::Result<T>,
    ) -> Result<Option<T>> {
        let row = self.query.fetch_optional(&mut *self.tx.inner).await;
        let read = row.and_then(|row| row.as_ref().map(read).transpose());
        read.map_err(|error| sqlstate::error(self.what, error))
    }
}

/// Does some work for a command in one transaction, which has no limits: an operator waits for it. None of
/// its statements stays prepared.
pub(in crate::postgres) async fn in_transaction<T>(
    pool: &PgPool,
    what: &'static str,
    work: impl AsyncFnOnce(&mut Tx) -> Result<T>,
) -> Result<T> {
    begun_with(pool, "begin", what, work).await
}

/// The same, begun with limits.
pub(in crate::postgres) async fn begun_with<T>(
    pool: &PgPool,
    begin: &'static str,
    what: &'static str,
    work: impl AsyncFnOnce(&mut Tx) -> Result<T>,
) -> Result<T> {
    let begun = pool.begin_with(begin).await.map_err(|error| sqlstate::error(what, error))?;
    let mut tx = Tx::new(begun, what, false);
    let value = work(&mut tx).await?;
    tx.end().await?;
    Ok(value)
}
