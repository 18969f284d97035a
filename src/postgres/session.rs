//! Connections to the writer: two pools, their limits, and what happens to them in a failover.
//!
//! Nothing is set on a session, so that a pooler may hand a transaction to any server connection
//! (PgBouncer refuses start-up options, RDS Proxy pins a client that uses SET): each transaction
//! brings its limits in the same round trip as its BEGIN. The ledger has a pool of its own, so that
//! applying cannot starve a renewal. sqlx sets no TCP keepalive, so every call is bounded on this
//! side too, and a pool one of whose connections went silent, or whose server is a reader now, is
//! replaced as a whole.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgPool, Postgres, Transaction};

use super::sqlstate;
use crate::error::{Error, ErrorKind, Result};

/// Yields the password for a new connection: a constant one, or a token that soon expires. It is
/// called before each transaction, so it should keep what is still good.
pub type Password =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<String>> + Send>> + Send + Sync>;

/// The roots of AWS's own certificates for databases, all Regions: its published bundle, less what has
/// expired. They are not among the public roots.
const RDS_CA_PEM: &[u8] = include_bytes!("rds-ca.pem");

/// How long new pools may be silent before somebody asks the server why.
const SILENT: Duration = Duration::from_secs(1);

/// How the connection is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tls {
    /// Not at all: for loopback only.
    Disable,
    /// Encrypted, the server's certificate unchecked.
    Require,
    /// Encrypted, the certificate's chain checked but not its name.
    VerifyCa,
    /// Encrypted, the certificate's chain and name checked.
    #[default]
    VerifyFull,
}

/// Where the target is and how it is used.
#[derive(Clone)]
pub struct Settings {
    /// `postgres://user@host:port/database`; a password in it is used where `password` is `None`.
    pub url: String,
    /// How the connection is secured.
    pub tls: Tls,
    /// Roots to check the certificate against, as PEM, besides the public ones; `None` for those of RDS,
    /// Aurora and RDS Proxy, which are built in.
    pub ca_pem: Option<Vec<u8>>,
    /// The password, where it is not in the URL.
    pub password: Option<Password>,
    /// How many batches can be applied at once. 1-2 per core of the server is the measured optimum.
    pub apply_connections: u32,
    /// How long one statement of a batch may take.
    pub statement_timeout: Duration,
    /// How long a statement waits for another's lock, of a user's ALTER TABLE say.
    pub lock_timeout: Duration,
    /// When the server ends a transaction whose owner is silent: a frozen process must not keep its
    /// locks.
    pub idle_in_transaction_timeout: Duration,
    /// How long a whole batch may take, as seen from here.
    pub apply_timeout: Duration,
    /// How long a call of the ledger may take; well below a lease.
    pub ledger_timeout: Duration,
    /// How long to wait for a connection; a paused Aurora Serverless takes about 15 s to resume.
    pub connect_timeout: Duration,
    /// Whether statements stay prepared on their connection; not behind a pooler in transaction
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
pub(super) enum Lane {
    Apply,
    Ledger,
}

struct Pair {
    apply: PgPool,
    ledger: PgPool,
    /// Whether these pools follow others that were not trusted any more, and nothing worked over them yet.
    unproven: AtomicBool,
}

impl Pools {
    /// Connects once and makes sure that the server takes writes.
    ///
    /// # Errors
    /// `Config` for a URL that is none, `ReadOnly` when the server is a reader, and what connecting
    /// meets.
    pub async fn connect(settings: Settings) -> Result<Self> {
        let pools = Self::new(settings)?;
        pools.knock().await?;
        let what = "connect to the target";
        let attempt = |session: Session| async move {
            let mut transaction = session.begin().await?;
            refuse_reader(&mut transaction).await?;
            transaction.rollback().await.map_err(|error| sqlstate::error(what, error))
        };
        pools.attempt(Lane::Ledger, what, attempt).await?;
        Ok(pools)
    }

    /// Connects once, to read only: a replica will do.
    ///
    /// # Errors
    /// `Config` for a URL that is none, and what connecting meets.
    pub async fn connect_to_read(settings: Settings) -> Result<Self> {
        let pools = Self::new(settings)?;
        pools.knock().await?;
        Ok(pools)
    }

    /// Makes one connection outside of the pools: a pool waits out a refusal, and then tells nothing of it.
    async fn knock(&self) -> Result<()> {
        let (host, port) = (self.options.get_host(), self.options.get_port());
        let what = format!("connect to the target at {host}:{port}");
        let attempt = Box::pin(self.connect_once(&what));
        let error = match tokio::time::timeout(self.settings.connect_timeout, attempt).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error,
            Err(_) => Error::new(ErrorKind::Unreachable, format!("{what}: no answer in time")),
        };
        match error.kind() {
            // The server is there and will soon take connections; the pool waits for that.
            ErrorKind::Unavailable | ErrorKind::Capacity => Ok(()),
            ErrorKind::Unreachable if error.hint().is_none() => Err(error.with_hint(format!(
                "see with `pg_isready -h {host} -p {port}` whether it runs and can be reached from here"
            ))),
            _ => Err(error),
        }
    }

    async fn connect_once(&self, what: &str) -> Result<()> {
        let options = match &self.settings.password {
            Some(password) => self.options.clone().password(&password().await?),
            None => self.options.clone(),
        };
        let attempt = async { PgConnection::connect_with(&options).await?.close().await };
        attempt.await.map_err(|error| sqlstate::error(what, error))
    }

