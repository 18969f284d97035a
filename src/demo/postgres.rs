//! A private Postgres cluster in a temporary folder that ends with the process that started it.
//!
//! The server runs under a shell that reads from a pipe; we hold the writing end. However we end, by `Drop`,
//! a signal or a crash, the pipe closes, the shell stops the server and removes the folder. Postgres refuses
//! to run as root, so root runs it as another user.

use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, Connection};

use crate::error::{Error, ErrorKind, Result};

/// How a cluster is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether commits survive a crash of the machine. Tests use `false` for speed.
    pub durable: bool,
    /// The server's `max_connections`.
    pub max_connections: u32,
    /// Further settings of the server, by name.
    pub settings: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self { durable: false, max_connections: 200, settings: Vec::new() }
    }
}

/// A running cluster. It listens only on 127.0.0.1 and needs a password, which the URL has.
#[derive(Debug)]
pub struct LocalPostgres {
    supervisor: Child,
    port: u16,
    password: String,
    password_file: PathBuf,
}

impl LocalPostgres {
    /// Makes a cluster and waits until it takes connections, about a second.
    ///
    /// # Errors
    /// `Unavailable` when Postgres is not installed or does not start; the hint says what to do.
    pub async fn start(options: Options) -> Result<Self> {
        tokio::task::spawn_blocking(move || Self::start_blocking(&options))
            .await
            .map_err(|error| unavailable("start postgres").with_source(error))?
    }

    fn start_blocking(options: &Options) -> Result<Self> {
        // Another process may take the free port before Postgres does; a second try finds another one.
        const ATTEMPTS_MAX: u32 = 3;
        let binaries = find_binaries()?;
        let mut attempt = 1;
        loop {
            let mut folder = Folder::create()?;
            let password = random_hex()?;
            init_cluster(&binaries, &folder, &password)?;
            match Self::serve(&binaries, &mut folder, password, options) {
                Ok(server) => return Ok(server),
                Err(error) if attempt == ATTEMPTS_MAX => return Err(error),
                Err(_) => attempt += 1,
            }
        }
    }

    /// Makes a streaming replica of this cluster, and waits until it answers queries. It has the same
    /// password and needs this cluster: drop it first. `options.durable` must be as here.
    ///
    /// # Errors
    /// `Unavailable` when it cannot be copied or does not start; the hint says why.
    pub async fn replica(&self, options: Options) -> Result<Self> {
        let (port, password) = (self.port, self.password.clone());
        let copied = move || {
            let binaries = find_binaries()?;
            let mut folder = Folder::create()?;
            write_password(&folder, &password)?;
            copy_cluster(&binaries, &folder, port, &password)?;
            Self::serve(&binaries, &mut folder, password, &options)
        };
        tokio::task::spawn_blocking(copied)
            .await
            .map_err(|error| unavailable("start a replica of postgres").with_source(error))?
    }

    fn serve(
        binaries: &Path,
        folder: &mut Folder,
        password: String,
        options: &Options,
    ) -> Result<Self> {
        let port = free_port()?;
        let supervisor = supervise(binaries, folder, port, options)?;
        folder.supervised = true;
        let password_file = folder.password();
        let server = Self { supervisor, port, password, password_file };
        wait_until_ready(folder).map(|()| server)
    }

    /// The URL of a database of this cluster, with user and password.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        let Self { port, password, .. } = self;
        format!("postgres://postgres:{password}@127.0.0.1:{port}/{database}?sslmode=disable")
    }

    /// The URL of a database of this cluster, with the user only, as a config needs it.
    #[must_use]
    pub fn url_without_password(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// The file that holds the password, for as long as the cluster runs.
    #[must_use]
    pub fn password_file(&self) -> &Path {
        &self.password_file
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Creates a database.
    ///
    /// # Errors
    /// `Unavailable` when the server refuses, for example because the database exists.
    pub async fn create_database(&self, name: &str) -> Result<()> {
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.port)
            .username("postgres")
            .password(&self.password)
            .database("postgres")
            .ssl_mode(PgSslMode::Disable);
        let failed = |error| unavailable(format!("create database {name}")).with_source(error);
        let mut connection = PgConnection::connect_with(&options).await.map_err(failed)?;
        let statement = format!("create database \"{}\"", name.replace('"', "\"\""));
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.map_err(failed)?;
        connection.close().await.map_err(failed)
    }
}

