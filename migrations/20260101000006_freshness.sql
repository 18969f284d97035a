-- freshness: how fresh the target tables are, for those who query them. One row per source; the columns only
-- grow. It reads the ledger alone, so on a physical replica it is true of that replica.
--
-- Every change made before `synced_up_to` is in the tables. It is null while that is unknown: before every
-- shard was listed and read, and while a backfill is active. It stays where it is while the source is halted, gapped or
-- stuck, and never falls at a hand-over.
--
-- A shard counts while there may be something in it: an open one unless its parent is open too (it is behind
-- its parent then, whose own value bounds it), a drained one until all that continue it are known, a lost
-- one while its gap is open. Of a covered shard the owner's publication is true, of another what its parent
-- had come to; besides, of each what the row itself says, and the time of its newest applied change.
--
-- `state`: `halted`, `gapped`: an operator is needed. `backfilling`: the tables are being loaded. `stuck`: no
-- worker is alive, or none has published for 10 s (they do every second). `behind`: worked at, but unknown or
-- more than 10 s old. `idle`: in step, and nothing changed for a minute. `live`: in step.
--
-- Times are the service's for changes and this database's for polls; both are taken to agree within the 2 s
-- by which a poll's time is held back.

create view dynaurora.freshness as
select s.source,
    case
        when s.halted is not null then 'halted'
        when exists (select from dynaurora.gaps g where g.source = s.source and g.state = 'open')
            then 'gapped'
        when s.backfilling then 'backfilling'
        when not coalesce(w.alive, false) or w.published_at is null
            or w.published_at < statement_timestamp() - interval '10 seconds' then 'stuck'
        when p.synced_up_to is null
            or p.synced_up_to < statement_timestamp() - interval '10 seconds' then 'behind'
        when w.last_event_at >= statement_timestamp() - interval '1 minute' then 'live'
        else 'idle'
    end as state,
    p.synced_up_to,
    w.last_event_at,
    w.last_poll_at,
    statement_timestamp() - p.synced_up_to as lag,
    coalesce(w.alive, false) as alive,
    (select count(*) from dynaurora.dead_letters d
        where d.source = s.source and d.state = 'open') as dead_letters,
    (select count(*) from dynaurora.gaps g
        where g.source = s.source and g.state = 'open') as gaps
from dynaurora.sources s
cross join lateral (
    select case when s.listed_at is not null and not s.backfilling
            and not bool_or(live.synced_up_to is null)
        then min(live.synced_up_to) end as synced_up_to
    from (
        select greatest(p.synced_up_to, p.last_event_at,
                case when p.covered_epoch = p.epoch then w.synced_up_to
                    else (select parent.synced_up_to from dynaurora.partitions parent
                        where parent.source = p.source and parent.partition = p.parent
                            and parent.stream_arn = p.stream_arn)
                end) as synced_up_to
        from dynaurora.partitions p
        left join dynaurora.workers w on w.source = p.source and w.worker = p.owner
        where p.source = s.source and p.stream_arn = s.stream_arn
            and (p.state <> 'drained' or not p.continued)
            and case
                when p.state = 'drained' then true
                when p.state = 'open' then p.covered_epoch is not distinct from p.epoch
                    or (select parent.state from dynaurora.partitions parent
                        where parent.source = p.source and parent.partition = p.parent
                            and parent.stream_arn = p.stream_arn) is distinct from 'open'
                else exists (select from dynaurora.gaps g where g.source = p.source
                    and g.stream_arn = p.stream_arn and g.partition = p.partition
                    and g.state = 'open')
            end
    ) live
) p
cross join lateral (
    select bool_or(w.alive_until > statement_timestamp()) as alive,
        max(w.published_at) as published_at,
        coalesce(min(w.last_poll_at) filter (where w.alive_until > statement_timestamp()),
            max(w.last_poll_at)) as last_poll_at,
        (select max(p.last_event_at) from dynaurora.partitions p
            where p.source = s.source and p.stream_arn = s.stream_arn) as last_event_at
    from dynaurora.workers w where w.source = s.source
) w;

-- synced_up_to: of one source; null while unknown, and for a source that is not there.
create function dynaurora.synced_up_to(source text) returns timestamptz
language sql stable
as $$
    select f.synced_up_to from dynaurora.freshness f where f.source = synced_up_to.source
$$;

-- wait_for: waits until every change made at `after` or earlier is in the tables: true. False when that was
-- not so within `timeout`; `dynaurora.freshness` says why. It answers rather than raises, because an error
-- would end the caller's transaction. `after` is a time after the write was acknowledged.
--
-- It looks every 20 ms, with a new snapshot each time. One snapshot stays with the caller's statement for the
-- whole wait: keep timeouts short, and on a replica set hot_standby_feedback, or the replay may wait for the
-- caller who waits for the replay. In a transaction with one snapshot for all its statements no progress can
-- be seen, so it refuses.
create function dynaurora.wait_for(
    source text, after timestamptz, timeout interval default interval '10 seconds')
returns boolean
language plpgsql volatile
as $$
declare
    pause constant double precision := 0.02;
    ends_at constant timestamptz := clock_timestamp() + timeout;
    isolation constant text := current_setting('transaction_isolation');
    reached timestamptz;
begin
    if isolation not in ('read committed', 'read uncommitted') then
        raise exception 'wait_for never sees progress in a % transaction', isolation
            using errcode = 'invalid_transaction_state',
            hint = 'call it before the transaction, or in READ COMMITTED';
    end if;
    if source is null or after is null or timeout is null then
        raise exception 'wait_for wants a source, a time and a timeout'
            using errcode = 'null_value_not_allowed';
    end if;
    loop
        select f.synced_up_to into reached
        from dynaurora.freshness f where f.source = wait_for.source;
        if not found then
            raise exception 'dynaurora knows no source %', wait_for.source
                using errcode = 'no_data_found',
                hint = 'select source from dynaurora.freshness';
        end if;
        if reached > after then
            return true;
        end if;
        if clock_timestamp() >= ends_at then
            return false;
        end if;
        perform pg_sleep(least(pause, extract(epoch from ends_at - clock_timestamp())));
    end loop;
end
$$;
