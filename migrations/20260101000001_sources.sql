-- sources: one row per source of the configuration; what its table and stream were when the ledger last
-- heard of them, and whether it is halted.
--
-- `generation` grows whenever continuity with the stream was lost and the table is read again.
-- `stream_arn` is the stream whose shards were registered last. `halted` says why nothing is read until an
-- operator acts. `listed_at` is the end of the last complete listing of the shards; `discovery_*` says who is
-- listing now and since when.
--
-- While `backfilling`, deletes leave claims. `loaded_at` is the end of the last load, null for a
-- table that was never loaded. Of the load that is active: `load_sweeps`, whether rows that it did not find
-- are deleted at its end; `sweep_confirmed`, whether an operator said so for more than the usual share;
-- `load_items`, how many items the service thought there were; `load_rcu_max`, the read units a second that
-- all workers together may take; `load_mapping`, a hash of the mapping that it began with.

create table dynaurora.sources (
    source text primary key,
    table_arn text not null,
    table_id text not null,
    stream_arn text not null,
    generation integer not null default 1,
    halted text,
    backfilling boolean not null default false,
    load_began_at timestamptz,
    load_sweeps boolean not null default false,
    sweep_confirmed boolean not null default false,
    load_items bigint,
    load_rcu_max double precision,
    load_mapping bigint,
    loaded_at timestamptz,
    enrolled_at timestamptz not null default now(),
    listed_at timestamptz,
    discovery_worker text,
    discovery_at timestamptz,
    constraint generations_start_at_one check (generation >= 1),
    constraint a_discovery_has_a_worker_and_a_time
        check ((discovery_worker is null) = (discovery_at is null))
) with (fillfactor = 80);

-- workers: who showed itself alive, and until when that counts; its leases last as long. A row of the past is
-- only history.
--
-- About once a second each worker publishes here for all the partitions that it covers at once (see
-- `partitions.covered_epoch`): every change before `synced_up_to` is in the target. `published_at` is when,
-- `last_poll_at` the oldest of the partitions' last polls. Publications are numbered, so that one which
-- comes late changes nothing. `mapping` is a hash of the mapping that the worker runs.

create table dynaurora.workers (
    source text not null references dynaurora.sources on delete cascade,
    worker text not null,
    seen_at timestamptz not null,
    alive_until timestamptz not null,
    publication bigint not null default 0,
    published_at timestamptz,
    synced_up_to timestamptz,
    last_poll_at timestamptz,
    mapping bigint,
    primary key (source, worker)
) with (fillfactor = 80);