impl Drop for LocalPostgres {
    fn drop(&mut self) {
        drop(self.supervisor.stdin.take());
        drop(self.supervisor.wait());
    }
}

fn wait_until_ready(folder: &Folder) -> Result<()> {
    const POLL: Duration = Duration::from_millis(10);
    const POLLS_MAX: u32 = 3_000;
    for _ in 0..POLLS_MAX {
        // The server writes its state into this file; `pg_ctl` waits for the same line. A replica that
        // answers queries calls itself a standby.
        let state = fs::read_to_string(folder.data().join("postmaster.pid"));
        let answers = |state: &str| matches!(state.trim(), "ready" | "standby");
        if state.is_ok_and(|text| text.lines().nth(7).is_some_and(answers)) {
            return Ok(());
        }
        if folder.path.join("ended").exists() {
            return Err(unavailable("postgres ended while starting").with_hint(folder.log()));
        }
        std::thread::sleep(POLL);
    }
    Err(unavailable("postgres was not ready within 30 s").with_hint(folder.log()))
}

/// The cluster's folder and its owner. It is removed on drop until a supervisor takes over.
struct Folder {
    path: PathBuf,
    owner: Option<(u32, u32)>,
    supervised: bool,
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.supervised {
            drop(fs::remove_dir_all(&self.path));
        }
    }
}

impl Folder {
    fn create() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("dynaurora-postgres-{}", random_hex()?));
        let failed =
            |error| unavailable(format!("make the folder {}", path.display())).with_source(error);
        fs::DirBuilder::new().mode(0o700).create(&path).map_err(failed)?;
        let root = fs::metadata(&path).map_err(failed)?.uid() == 0;
        let mut folder = Self { path: path.clone(), owner: None, supervised: false };
        if root {
            let (uid, gid) = unprivileged_user()?;
            chown(&path, Some(uid), Some(gid)).map_err(failed)?;
            folder.owner = Some((uid, gid));
        }
        Ok(folder)
    }

    fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    fn password(&self) -> PathBuf {
        self.path.join("password")
    }

    fn log(&self) -> String {
        let text = fs::read_to_string(self.path.join("log")).unwrap_or_default();
        let last: Vec<_> = text.lines().rev().take(5).collect();
        last.into_iter().rev().collect::<Vec<_>>().join("; ")
    }

    /// A command that runs as the folder's owner, in the folder, without the terminal's signals.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.path).process_group(0).env("LC_ALL", "C");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some((uid, gid)) = self.owner {
            command.uid(uid).gid(gid);
        }
        command
    }
}

fn init_cluster(binaries: &Path, folder: &Folder, password: &str) -> Result<()> {
    let failed = |error| unavailable("run initdb").with_source(error);
    write_password(folder, password)?;
    let output = folder
        .command(&binaries.join("initdb"))
        .args(["--username=postgres", "--encoding=UTF8", "--locale=C", "--auth=password"])
        .args(["--no-sync", "--pwfile"])
        .arg(folder.password())
        .arg("--pgdata")
        .arg(folder.data())
        .stderr(Stdio::piped())
        .output()
        .map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(unavailable("initdb failed").with_hint(said.lines().last().unwrap_or_default()))
}

fn write_password(folder: &Folder, password: &str) -> Result<()> {
    let failed = |error| unavailable("write the password of postgres").with_source(error);
    let secret = folder.password();
    fs::write(&secret, password).map_err(failed)?;
    match folder.owner {
        Some((uid, gid)) => chown(&secret, Some(uid), Some(gid)).map_err(failed),
        None => Ok(()),
    }
}

