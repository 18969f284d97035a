//! A fleet of daemons with one config, each behind a network of its own, and what may befall them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dynaurora::demo::postgres::{LocalPostgres, Options};
use dynaurora::engine::ports::Clock;
use dynaurora::runtime::SystemClock;
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use tokio::process::Command;
use tokio::time::Instant;

use super::daemon::Daemon;
use super::proxy::Proxy;
use super::stage::{SOON_SECS, Stage, within};

/// How many daemons there are.
const SEATS: usize = 3;

/// Exit codes after which a service manager starts a daemon again: stopped as asked, the target or the
/// source out of reach at the start, try again.
const STARTED_AGAIN: [Option<i32>; 3] = [Some(0), Some(69), Some(75)];

/// What may befall a daemon, its network, or the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// SIGKILL; started again a moment later.
    Kill,
    /// SIGSTOP, and SIGCONT once others may have taken its leases.
    Stop,
    /// SIGTERM, as in a rolling deployment.
    Drain,
    /// Its connections break, and new ones are refused.
    Cut,
    /// What it sends and what it is sent waits on the way.
    Stall,
    /// What it sends arrives, and no answer does; in half of the cases none ever will.
    HoldAnswers,
    /// Every connection ends, and all daemons come to a server that only reads.
    Failover,
    /// The server ends every daemon's session.
    Terminate,
    /// A process of the server is killed: it ends all sessions and recovers.
    Crash,
}

/// Each as often as it stands here.
const FAULTS: [Fault; 20] = [
    Fault::Kill,
    Fault::Kill,
    Fault::Kill,
    Fault::Stop,
    Fault::Stop,
    Fault::Stop,
    Fault::Drain,
    Fault::Cut,
    Fault::Cut,
    Fault::Cut,
    Fault::Stall,
    Fault::Stall,
    Fault::Stall,
    Fault::HoldAnswers,
    Fault::HoldAnswers,
    Fault::HoldAnswers,
    Fault::Failover,
    Fault::Failover,
    Fault::Terminate,
    Fault::Crash,
];

impl Fault {
    fn label(self) -> &'static str {
        match self {
            Self::Kill => "SIGKILL",
            Self::Stop => "SIGSTOP",
            Self::Drain => "SIGTERM",
            Self::Cut => "network cut",
            Self::Stall => "network stalled",
            Self::HoldAnswers => "answers held",
            Self::Failover => "failover to a reader",
            Self::Terminate => "sessions terminated",
            Self::Crash => "server crashed",
        }
    }

    /// How long it lasts at most. Leases of the stage are 3 s: about half of what is longer than a moment
    /// outlasts them.
    fn millis_max(self) -> u64 {
        match self {
            Self::Kill => 1_500,
            Self::Cut | Self::Failover => 3_000,
            Self::Stop | Self::Stall | Self::HoldAnswers => 6_000,
            Self::Drain | Self::Terminate | Self::Crash => 0,
        }
    }
}

/// The end of a fault.
struct Due {
    at: Instant,
    seat: usize,
    fault: Fault,
}

/// A daemon's place: whoever dies there is followed by another one.
struct Seat {
    proxy: Proxy,
    daemon: Option<Daemon>,
    stopped: bool,
    leaving: bool,
    disturbed: bool,
}

/// The daemons, the servers behind them, and how often what befell them.
pub(super) struct Fleet {
    server: Arc<LocalPostgres>,
    url: String,
    reader: LocalPostgres,
    seats: Vec<Seat>,
    due: Vec<Due>,
    random: fastrand::Rng,
    counts: BTreeMap<&'static str, u32>,
}

impl Fleet {
    /// A server that survives crashes, which the fleet's stage must have.
    pub(super) async fn server() -> Arc<LocalPostgres> {
        let options = Options { durable: true, ..Options::default() };
        Arc::new(LocalPostgres::start(options).await.unwrap())
    }

