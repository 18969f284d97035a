-- partitions: one row for each thing that is read in order from a position: its lineage, how far it is
-- applied, and who may read it now.
--
-- `position` is the text of a position (`horizon`, `at:…`, `after:…`, `start`, `key:…`, `line:…`); it moves
-- only in the transaction that writes the rows before it. `epoch` counts the leases ever given; a batch
-- names owner, epoch, generation and position, and nothing of it is kept unless all four are still these.
-- A lease lasts as long as its owner lives (`workers.alive_until`, by this database's clock), so that a sign of
-- life renews any number of them; it is free when `owner` is null.
-- `parent` is a name, not a reference: a listing may know a parent no more. A shard belongs to one stream;
-- segments and files of a backfill to none. `records` counts what was applied in this generation. Rows are
-- updated once a batch: the free space keeps that cheap. `drained_at` is when the last page was applied.
--
-- `replays_to` is where a load of older items found the shard before it rewound it: the text of a position, or
-- `end` where it was drained. While it is `replaying`, rows may be older than they were, and the load goes on.
--
-- While `covered_epoch` is the epoch, what the owner publishes in `workers` is true of this partition too; a
-- new lease thus uncovers it until its new owner has published with it. Whatever ends a cover raises the
-- row's own `synced_up_to` to what was published last, so that the source's value does not fall. `continued`
-- says that every shard which continues this one is known, from a whole listing or a whole lookup.

create table dynaurora.partitions (
    source text not null references dynaurora.sources on delete cascade,
    partition text not null,
    kind text not null default 'shard',
    stream_arn text,
    parent text,
    state text not null default 'open',
    position text not null,
    generation integer not null,
    epoch bigint not null default 0,
    owner text,
    records bigint not null default 0,
    replays_to text,
    replaying boolean not null generated always as (
        case
            when replays_to is null or state <> 'open' then false
            when replays_to = 'end' or position not like 'after:%' then true
            else split_part(position, ':', 2)::numeric < split_part(replays_to, ':', 2)::numeric
        end) stored,
    last_event_at timestamptz,
    drained_at timestamptz,
    synced_up_to timestamptz,
    covered_epoch bigint,
    continued boolean not null default false,
    registered_at timestamptz not null default now(),
    primary key (source, partition),
    constraint kinds_are_known check (kind in ('shard', 'segment', 'file')),
    constraint shards_belong_to_a_stream check ((kind = 'shard') = (stream_arn is not null)),
    constraint states_are_known check (state in ('open', 'drained', 'lost')),
    constraint positions_are_known
        check (position in ('horizon', 'start') or position ~ '^(at|after|line):[0-9]+$'
            or position like 'key:%'),
    constraint replays_are_known check (replays_to = 'end' or replays_to ~ '^after:[0-9]+$'),
    constraint generations_start_at_one check (generation >= 1),
    constraint epochs_count_leases check (epoch >= 0 and (owner is null or epoch > 0)),
    constraint only_given_leases_cover check (covered_epoch <= epoch)
) with (fillfactor = 80);

-- For `freshness`, which has no use for the drained shards of two days.
create index partitions_that_count on dynaurora.partitions (source)
    where state <> 'drained' or not continued;
