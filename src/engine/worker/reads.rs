//! Reads: one page of one partition, mapped, into its lane's batch.

use std::sync::Arc;

use tokio::time::Instant;

use super::state::{Done, Worker};
use crate::apply::page::{MappedPage, PageContext, UnmatchedItem};
use crate::engine::jobs::Job;
use crate::engine::lane::LaneId;
use crate::engine::ports::{Clock, Seams, Source};
use crate::engine::readers::{Moment, Ticket};
use crate::engine::retry::{Directive, Stage, directive};
use crate::engine::tail::children::look_up;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{SequenceNumber, ShardListing};

impl<P: Seams> Worker<P> {
    /// Starts the lane's next read. At a partition's end its children are asked for too, so that they are
    /// entered in the transaction that applies its last page. Where none are known yet, the next listing
    /// will have them. Whether there was one to start.
    pub(super) fn start_read(&mut self, id: LaneId, now: Instant) -> bool {
        let Some(stream) = self.phase.stream() else { return false };
        let (readers, asked_at) =
            (&mut self.hand.lane_mut(id).readers, self.publishing.database_time(now));
        let Some((from, ticket)) = readers.next_read(&stream.arn, now, asked_at) else {
            return false;
        };
        let (ports, mapper) = (Arc::clone(&self.ports), Arc::clone(&self.run.mapper));
        let (tables, generation) = (Arc::clone(&self.tables.key_columns), stream.generation);
        let turns = self.children.turns();
        self.tasks.spawn(async move {
            let read = async {
                let page = ports.source().read(&from).await?;
                // Only shards have successors.
                let children = if page.end && from.partition.is_shard() {
                    look_up(&*ports, &from, &turns).await
                } else {
                    Vec::new()
                };
                let (mapper, tables, partition) = (&mapper, &tables, &from.partition);
                let context = PageContext { mapper, tables, generation, partition };
                let mapped = MappedPage::new(page, context).map_err(halted_by)?;
                Ok((Box::new(mapped), children))
            };
            Done::Read { ticket, result: read.await }
        });
        true
    }

    pub(super) fn take_read(
        &mut self,
        ticket: &Ticket,
        result: Result<(Box<MappedPage>, Vec<ShardListing>)>,
    ) -> Result<()> {
        if self.phase.is_draining() {
            return Ok(());
        }
        match result {
            Ok((mapped, children)) => {
                self.take_page(ticket, *mapped, children);
                Ok(())
            }
            Err(error) => self.take_read_failure(ticket, error),
        }
    }

    fn take_page(&mut self, ticket: &Ticket, mapped: MappedPage, children: Vec<ShardListing>) {
        let at = Moment { now: self.ports.clock().now(), wall: self.ports.clock().wall() };
        self.told.well(Stage::Read);
        let page = &mapped.page;
        self.backfilling.take(page.consumed_capacity.unwrap_or(0.0), at.now);
        let id = LaneId::of(&ticket.partition);
        let lane = self.hand.lane_mut(id);
        let pace = self.run.options.pace;
        let Some(lease) = lane.readers.page_read(ticket, page, at, pace) else { return };
        if page.end && id == LaneId::Tail && children.is_empty() {
            self.children.miss(ticket.partition.clone());
            self.jobs.due_at(Job::Discovery, at.now);
        }
        if !page.changes.is_empty() || page.end {
            // While a backfill is active, a letter of another page may come that is older than these changes;
            // what a scan read is older than all of them.
            let scanned = page.changes.iter().all(|own| own.sequence == SequenceNumber::ZERO);
            let overtakes = self.view.backfill.active && !scanned;
            let note_keys = overtakes || self.rejects.may_be_open();
            lane.filling.add(mapped, children, &lease, note_keys);
        }
    }

    fn take_read_failure(&mut self, ticket: &Ticket, error: Error) -> Result<()> {
        let (now, partition) = (self.ports.clock().now(), &ticket.partition);
        let Some(failures) = self.hand.lane_of(partition).readers.read_failed(ticket) else {
            return Ok(());
        };
        match directive(Stage::Read, error.kind()) {
            Directive::Rederive if failures == 1 => {
                self.hand.lane_of(partition).readers.schedule(partition, now);
            }
            Directive::Rederive | Directive::Retry => {
                let delay = self.retry(Stage::Read, error, failures)?;
                self.hand.lane_of(partition).readers.schedule(partition, now + delay);
            }
            Directive::Gap(reason) if LaneId::of(partition) == LaneId::Tail => {
                self.gap_at(partition, reason, now);
            }
            // What a backfill reads has gone; a discovery tells whether the table has.
            Directive::Gap(_) => {
                let delay = self.retry(Stage::Read, error, failures)?;
                self.hand.lane_of(partition).readers.schedule(partition, now + delay);
            }
            Directive::Reload | Directive::Enrol | Directive::Halt => return Err(error),
        }
        Ok(())
    }
}

fn halted_by(item: UnmatchedItem) -> Error {
    let keys: Vec<&str> = item.keys.iter().map(|(name, _)| name).collect();
    let what = format!(
        "an item (key attributes {}) matches no entity, and unmatched = \"halt\"",
        keys.join(", ")
    );
    Error::new(ErrorKind::Config, what)
}