    /// Starts the daemons.
    pub(super) async fn start(stage: &Stage, server: Arc<LocalPostgres>, seed: u64) -> Self {
        let options = Options { durable: true, ..Options::default() };
        let reader = server.replica(options).await.unwrap();
        let mut seats = Vec::new();
        for _ in 0..SEATS {
            let proxy = Proxy::start(server.port());
            let daemon = Some(daemon(stage, &proxy));
            seats.push(Seat { proxy, daemon, stopped: false, leaving: false, disturbed: false });
        }
        let random = fastrand::Rng::with_seed(seed);
        let url = server.url("postgres");
        Self { server, url, reader, seats, due: Vec::new(), random, counts: BTreeMap::new() }
    }

    /// Something happens, unless it happens already.
    pub(super) async fn strike(&mut self, stage: &Stage) {
        let fault = FAULTS[self.random.usize(..FAULTS.len())];
        let number = self.random.usize(..SEATS);
        let lasts = Duration::from_millis(self.random.u64(0..=fault.millis_max()));
        let at = SystemClock.now() + lasts;
        let seat = &mut self.seats[number];
        match fault {
            // A second signal would stop it at once, which is a test of its own.
            Fault::Drain if seat.leaving => return,
            Fault::Kill | Fault::Stop | Fault::Drain => {
                let Some(daemon) = seat.daemon.take_if(|_| !seat.stopped) else { return };
                match fault {
                    Fault::Kill => daemon.kill_while(seat.leaving).await,
                    _ => {
                        let stop = fault == Fault::Stop;
                        daemon.signal(if stop { "STOP" } else { "TERM" }).await;
                        seat.stopped = stop;
                        seat.leaving |= !stop;
                        seat.daemon = Some(daemon);
                    }
                }
                if fault != Fault::Drain {
                    self.due.push(Due { at, seat: number, fault });
                }
            }
            Fault::Cut | Fault::Stall | Fault::HoldAnswers => {
                if std::mem::replace(&mut seat.disturbed, true) {
                    return;
                }
                match fault {
                    Fault::Cut => seat.proxy.cut().await,
                    Fault::Stall => seat.proxy.freeze(),
                    _ => seat.proxy.hold_answers(),
                }
                self.due.push(Due { at, seat: number, fault });
            }
            Fault::Failover => {
                let port = self.reader.port();
                let seats = self.seats.iter_mut().enumerate();
                for (number, seat) in seats.filter(|(_, seat)| !seat.disturbed) {
                    seat.proxy.lead_to(port).await;
                    seat.disturbed = true;
                    self.due.push(Due { at, seat: number, fault });
                }
            }
            Fault::Terminate => {
                let end = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
                           where application_name = 'dynaurora'";
                stage.number(end).await;
            }
            Fault::Crash => {
                let one = "select coalesce(min(pid), 0)::bigint from pg_stat_activity \
                           where application_name = 'dynaurora'";
                let pid = stage.number(one).await;
                if pid == 0 {
                    return;
                }
                let words = ["-c", "kill -s KILL \"$0\"", &pid.to_string()];
                let mut session = PgConnection::connect(&self.url).await.unwrap();
                // It may have gone by itself meanwhile; then this was no fault.
                if !Command::new("sh").args(words).status().await.unwrap().success() {
                    return;
                }
                // The test itself asks again once all sessions have ended and the server is back.
                within(SOON_SECS, "the server recovers", async || {
                    let over = session.ping().await.is_err();
                    (over && PgConnection::connect(&self.url).await.is_ok()).then_some(())
                })
                .await;
            }
        }
        *self.counts.entry(fault.label()).or_insert(0) += 1;
    }

