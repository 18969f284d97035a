//! Connections to the writer: two pools, their limits, and what happens to them in a failover.
//!
//! No session settings, so that a pooler may give a transaction any server connection (PgBouncer refuses
//! start-up options, RDS Proxy pins a client that uses SET): each transaction sends its limits in the same
//! round trip as its BEGIN. The ledger has its own pool, so that applying cannot starve a renewal. sqlx sets
//! no TCP keepalive, so every call has a timeout on this side too. A pool is replaced as a whole if one of
//! its connections went silent or its server is a reader now.

mod connect;
mod tx;

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, PgPool, Row};

use super::sqlstate;
use crate::error::{Error, ErrorKind, Result};
pub(super) use tx::{Statement, Tx, begun_with, in_transaction};

/// Gives the password for a new connection: a constant one, or a token that soon expires. It is called before
/// each transaction, so it should cache a valid one.
pub type Password =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<String>> + Send>> + Send + Sync>;

/// How long new pools may be silent before we ask the server why.
const SILENT: Duration = Duration::from_secs(1);

/// How the connection is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tls {
    /// Not secured: only for loopback.
    Disable,
    /// Encrypted, without a check of the server's certificate.
    Require,
    /// Encrypted, with a check of the certificate's chain but not its name.
    VerifyCa,
    /// Encrypted, with a check of the certificate's chain and name.
    #[default]
    VerifyFull,
}

/// Where the target is and how it is used.
#[derive(Clone)]
pub struct Settings {
    /// `postgres://user@host:port/database`; its password is used if `password` is `None`.
    pub url: String,
    /// How the connection is secured.
    pub tls: Tls,
    /// PEM roots for the certificate check, besides the public ones; `None` for the built-in roots of RDS,
    /// Aurora and RDS Proxy.
    pub ca_pem: Option<Vec<u8>>,
    /// The password, if it is not in the URL.
    pub password: Option<Password>,
    /// How many batches may be applied at once. 1-2 per core of the server is the measured optimum.
    pub apply_connections: u32,
    /// How long one statement of a batch may take.
    pub statement_timeout: Duration,
    /// How long a statement waits for another's lock, for example of an ALTER TABLE.
    pub lock_timeout: Duration,
    /// When the server ends a transaction whose owner is silent: a frozen process must not keep its locks.
    pub idle_in_transaction_timeout: Duration,
    /// The limit for a whole batch, measured here.
    pub apply_timeout: Duration,
    /// How long a call of the ledger may take; well below a lease.
    pub ledger_timeout: Duration,
    /// How long to wait for a connection; a paused Aurora Serverless takes about 15 s to resume.
    pub connect_timeout: Duration,
    /// Whether statements stay prepared on their connection; must be false behind a pooler in transaction
    /// mode.
    pub prepared: bool,
}

impl Settings {
    /// Settings for the target at `url` with the defaults.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            tls: Tls::default(),
            ca_pem: None,
            password: None,
            apply_connections: 4,
            statement_timeout: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(5),
            idle_in_transaction_timeout: Duration::from_secs(15),
            apply_timeout: Duration::from_secs(60),
            ledger_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(30),
            prepared: true,
        }
    }
}

/// The pools of one target. All sources of a process share them.
pub struct Pools {
    settings: Settings,
    options: PgConnectOptions,
    apply_begin: Arc<str>,
    ledger_begin: Arc<str>,
    current: RwLock<Arc<Pair>>,
}

/// Which of the two pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    Apply,
    Ledger,
}

struct Pair {
    apply: PgPool,
    ledger: PgPool,
    /// Whether these pools replaced distrusted ones and nothing has worked over them yet.
    unproven: AtomicBool,
}

impl Pools {
    /// Connects once and checks that the server takes writes.
    ///
    /// # Errors
    /// `Config` for an invalid URL, `ReadOnly` if the server is a reader, and errors of the connection.
    pub async fn connect(settings: Settings) -> Result<Self> {
        let pools = Self::connect_to_read(settings).await?;
        pools.transact(Work::Ledger, "connect to the target", refuse_reader).await?;
        Ok(pools)
    }

    /// Connects once, only for reading: a replica is enough.
    ///
    /// # Errors
    /// `Config` for an invalid URL, and errors of the connection.
    pub async fn connect_to_read(settings: Settings) -> Result<Self> {
        let pools = Self::new(settings)?;
        connect::knock(&pools.settings, &pools.options).await?;
        Ok(pools)
    }

    fn new(settings: Settings) -> Result<Self> {
        let options = connect::options(&settings)?;
        let begin = |statement, lock| connect::begin(&settings, statement, lock);
        let current = RwLock::new(Arc::new(Pair::new(&settings, &options, false)));
        let ledger_limit = settings.ledger_timeout;
        Ok(Self {
            apply_begin: begin(settings.statement_timeout, settings.lock_timeout).into(),
            ledger_begin: begin(ledger_limit, settings.lock_timeout.min(ledger_limit)).into(),
            options,
            current,
            settings,
        })
    }

    /// A pool for reads and commands. It may be replaced later, so do not keep it.
    ///
    /// # Errors
    /// When the password cannot be read.
    pub async fn pool(&self) -> Result<PgPool> {
        let session = self.session(Work::Apply);
        session.refresh_password().await?;
        Ok(session.pool)
    }

    /// Does some work in one transaction that has its lane's limits; `what` it does, in the infinitive. It is
    /// committed when the work succeeds.
    pub(super) async fn transact<T>(
        &self,
        lane: Work,
        what: &'static str,
        work: impl AsyncFnOnce(&mut Tx) -> Result<T>,
    ) -> Result<T> {
        let work = |session: Session| async move {
            let mut tx = session.begin(what).await?;
            let value = work(&mut tx).await?;
            tx.end().await?;
            Ok(value)
        };
        self.attempt(lane, what, work).await
    }

