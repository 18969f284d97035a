-- gaps: intervals of changes that can no longer be read. Each is recorded once. `open` waits for a load or for
-- an operator; `repairing`: a load that began later reads the table again; `repaired`: that load has ended;
-- `accepted`: an operator lives with it.
--
-- Changes of `partition` (of the whole stream where it is null) after the position `after` are lost; `since`
-- is the time of the newest change that was applied before.

create table dynaurora.gaps (
    id bigint generated always as identity primary key,
    source text not null references dynaurora.sources on delete cascade,
    stream_arn text not null,
    partition text,
    reason text not null,
    after text,
    since timestamptz,
    state text not null default 'open',
    recorded_at timestamptz not null default now(),
    constraint reasons_are_known check (
        reason in ('trimmed', 'vanished', 'stream_changed', 'table_changed', 'unpolled')),
    constraint states_are_known check (state in ('open', 'repairing', 'repaired', 'accepted'))
);

create unique index gaps_once on dynaurora.gaps
    (source, stream_arn, reason, coalesce(partition, ''), coalesce(after, ''))
    where state in ('open', 'repairing');
