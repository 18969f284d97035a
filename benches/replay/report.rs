//! What the runs came to: a table for people, one line of JSON for programs.

use serde_json::json;

use crate::Run;
use crate::stage::Load;

/// The least share of the raw rate that the daemon should reach.
const RATIO_MIN: f64 = 0.7;
/// The most CPU that a record may cost, in microseconds.
const CPU_MAX_US: f64 = 12.0;
/// The most memory, in MB.
const MEMORY_MAX_MB: f64 = 120.0;
/// The most of a core that idle shards may cost the daemon, however many they are; and Postgres.
const IDLE_MAX: f64 = 0.01;

/// Everything that was measured; a pair of runs a round.
pub(crate) struct Report {
    pub(crate) backfill: Load,
    pub(crate) rounds: Vec<(Run, Run)>,
    pub(crate) idle: Option<Idle>,
}

/// What a daemon costs whose shards hold no record, in shares of a core.
pub(crate) struct Idle {
    pub(crate) shards: usize,
    pub(crate) daemon: f64,
    pub(crate) postgres: f64,
}

impl Idle {
    fn print(&self) {
        println!("{} idle shards", self.shards);
        for (what, share) in [("daemon, %", self.daemon), ("Postgres, %", self.postgres)] {
            judge(what, share * 100.0, IDLE_MAX * 100.0, share < IDLE_MAX, "below");
        }
    }
}

impl Report {
    pub(crate) fn print(&self) {
        if !self.rounds.is_empty() {
            self.print_rounds();
        }
        if let Some(idle) = &self.idle {
            idle.print();
        }
    }

    fn print_rounds(&self) {
        let daemon = |value: fn(&Run) -> f64| median(self.rounds.iter().map(|(run, _)| value(run)));
        let raw = |value: fn(&Run) -> f64| median(self.rounds.iter().map(|(_, run)| value(run)));
        let ratio = median(self.rounds.iter().map(|(run, raw)| run.rate() / raw.rate()));
        let records = self.backfill.records();
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        println!();
        println!(
            "{records} records of 500 bytes, {} shards, {} rounds (medians), {cores} cores",
            self.backfill.shards,
            self.rounds.len()
        );
        println!("                    rows/s   rows/batch   CPU us/row   Postgres us/row");
        for (name, side) in [("daemon", 0), ("raw upsert", 1)] {
            let of = |value: fn(&Run) -> f64| if side == 0 { daemon(value) } else { raw(value) };
            println!(
                "{name:<16} {:>9.0} {:>12.0} {:>12.2} {:>17.2}",
                of(Run::rate),
                of(Run::batch),
                of(|run| run.per_row_us(run.cpu)),
                of(|run| run.per_row_us(run.postgres_cpu)),
            );
        }
        let cpu = daemon(|run| run.per_row_us(run.cpu));
        let memory = self.rounds.iter().map(|(run, _)| run.peak_memory_mb).fold(0.0, f64::max);
        let first_row_ms = daemon(|run| run.first_row.as_secs_f64() * 1e3);
        let server_us = daemon(|run| run.per_row_us(run.server_cpu));
        println!(
            "first row after {first_row_ms:.0} ms; the server of pages {server_us:.2} us a record"
        );
        println!();
        judge("daemon / raw", ratio, RATIO_MIN, ratio >= RATIO_MIN, "at least");
        judge("CPU us/record", cpu, CPU_MAX_US, cpu <= CPU_MAX_US, "at most");
        judge("peak memory MB", memory, MEMORY_MAX_MB, memory < MEMORY_MAX_MB, "below");
        println!();
        let line = json!({
            "records": records,
            "shards": self.backfill.shards,
            "rounds": self.rounds.len(),
            "cores": cores,
            "daemon_rows_per_sec": daemon(Run::rate),
            "raw_rows_per_sec": raw(Run::rate),
            "ratio": ratio,
            "daemon_rows_per_batch": daemon(Run::batch),
            "raw_rows_per_batch": raw(Run::batch),
            "daemon_cpu_us_per_record": cpu,
            "raw_cpu_us_per_row": raw(|run| run.per_row_us(run.cpu)),
            "daemon_postgres_cpu_us_per_row": daemon(|run| run.per_row_us(run.postgres_cpu)),
            "raw_postgres_cpu_us_per_row": raw(|run| run.per_row_us(run.postgres_cpu)),
            "server_cpu_us_per_record": server_us,
            "first_row_ms": first_row_ms,
            "peak_memory_mb": memory,
            "idle_share_of_a_core": self.idle.as_ref().map(|idle| idle.daemon),
            "idle_postgres_share_of_a_core": self.idle.as_ref().map(|idle| idle.postgres),
        });
        println!("{line}");
    }
}

fn judge(what: &str, value: f64, aim: f64, met: bool, word: &str) {
    let verdict = if met { "met" } else { "missed" };
    println!("{what:<16} {value:>9.2}   aim: {word} {aim}, {verdict}");
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.as_slice() {
        [] => f64::NAN,
        values if values.len() % 2 == 1 => values[middle],
        values => f64::midpoint(values[middle - 1], values[middle]),
    }
}