    fn new(settings: Settings) -> Result<Self> {
        let options = connect_options(&settings)?;
        let begin = |statement: Duration, lock: Duration| {
            format!(
                "begin isolation level read committed; set local statement_timeout = {}; \
                 set local lock_timeout = {}; set local idle_in_transaction_session_timeout = {}",
                millis(statement),
                millis(lock),
                millis(settings.idle_in_transaction_timeout),
            )
        };
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

    /// A pool for reading and for commands. It may be replaced by another one later, so do not keep
    /// it.
    ///
    /// # Errors
    /// When no password can be had.
    pub async fn pool(&self) -> Result<PgPool> {
        let session = self.session(Lane::Apply);
        session.refresh_password().await?;
        Ok(session.pool)
    }

    /// The same for reading only: one connection in one transaction. A statement that does not stay
    /// prepared is sent in two steps, and behind a pooler both must come to the same connection of the
    /// server: else one is answered with the rows of another's.
    ///
    /// # Errors
    /// When no password can be had.
    pub async fn pool_to_read(&self) -> Result<PgPool> {
        let pool = self.pool().await?;
        Ok(PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(self.settings.connect_timeout)
            .test_before_acquire(false)
            .after_connect(|connection, _| {
                let begin = sqlx::raw_sql("begin read only").execute(connection);
                Box::pin(async move { begin.await.map(drop) })
            })
            .connect_lazy_with((*pool.connect_options()).clone()))
    }

    pub(super) fn prepared(&self) -> bool {
        self.settings.prepared
    }

    /// Does some work over one pool within the time that it may take. Pools that cannot be trusted
    /// any more afterwards are replaced.
    pub(super) async fn attempt<T, F>(
        &self,
        lane: Lane,
        what: &str,
        work: impl FnOnce(Session) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let pair = self.pair();
        let session = self.session(lane);
        let limit = match lane {
            Lane::Apply => self.settings.apply_timeout,
            Lane::Ledger => self.settings.ledger_timeout,
        };
        // A new connection has its own limit: the first may have to wake the server up.
        let limit =
            if session.pool.size() == 0 { limit.max(self.settings.connect_timeout) } else { limit };
        // On the heap it is a pointer in each of the futures that wait for it.
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

    /// The work's result. Where new pools stay silent, the reason why no connection is to be had: a pool
    /// waits out a refusal, be it for want of connections, and tells nothing of it.
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
                refused = Box::pin(self.connect_once(what)) => refused?,
            }
        }
        work.await
    }

    fn session(&self, lane: Lane) -> Session {
        let pair = self.pair();
        let (pool, begin) = match lane {
            Lane::Apply => (pair.apply.clone(), &self.apply_begin),
            Lane::Ledger => (pair.ledger.clone(), &self.ledger_begin),
        };
        let password = self.settings.password.clone();
        let options = password.is_some().then(|| self.options.clone());
        Session { pool, begin: Arc::clone(begin), password: password.zip(options) }
    }

    fn pair(&self) -> Arc<Pair> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the pools, unless another call has done so already.
    fn replace(&self, distrusted: &Arc<Pair>) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&current, distrusted) {
            *current = Arc::new(Pair::new(&self.settings, &self.options, true));
            // Being called is enough to close a pool; waiting for its connections to end is not
            // needed.
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
        // One connection renews and one publishes while another one waits for a lock.
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
pub(super) struct Session {
    pool: PgPool,
    begin: Arc<str>,
    password: Option<(Password, PgConnectOptions)>,
}

impl Session {
    /// Begins a transaction with its limits.
    pub(super) async fn begin(&self) -> Result<Transaction<'static, Postgres>> {
        self.refresh_password().await?;
        let begin = AssertSqlSafe(Arc::clone(&self.begin));
        self.pool
            .begin_with(begin)
            .await
            .map_err(|error| sqlstate::error("begin a transaction", error))
    }

    async fn refresh_password(&self) -> Result<()> {
        if let Some((password, options)) = &self.password {
            self.pool.set_connect_options(options.clone().password(&password().await?));
        }
        Ok(())
    }
}

/// Fails when the server only reads: a replica, or a writer that was told so.
pub(super) async fn refuse_reader(transaction: &mut Transaction<'static, Postgres>) -> Result<()> {
    let reads_only: bool = sqlx::query_scalar(
        "select pg_is_in_recovery() or current_setting('transaction_read_only')::boolean",
    )
    .persistent(false)
    .fetch_one(&mut **transaction)
    .await
    .map_err(|error| sqlstate::error("ask whether the target takes writes", error))?;
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

fn connect_options(settings: &Settings) -> Result<PgConnectOptions> {
    // The parser's error may quote the URL, and with it a password; and it takes any scheme.
    let ours =
        ["postgres://", "postgresql://"].iter().any(|scheme| settings.url.starts_with(scheme));
    let parsed: Option<PgConnectOptions> = ours.then(|| settings.url.parse().ok()).flatten();
    let options = parsed.ok_or_else(|| {
        Error::new(ErrorKind::Config, "the target's url is not a postgres url")
            .with_hint("write it as postgres://user@host:5432/database")
    })?;
    let mode = match settings.tls {
        Tls::Disable => PgSslMode::Disable,
        Tls::Require => PgSslMode::Require,
        Tls::VerifyCa => PgSslMode::VerifyCa,
        Tls::VerifyFull => PgSslMode::VerifyFull,
    };
    // PgBouncer refuses a connection that asks for extra_float_digits.
    let options = options.ssl_mode(mode).application_name("dynaurora").extra_float_digits(None);
    let pem = settings.ca_pem.clone().unwrap_or_else(|| RDS_CA_PEM.to_vec());
    let options = options.ssl_root_cert_from_pem(pem);
    Ok(options.disable_statement_logging())
}

fn millis(duration: Duration) -> u128 {
    duration.as_millis().max(1)
}
