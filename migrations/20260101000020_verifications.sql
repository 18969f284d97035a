-- verifications: what the last verification of each source found, for the metric and for people.
--
-- `share` is the part of the source that was read (1 is all of it), `mismatched` the rows that were not as
-- they should be when it ended, `repaired` those of them that were mended.

create table dynaurora.verifications (
    source text primary key references dynaurora.sources on delete cascade,
    started_at timestamptz not null,
    ended_at timestamptz not null default now(),
    share double precision not null,
    items bigint not null,
    mismatched bigint not null,
    repaired bigint not null,
    constraint a_share_is_a_part check (share > 0 and share <= 1)
);
