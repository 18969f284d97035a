//! Postgres goes away while writes go on: the daemon stays, says so, and catches up.

use dynaurora::error::Result;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};

use super::daemon::Daemon;
use super::proxy::Proxy;
use super::stage::{SOON_SECS, Setting, Stage, within};
use super::writers::Writers;
use crate::postgres::cluster::cluster;

struct Scene {
    stage: Stage,
    daemon: Daemon,
    writers: Writers,
}

impl Scene {
    /// A daemon keeps up with two elves.
    async fn start(setting: Setting) -> Self {
        let stage = Stage::with(setting).await;
        let daemon = stage.daemon();
        Self::with(stage, daemon).await
    }

    async fn with(stage: Stage, mut daemon: Daemon) -> Self {
        let writers = Writers::start(&stage, 2, 1, 40.0);
        daemon.readyz(200).await;
        let scene = Self { stage, daemon, writers };
        scene.rows_arrive().await;
        scene
    }

    async fn rows_arrive(&self) {
        let sql = "select count(*) from children";
        let before = self.stage.number(sql).await;
        within(SOON_SECS, "rows arrive", async || {
            (self.stage.number(sql).await > before).then_some(())
        })
        .await;
    }

    /// The daemon is alive, not ready, and tries again at these stages of its work.
    async fn notices(&mut self, stages: &[&str]) {
        self.daemon.readyz(503).await;
        assert_eq!(self.daemon.get("/livez").await.unwrap().0, 200);
        within(SOON_SECS, &format!("the daemon tries again: {stages:?}"), async || {
            self.daemon.still_runs();
            let retries = self.daemon.logged("attempt failed, retrying");
            let tried = |stage| retries.iter().any(|event| event["stage"] == stage);
            stages.iter().all(|stage| tried(*stage)).then_some(())
        })
        .await;
    }

    /// The daemon works again, and nothing was lost or done twice.
    async fn recovers(mut self) {
        self.daemon.readyz(200).await;
        self.rows_arrive().await;
        self.writers.stop().await;
        self.stage.converge().await;
        assert_eq!(self.stage.number("select count(*) from dynaurora.dead_letters").await, 0);
        assert_eq!(self.daemon.logged("source halted").len(), 0);
        self.daemon.readyz(200).await;
        self.daemon.stop().await;
    }
}

async fn as_operator(statements: &[String]) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect(&cluster().await.url("postgres")).await?;
    for statement in statements {
        sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(&mut connection).await?;
    }
    connection.close().await
}

#[tokio::test]
async fn a_database_that_takes_no_connections_is_waited_for() {
    let mut scene = Scene::start(Setting::default()).await;
    let database = scene.stage.database.clone();
    let allow = |allowed| format!("alter database {database} allow_connections {allowed}");
    let end = format!(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{database}'"
    );
    as_operator(&[allow(false), end]).await.unwrap();
    scene.notices(&["ledger", "discover"]).await;
    as_operator(&[allow(true)]).await.unwrap();
    scene.recovers().await;
}

#[tokio::test]
async fn a_server_that_is_gone_is_waited_for() {
    let mut proxy = Proxy::start(cluster().await.port());
    let setting = Setting { postgres: Some(proxy.address), ..Setting::default() };
    let mut scene = Scene::start(setting).await;
    proxy.cut().await;
    scene.notices(&[]).await;
    proxy.mend();
    scene.recovers().await;
}

#[tokio::test]
async fn what_a_silent_network_delivers_late_does_no_harm() {
    let proxy = Proxy::start(cluster().await.port());
    let setting = Setting { postgres: Some(proxy.address), ..Setting::default() };
    let mut scene = Scene::start(setting).await;
    proxy.freeze();
    scene.notices(&["ledger"]).await;
    proxy.thaw();
    scene.recovers().await;
}

/// A disk that is full while a row says so, as the server tells it.
const DISK: &str = "\
    create table disk_full (since timestamptz); \
    create function extend() returns trigger language plpgsql as $$ begin \
        if exists (select from disk_full) then \
            raise exception 'could not extend file \"base/5/16384\": No space left on device' \
                using errcode = 'disk_full'; \
        end if; \
        return null; end $$; \
    create trigger extend before insert or update on children \
        for each statement execute function extend(); \
    grant select on disk_full to public";

#[tokio::test]
async fn a_full_disk_is_waited_for() {
    let mut scene = Scene::start(Setting::default()).await;
    scene.stage.run(DISK).await;
    scene.stage.run("insert into disk_full values (now())").await;
    scene.notices(&["apply"]).await;
    let retry = scene.daemon.says("attempt failed, retrying").await;
    assert_eq!((&retry["kind"], &retry["code"]), (&"capacity".into(), &"53100".into()));
    scene.stage.run("delete from disk_full").await;
    scene.recovers().await;
}

#[tokio::test]
async fn too_many_connections_are_waited_for() {
    let stage = Stage::start().await;
    let (role, url) = stage.role().await;
    let daemon = stage.daemon_with(&["--backfill", "never", "--set", &url]);
    let mut scene = Scene::with(stage, daemon).await;
    let limit = |most| format!("alter role {role} connection limit {most}");
    let end =
        format!("select pg_terminate_backend(pid) from pg_stat_activity where usename = '{role}'");
    scene.stage.run(&format!("{}; {end}", limit(0))).await;
    scene.notices(&["ledger"]).await;
    within(SOON_SECS, "the server's reason is told", async || {
        let (_, body) = scene.daemon.get("/readyz").await?;
        body.contains("too many connections").then_some(())
    })
    .await;
    scene.stage.run(&limit(-1)).await;
    scene.recovers().await;
}

/// Three rotations: the new password is in the database before it is in the file.
#[tokio::test]
async fn a_password_that_is_rotated_is_read_again() {
    let stage = Stage::start().await;
    let (role, url) = stage.role().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "p0").unwrap();
    stage.run(&format!("alter role {role} password 'p0'")).await;
    let place = format!("target.password.file={}", file.display());
    let words = ["--backfill", "never", "--set", &url, "--set", &place];
    let daemon = stage.daemon_with(&words);
    let mut scene = Scene::with(stage, daemon).await;
    let end =
        format!("select pg_terminate_backend(pid) from pg_stat_activity where usename = '{role}'");
    for rotation in 1..=3 {
        let password = format!("p{rotation}");
        scene.stage.run(&format!("alter role {role} password '{password}'; {end}")).await;
        within(SOON_SECS, "the refusal is told", async || {
            scene.daemon.still_runs();
            let (code, body) = scene.daemon.get("/readyz").await?;
            (code == 503 && body.contains("password")).then_some(())
        })
        .await;
        std::fs::write(&file, password).unwrap();
        scene.daemon.readyz(200).await;
        scene.rows_arrive().await;
    }
    scene.recovers().await;
}

/// A machine boots before its database.
#[tokio::test]
async fn a_server_that_is_away_at_the_start_is_waited_for() {
    let mut proxy = Proxy::start(cluster().await.port());
    let stage = Stage::with(Setting { postgres: Some(proxy.address), ..Setting::default() }).await;
    proxy.cut().await;
    let mut daemon = stage.daemon();
    within(SOON_SECS, "the daemon waits", async || {
        daemon.still_runs();
        let (code, body) = daemon.get("/readyz").await?;
        (code == 503 && body.contains("connect to the target")).then_some(())
    })
    .await;
    proxy.mend();
    Scene::with(stage, daemon).await.recovers().await;
}
