//! What the suites over ledger and sink share: one source, its tables, its workers and their batches.

pub mod tables;

use dynaurora::apply::ports::{Advance, Batch, Fence, Lineage, Phase, RecordRef, Rows, Unit};
use dynaurora::engine::ports::{Lease, SourceIdentity};
use dynaurora::model::{
    Cells, Item, PartitionId, Position, RowAction, RowOp, SequenceNumber, TableIndex, Version,
    WorkerId,
};

/// The source of every test.
pub const SOURCE: &str = "santa";
/// Its stream.
pub const STREAM: &str = "arn:aws:dynamodb:eu-west-1:000000000000:table/NorthPole/stream/a";
/// The entity's own table, `letters`, whose key is `child, number`.
pub const LETTERS: TableIndex = TableIndex(0);
/// Its child table, `toys`, whose key is the letter's and `position`.
pub const TOYS: TableIndex = TableIndex(1);
/// The table `seats`, whose rows name their items: its key is `seat`.
pub const SEATS: TableIndex = TableIndex(2);

/// The source as every test enrols it.
pub fn identity() -> SourceIdentity {
    SourceIdentity {
        source: SOURCE.into(),
        table_arn: "arn:aws:dynamodb:eu-west-1:000000000000:table/NorthPole".to_owned(),
        table_id: "11111111-2222-3333-4444-555555555555".to_owned(),
        stream_arn: STREAM.to_owned(),
        tables: Vec::new(),
    }
}

/// A worker.
pub fn worker(name: &str) -> WorkerId {
    WorkerId::new(name)
}

/// A partition's id.
pub fn partition(name: &str) -> PartitionId {
    PartitionId::new(name)
}

/// A sequence number of a width that the service uses.
pub fn sequence(number: u64) -> SequenceNumber {
    SequenceNumber::parse(&format!("{number:021}")).unwrap()
}

/// A version of the first generation.
pub fn version(number: u64) -> Version {
    Version { generation: 1, sequence: sequence(number) }
}

/// An item as the service writes it.
pub fn item(json: &str) -> Item {
    serde_json::from_str(json).unwrap()
}

/// A row's cells.
pub fn cells(values: &[Option<&str>]) -> Cells {
    values.iter().copied().collect()
}

/// What becomes of one letter.
pub fn unit(action: RowAction, cells: Cells, version: Version) -> Unit {
    let op = RowOp { table: LETTERS, action, cells, children: Vec::new(), item: None };
    Unit { op, version, record: RecordRef { page: 0, index: 0 } }
}

/// The same letter with toys wished for, each with its position.
pub fn wishing(mut unit: Unit, toys: &[(u32, &str)]) -> Unit {
    for (position, sku) in toys {
        let mut cells = unit.op.cells.prefix(2);
        cells.push_display(position);
        cells.push(sku);
        unit.op.children.push((TOYS, cells));
    }
    unit
}

/// A batch that moves one lease to a position.
pub fn batch(who: &WorkerId, lease: &Lease, to: u64, units: Vec<Unit>) -> Batch {
    Batch {
        source: SOURCE.into(),
        phase: Phase::Steady,
        rows: Rows { units, ..Rows::default() },
        lineage: Lineage { stream_arn: STREAM.into(), ..Lineage::default() },
        fence: Fence { worker: who.clone(), generation: 1, advances: vec![advance(lease, to)] },
    }
}

/// The batch with one thing changed.
pub fn changed(mut batch: Batch, change: impl FnOnce(&mut Batch)) -> Batch {
    change(&mut batch);
    batch
}

/// The batch as it is made while a backfill is active.
pub fn beside(batch: Batch) -> Batch {
    changed(batch, |own| own.phase = Phase::BesideBackfill)
}

/// The step of a lease to a position.
pub fn advance(lease: &Lease, to: u64) -> Advance {
    Advance {
        partition: lease.partition.clone(),
        epoch: lease.epoch,
        from: lease.position.clone(),
        to: Position::After(sequence(to)),
        drained: false,
        records: 0,
        last_event_at: None,
    }
}

/// The lease once its partition has come to a position.
pub fn moved(lease: &Lease, to: u64) -> Lease {
    Lease { position: Position::After(sequence(to)), ..lease.clone() }
}