/// Copies a running cluster as a standby of it.
fn copy_cluster(binaries: &Path, folder: &Folder, port: u16, password: &str) -> Result<()> {
    let output = folder
        .command(&binaries.join("pg_basebackup"))
        .args(["--host=127.0.0.1", "--username=postgres", "--no-password", "--no-sync"])
        .args(["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast"])
        .arg(format!("--port={port}"))
        .arg("--pgdata")
        .arg(folder.data())
        .env("PGPASSWORD", password)
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| unavailable("run pg_basebackup").with_source(error))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(unavailable("pg_basebackup failed").with_hint(said.lines().last().unwrap_or_default()))
}

/// Runs the server, stops it when standard input ends, and cleans up behind it.
const SUPERVISOR: &str = r#"
folder=$1; signal=$2; shift 2
exec 3<&0
"$@" </dev/null >"$folder/log" 2>&1 3<&- &
server=$!
( cat <&3 >/dev/null; [ -e "$folder/ended" ] || kill -s "$signal" "$server" ) &
wait "$server"
touch "$folder/ended"
cat <&3 >/dev/null
rm -rf "$folder"
"#;

fn supervise(binaries: &Path, folder: &Folder, port: u16, options: &Options) -> Result<Child> {
    let mut command = folder.command(Path::new("/bin/sh"));
    command.args(["-c", SUPERVISOR, "dynaurora-postgres"]).arg(&folder.path);
    command.arg(if options.durable { "INT" } else { "QUIT" });
    command.arg(binaries.join("postgres")).arg("-D").arg(folder.data());
    let mut settings = vec![
        ("port".to_owned(), port.to_string()),
        ("listen_addresses".to_owned(), "127.0.0.1".to_owned()),
        ("unix_socket_directories".to_owned(), String::new()),
        ("max_connections".to_owned(), options.max_connections.to_string()),
    ];
    if !options.durable {
        for name in ["fsync", "synchronous_commit", "full_page_writes"] {
            settings.push((name.to_owned(), "off".to_owned()));
        }
    }
    for (name, value) in settings.iter().chain(&options.settings) {
        command.arg("-c").arg(format!("{name}={value}"));
    }
    command
        .stdin(Stdio::piped())
        .spawn()
        .map_err(|error| unavailable("start postgres").with_source(error))
}

/// The folder of `initdb` and `postgres`: the one in PATH, else that of the newest package.
fn find_binaries() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    for packages in ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt"] {
        let mut versions: Vec<_> =
            fs::read_dir(packages).into_iter().flatten().flatten().map(|e| e.path()).collect();
        versions.sort_by_key(|folder| std::cmp::Reverse(version_of(folder)));
        folders.extend(versions.into_iter().map(|folder| folder.join("bin")));
    }
    folders
        .iter()
        .find(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file())
        // A link in PATH is followed: `initdb` looks for its share folder beside itself.
        .map(|folder| {
            let program = folder.join("initdb").canonicalize().unwrap_or_default();
            program.parent().map_or_else(|| folder.clone(), Path::to_path_buf)
        })
        .ok_or_else(|| {
            unavailable("postgres is not installed here")
                .with_hint("install it (`apt install postgresql`, `brew install postgresql`)")
        })
}

/// The number at the end of `…/15` or `…/postgresql@17`.
fn version_of(folder: &Path) -> u32 {
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    name.rsplit('@').next().and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// The user and group that run the server when we are root.
fn unprivileged_user() -> Result<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd")
        .map_err(|error| unavailable("read /etc/passwd").with_source(error))?;
    let ids = |wanted: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(wanted))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    ids("postgres").or_else(|| ids("nobody")).ok_or_else(|| {
        unavailable("postgres does not run as root, and there is no user postgres or nobody")
            .with_hint("run dynaurora as a user other than root")
    })
}

fn free_port() -> Result<u16> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| unavailable("find a free port").with_source(error))
}

fn random_hex() -> Result<String> {
    let mut bytes = [0; 16];
    fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|error| unavailable("read random bytes").with_source(error))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn unavailable(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unavailable, what)
}