    /// Ends what is due, and starts whoever is gone.
    pub(super) async fn tend(&mut self, stage: &Stage) {
        let now = SystemClock.now();
        let (due, later) = std::mem::take(&mut self.due).into_iter().partition(|due| due.at <= now);
        self.due = later;
        for Due { seat, fault, .. } in due {
            self.end(seat, fault, stage).await;
        }
        for seat in &mut self.seats {
            let ended = seat.daemon.as_mut().and_then(Daemon::has_ended);
            if let Some(code) = ended {
                // One that was asked to stop before it listened for signals dies of the signal.
                let asked = code.is_none() && seat.leaving;
                assert!(asked || STARTED_AGAIN.contains(&code), "a daemon ended with {code:?}");
                let why = if seat.leaving { "stopped as asked" } else { "gave up at the start" };
                *self.counts.entry(why).or_insert(0) += 1;
                seat.daemon = Some(daemon(stage, &seat.proxy));
                seat.leaving = false;
            }
        }
    }

    async fn end(&mut self, number: usize, fault: Fault, stage: &Stage) {
        let server = self.server.port();
        let seat = &mut self.seats[number];
        match fault {
            Fault::Kill => {
                seat.daemon = Some(daemon(stage, &seat.proxy));
                seat.leaving = false;
            }
            Fault::Stop => {
                if let Some(daemon) = &seat.daemon {
                    daemon.signal("CONT").await;
                }
                seat.stopped = false;
            }
            Fault::Cut => seat.proxy.mend(),
            Fault::HoldAnswers if self.random.bool() => {
                seat.proxy.cut().await;
                seat.proxy.thaw();
                seat.proxy.mend();
            }
            Fault::Stall | Fault::HoldAnswers => seat.proxy.thaw(),
            Fault::Failover => seat.proxy.lead_to(server).await,
            Fault::Drain | Fault::Terminate | Fault::Crash => {}
        }
        if !matches!(fault, Fault::Kill | Fault::Stop) {
            seat.disturbed = false;
        }
    }

    /// No fault is one that a person must mend.
    pub(super) fn nothing_needs_a_person(&self) {
        for daemon in self.seats.iter().filter_map(|seat| seat.daemon.as_ref()) {
            let log = daemon.log();
            let needs = |line: &&str| {
                line.contains("\"level\":\"ERROR\"") && line.contains("\"target\":\"dynaurora")
            };
            assert_eq!(log.lines().find(needs), None);
            assert!(!log.contains("panicked at"), "{log}");
        }
    }

    /// All faults end.
    pub(super) async fn rest(&mut self, stage: &Stage) {
        for Due { seat, fault, .. } in std::mem::take(&mut self.due) {
            self.end(seat, fault, stage).await;
        }
    }

    /// Waits until every shard that can be read has a living owner, and every daemon a share (I11).
    pub(super) async fn settles(&mut self, stage: &Stage) {
        let sql = "select count(*) from dynaurora.partitions p \
                   where kind = 'shard' and state = 'open' \
                     and not exists (select from dynaurora.workers w \
                       where w.worker = p.owner and w.alive_until > now()) \
                     and not exists (select from dynaurora.partitions parent \
                       where parent.partition = p.parent and parent.state = 'open')";
        within(SOON_SECS, "every shard has an owner that lives", async || {
            self.tend(stage).await;
            if stage.number(sql).await > 0 {
                return None;
            }
            let ledger = stage.ledger().await;
            let open: Vec<_> = ledger.iter().filter(|row| row.state == "open").collect();
            let mut daemons = self.seats.iter().filter_map(|seat| seat.daemon.as_ref());
            let shares = |daemon: &Daemon| open.iter().any(|row| daemon.owns(row.owner.as_deref()));
            daemons.all(shares).then_some(())
        })
        .await;
    }

    /// Asks every daemon to stop.
    pub(super) async fn stop(self) -> BTreeMap<&'static str, u32> {
        for seat in self.seats {
            seat.daemon.unwrap().stop().await;
        }
        self.counts
    }
}

fn daemon(stage: &Stage, proxy: &Proxy) -> Daemon {
    let port = proxy.address.port();
    let url = format!("target.url=postgres://postgres@127.0.0.1:{port}/{}", stage.database);
    stage.daemon_with(&["--backfill", "never", "--set", &url])
}