    /// Runs some work over one pool within its time limit. Replaces pools that cannot be trusted afterwards.
    async fn attempt<T, F>(
        &self,
        lane: Work,
        what: &str,
        work: impl FnOnce(Session) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let pair = self.pair();
        let session = self.session(lane);
        let limit = match lane {
            Work::Apply => self.settings.apply_timeout,
            Work::Ledger => self.settings.ledger_timeout,
        };
        // A new connection has its own limit: it may have to wake the server up.
        let limit =
            if session.pool.size() == 0 { limit.max(self.settings.connect_timeout) } else { limit };
        // Boxed, so that the futures that wait for it hold only a pointer.
        let mut work = Box::pin(work(session));
        let answer = self.unless_refused(&pair, what, work.as_mut());
        let result = match tokio::time::timeout(limit, answer).await {
            Ok(result) => result,
            Err(_) => Err(Error::new(ErrorKind::Unreachable, format!("{what}: no answer in time"))),
        };
        match &result {
            Ok(_) => pair.unproven.store(false, Ordering::Relaxed),
            Err(error) if distrusts_pool(error) => self.replace(&pair),
            Err(_) => {}
        }
        result
    }

    /// The work's result. If new pools stay silent, the reason why no connection is available: a pool waits
    /// out a refusal, for example for lack of connections, and hides its reason.
    async fn unless_refused<T>(
        &self,
        pair: &Pair,
        what: &str,
        mut work: Pin<&mut impl Future<Output = Result<T>>>,
    ) -> Result<T> {
        if pair.unproven.load(Ordering::Relaxed) {
            if let Ok(result) = tokio::time::timeout(SILENT, work.as_mut()).await {
                return result;
            }
            tokio::select! {
                biased;
                result = work.as_mut() => return result,
                refused = Box::pin(connect::once(&self.settings, &self.options, what)) => refused?,
            }
        }
        work.await
    }

    fn session(&self, lane: Work) -> Session {
        let pair = self.pair();
        let (pool, begin) = match lane {
            Work::Apply => (pair.apply.clone(), &self.apply_begin),
            Work::Ledger => (pair.ledger.clone(), &self.ledger_begin),
        };
        let password = self.settings.password.clone();
        let options = password.is_some().then(|| self.options.clone());
        Session {
            pool,
            begin: Arc::clone(begin),
            prepared: self.settings.prepared,
            password: password.zip(options),
        }
    }

    fn pair(&self) -> Arc<Pair> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the pools, unless another call already has.
    fn replace(&self, distrusted: &Arc<Pair>) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&current, distrusted) {
            *current = Arc::new(Pair::new(&self.settings, &self.options, true));
            // The call alone closes a pool; there is no need to wait for its connections to end.
            drop(distrusted.apply.close());
            drop(distrusted.ledger.close());
        }
    }
}

impl std::fmt::Debug for Pools {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (host, port) = (self.options.get_host(), self.options.get_port());
        f.debug_struct("Pools").field("host", &host).field("port", &port).finish_non_exhaustive()
    }
}

impl Pair {
    fn new(settings: &Settings, options: &PgConnectOptions, unproven: bool) -> Self {
        // One connection renews and one publishes while another waits for a lock.
        const LEDGER_CONNECTIONS: u32 = 3;
        let pool = |connections| {
            PgPoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(settings.connect_timeout)
                .test_before_acquire(false)
                .connect_lazy_with(options.clone())
        };
        Self {
            apply: pool(settings.apply_connections.max(1)),
            ledger: pool(LEDGER_CONNECTIONS),
            unproven: AtomicBool::new(unproven),
        }
    }
}

/// One use of one pool.
struct Session {
    pool: PgPool,
    begin: Arc<str>,
    prepared: bool,
    password: Option<(Password, PgConnectOptions)>,
}

impl Session {
    /// Begins a transaction with its limits.
    async fn begin(&self, what: &'static str) -> Result<Tx> {
        self.refresh_password().await?;
        let begin = AssertSqlSafe(Arc::clone(&self.begin));
        let begun = self.pool.begin_with(begin).await;
        let begun = begun.map_err(|error| sqlstate::error("begin a transaction", error))?;
        Ok(Tx::new(begun, what, self.prepared))
    }

    async fn refresh_password(&self) -> Result<()> {
        if let Some((password, options)) = &self.password {
            self.pool.set_connect_options(options.clone().password(&password().await?));
        }
        Ok(())
    }
}

/// Fails if the server only reads: a replica, or a writer set to read only.
pub(super) async fn refuse_reader(tx: &mut Tx) -> Result<()> {
    let reads_only: bool = tx
        .query_once(
            "select pg_is_in_recovery() or current_setting('transaction_read_only')::boolean",
        )
        .named("ask whether the target takes writes")
        .one(|row| row.try_get(0))
        .await?;
    if reads_only {
        return Err(Error::new(ErrorKind::ReadOnly, "the target's server is a reader")
            .with_hint("use the writer's endpoint of the cluster"));
    }
    Ok(())
}

fn distrusts_pool(error: &Error) -> bool {
    let stale = matches!(error.code(), Some("0A000" | "26000"));
    let broken = matches!(
        error.kind(),
        ErrorKind::ReadOnly | ErrorKind::Unreachable | ErrorKind::Unavailable
    );
    broken || (stale && error.kind() == ErrorKind::Conflict)
}
