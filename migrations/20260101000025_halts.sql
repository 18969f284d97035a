-- `workers.halted` is why a worker halted its source by itself; such a worker is dead. It counts until another one
-- shows itself alive.

alter table dynaurora.workers add column halted text;

-- The view of 20260101000006_freshness.sql, which says what it means. New: a source is `halted` too where no
-- worker is alive and the last one halted it by itself; the column `halted` says why.

create or replace view dynaurora.freshness as
select s.source,
    case
        when s.halted is not null or not coalesce(w.alive, false) and w.halted is not null
            then 'halted'
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
        where g.source = s.source and g.state in ('open', 'repairing')) as gaps,
    coalesce(s.halted, case when not coalesce(w.alive, false) then w.halted end) as halted
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
            where p.source = s.source and p.stream_arn = s.stream_arn) as last_event_at,
        (select last.halted from dynaurora.workers last
            where last.source = s.source order by last.seen_at desc limit 1) as halted
    from dynaurora.workers w where w.source = s.source
) w;
