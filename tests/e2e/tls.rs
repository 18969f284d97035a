//! The way to Postgres is secured: the right certificate is taken, every other one refused with what
//! mends it.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dynaurora::demo::postgres::{LocalPostgres, Options};
use tokio::process::Command;

use super::refusals::waits;
use super::stage::{Setting, Stage};
use super::writers::Writers;

/// An authority of the test's own, a server that shows its certificate for `localhost`, and an authority
/// that nobody knows.
struct Secured {
    server: Arc<LocalPostgres>,
    ca: PathBuf,
    other_ca: PathBuf,
}

impl Secured {
    /// `None` where openssl is not installed.
    async fn start() -> Option<Self> {
        let server = LocalPostgres::start(Options::default()).await.unwrap();
        let folder = server.password_file().parent().unwrap().to_owned();
        let script =
            "set -e; cd \"$0\"; new='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'
            for ca in ca other; do
                openssl req -x509 $new -keyout $ca.key -out $ca.pem -days 2 -subj /CN=$ca
            done
            openssl req $new -keyout server.key -out server.csr -subj /CN=localhost
            echo subjectAltName=DNS:localhost > names
            openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
                -extfile names -out server.pem";
        let made = Command::new("sh").args(["-c", script]).arg(&folder).output().await.unwrap();
        if !made.status.success() {
            let said = String::from_utf8_lossy(&made.stderr).into_owned();
            assert!(said.contains("openssl: not found"), "{said}");
            return None;
        }
        belongs_to_the_server(&folder, &["server.key", "server.pem"]);
        let pool = sqlx::PgPool::connect(&server.url("postgres")).await.unwrap();
        let file = |name: &str| folder.join(name).display().to_string();
        for (name, value) in [
            ("ssl_key_file", file("server.key")),
            ("ssl_cert_file", file("server.pem")),
            ("ssl", "on".to_owned()),
        ] {
            let sql = format!("alter system set {name} = '{value}'");
            sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&pool).await.unwrap();
        }
        sqlx::query("select pg_reload_conf()").execute(&pool).await.unwrap();
        let server = Arc::new(server);
        Some(Self { server, ca: folder.join("ca.pem"), other_ca: folder.join("other.pem") })
    }
}

/// Gives files to the user who owns the folder, and to nobody else.
pub(super) fn belongs_to_the_server(folder: &Path, names: &[&str]) {
    let owner = std::fs::metadata(folder).unwrap();
    for file in names.iter().map(|name| folder.join(name)) {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        chown(&file, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
}

#[tokio::test]
async fn only_the_right_certificate_is_taken() {
    let Some(Secured { server, ca, other_ca }) = Secured::start().await else {
        eprintln!("skipped: openssl is not installed here (scripts/install-test-tools.sh)");
        return;
    };
    let setting = Setting { server: Some(server), ..Setting::default() };
    let stage = Stage::with(setting).await;
    let named = format!("target.url={}", stage.url.replace("127.0.0.1", "localhost"));
    let ca = format!("target.ca_file={}", ca.display());
    let other = format!("target.ca_file={}", other_ca.display());
    let full = "target.tls=verify-full";

    let told = ["ca_file in [target]", "this very host name"];
    waits(&stage, &["--set", &named, "--set", full, "--set", &other], &told).await;
    waits(&stage, &["--set", &named, "--set", full], &told).await;
    waits(&stage, &["--set", full, "--set", &ca], &told).await;
    let not_pem = format!("target.ca_file={}", stage.config_file().display());
    let no_pem = ["--set", &named, "--set", full, "--set", &not_pem];
    waits(&stage, &no_pem, &["[target]"]).await;

    let writers = Writers::start(&stage, 1, 9, 40.0);
    for (url, tls) in [(&named, full), (&stage_url(&stage), "target.tls=verify-ca")] {
        let more = ["--backfill", "never", "--set", url, "--set", tls, "--set", &ca];
        let mut daemon = stage.daemon_with(&more);
        daemon.readyz(200).await;
        let plain = "select count(*) from pg_stat_ssl join pg_stat_activity using (pid) \
                     where application_name = 'dynaurora' and not ssl";
        assert_eq!(stage.number(plain).await, 0, "every session is encrypted");
        daemon.stop().await;
    }
    let mut daemon =
        stage.daemon_with(&["--backfill", "never", "--set", &named, "--set", full, "--set", &ca]);
    daemon.readyz(200).await;
    writers.stop().await;
    assert!(stage.converge().await.rows > 0);
    daemon.stop().await;
}

#[tokio::test]
async fn a_server_without_tls_is_refused_with_the_setting() {
    let stage = Stage::start().await;
    let told = ["does not support TLS", "in [target]"];
    waits(&stage, &["--set", "target.tls=verify-full"], &told).await;
}

fn stage_url(stage: &Stage) -> String {
    format!("target.url={}", stage.url)
}
