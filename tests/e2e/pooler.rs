//! PgBouncer in transaction mode between two daemons and Postgres: whatever one statement leaves behind on a
//! server connection, another daemon would meet.

use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use tokio::process::{Child, Command};

use super::daemon::Ended;
use super::stage::{SOON_SECS, Stage, pause, within};
use super::tls::belongs_to_the_server;
use super::writers::Writers;
use crate::postgres::cluster::cluster;

/// Fewer connections to Postgres than two daemons would open to it: two for applying each, three for ledgers.
const SERVER_CONNECTIONS: u32 = 3;

/// A running pooler; it ends with the test.
struct Pooler {
    port: u16,
    _process: Child,
}

impl Pooler {
    /// `None` where it is not installed.
    async fn start() -> Option<Self> {
        let places = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"];
        let program = places.iter().find(|place| Path::new(place).exists())?;
        let cluster = cluster().await;
        let folder = cluster.password_file().parent().unwrap();
        let password = std::fs::read_to_string(cluster.password_file()).unwrap();
        let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let mut config = String::new();
        writeln!(config, "[databases]\n* = host=127.0.0.1 port={}", cluster.port()).unwrap();
        writeln!(config, "[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}").unwrap();
        writeln!(config, "unix_socket_dir =\nauth_type = plain\nauth_file = users.txt").unwrap();
        writeln!(config, "pool_mode = transaction\ndefault_pool_size = {SERVER_CONNECTIONS}")
            .unwrap();
        std::fs::write(folder.join("pgbouncer.ini"), config).unwrap();
        let users = format!("\"postgres\" \"{password}\"\n");
        std::fs::write(folder.join("users.txt"), users).unwrap();
        belongs_to_the_server(folder, &["pgbouncer.ini", "users.txt"]);
        let owner = std::fs::metadata(folder).unwrap();
        let mut command = Command::new(program);
        command.args(["-q", "pgbouncer.ini"]).current_dir(folder).kill_on_drop(true);
        let root = std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
        if root {
            command.uid(owner.uid()).gid(owner.gid());
        }
        let mut process = command.spawn().unwrap();
        within(SOON_SECS, "the pooler listens", async || {
            assert!(process.try_wait().unwrap().is_none(), "the pooler has ended");
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()
        })
        .await;
        Some(Self { port, _process: process })
    }
}

/// What an operator asks beside busy daemons.
async fn commands_work(stage: &Stage, settings: &[&str]) {
    let questions: [&[&str]; 4] = [
        &["plan", "--exit-code"],
        &["gaps", "list", "--output", "json"],
        &["dead-letters", "list", "--output", "json"],
        &["verify", "--settle-secs", "5", "--output", "json"],
    ];
    for words in questions {
        command_ends(stage, words, settings).await;
    }
}

async fn command_ends(stage: &Stage, words: &[&str], settings: &[&str]) -> Ended {
    let ended = stage.command(&[words, settings].concat()).await;
    assert_eq!(ended.code, Some(0), "{words:?}: {} {}", ended.stdout, ended.stderr);
    ended
}

#[tokio::test]
async fn through_a_pooler_two_daemons_work_die_and_converge() {
    let Some(pooler) = Pooler::start().await else {
        eprintln!("skipped: pgbouncer is not installed here (scripts/install-test-tools.sh)");
        return;
    };
    let stage = Stage::start().await;
    let url =
        stage.url.replace(&format!(":{}/", cluster().await.port()), &format!(":{}/", pooler.port));
    let url = format!("target.url={url}");
    // One connection for applying is the least that can be said.
    let more = [
        "--backfill",
        "never",
        "--set",
        &url,
        "--set",
        "target.pool=1",
        "--set",
        "target.prepared_statements=false",
    ];
    let mut writers = Writers::start(&stage, 2, 21, f64::INFINITY);
    writers.bring_many(&stage, 21);
    let mut one = stage.daemon_with(&more);
    let mut other = stage.daemon_with(&more);
    let rows = "select count(*) from children";
    for _ in 0..3 {
        let before = stage.number(rows).await;
        within(SOON_SECS, "rows arrive", async || {
            one.still_runs();
            other.still_runs();
            (stage.number(rows).await > before + 50).then_some(())
        })
        .await;
        commands_work(&stage, &more[2..]).await;
        one.kill().await;
        one = std::mem::replace(&mut other, stage.daemon_with(&more));
        pause(Duration::from_millis(300)).await;
    }
    one.readyz(200).await;
    other.readyz(200).await;
    writers.stop().await;
    let found = stage.converge().await;
    assert!(found.rows > 100, "{found:?}");
    stage.run("update children set name = 'x' where ctid = (select min(ctid) from children)").await;
    let repair = ["verify", "--repair", "--settle-secs", "1", "--output", "json"];
    let report = command_ends(&stage, &repair, &more[2..]).await.json();
    assert_eq!(report["sources"][0]["repaired"], 1, "{report}");
    assert!(stage.converge().await.rows > 100);
    for daemon in [one, other] {
        assert_eq!(daemon.logged("source halted").len(), 0);
        let retries = daemon.logged("attempt failed, retrying");
        let stale = retries.iter().filter(|event| event["code"] == "26000");
        assert_eq!(stale.count(), 0, "no statement is looked for where it is not");
        daemon.stop().await;
    }
    assert_eq!(stage.number("select count(*) from dynaurora.dead_letters").await, 0);

    let mut unaware = stage.daemon_with(&["--backfill", "never", "--set", &url]);
    within(SOON_SECS, "a daemon that keeps statements is told what to set", async || {
        unaware.log().contains("set prepared_statements = false in [target]").then_some(())
    })
    .await;
    assert!(unaware.has_ended().is_none_or(|code| code != Some(0)));
}
