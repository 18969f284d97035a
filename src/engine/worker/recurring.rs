//! The one way in which a recurring job starts, and in which its answer is taken.

use std::time::Duration;

use tokio::time::Instant;

use super::state::{News, Worker};
use crate::engine::jobs::Job;
use crate::engine::ports::{Clock, Seams};
use crate::engine::retry::{Directive, Stage, directive, pause, remedy};
use crate::error::{Error, Result};
use crate::telemetry::events;

impl<P: Seams> Worker<P> {
    /// Starts a job that is due.
    pub(super) fn start_job(&mut self, job: Job, now: Instant) {
        self.jobs.start(job, now);
        match job {
            Job::Status => {
                self.tell_status(now);
                self.jobs.succeeded(job, now, &self.rhythm());
            }
            Job::Discovery => self.start_discovery(),
            Job::Upkeep => self.start_upkeep(now),
            Job::Publication => self.start_publication(),
            Job::BackfillStep => self.start_backfill_step(),
        }
    }

    /// Takes a job's answer: it is due again in its rhythm, or after a pause where it failed.
    pub(super) fn take_job(&mut self, job: Job, result: Result<News>) -> Result<()> {
        let now = self.ports.clock().now();
        let news = match result {
            Ok(news) => news,
            Err(error) => return self.take_failed(job, error, now),
        };
        self.jobs.succeeded(job, now, &self.rhythm());
        let row = job.row();
        if let Some(stage) = row.stage.filter(|_| row.proves) {
            self.told.well(stage);
        }
        match news {
            News::Discovered(found) => self.take_discovered(found, now),
            News::Upkept { era, upkept } => self.take_upkept(era, *upkept, now),
            News::Published(ended) => self.take_published(ended, now),
            News::BackfillBegun(begun) => self.take_backfill_begun(begun, now),
            News::BackfillFinished(finished) => self.take_backfill_finished(finished, now),
        }
        Ok(())
    }

    fn take_failed(&mut self, job: Job, error: Error, now: Instant) -> Result<()> {
        let Some(stage) = job.row().stage else { return Err(error) };
        let enrols = directive(stage, error.kind()) == Directive::Enrol;
        let failures = self.jobs.failed(job);
        let delay = self.retry(stage, error, failures)?;
        self.jobs.delay(job, now, delay, &self.rhythm());
        if enrols {
            self.begin_again(now + delay);
        }
        Ok(())
    }

    /// The pause before a retry, reported as an event; the error itself if no retry is allowed.
    pub(super) fn retry(&mut self, stage: Stage, error: Error, failures: u32) -> Result<Duration> {
        match directive(stage, error.kind()) {
            Directive::Retry
            | Directive::Reload
            | Directive::Rederive
            | Directive::Enrol
            | Directive::Gap(_) => {
                let delay = pause(failures, &mut self.random);
                let (source, label) = (&*self.run.name, stage.label());
                events::Retry { source, stage: label, error: &error, failures, delay }.emit();
                let remedy = error.hint().unwrap_or_else(|| remedy(error.kind()));
                self.told.fails(stage, &format!("{}; {remedy}", error.chain()));
                Ok(delay)
            }
            Directive::Halt => Err(error),
        }
    }
}
