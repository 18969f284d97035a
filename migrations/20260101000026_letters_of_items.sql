-- dead_letters: of one item at most one is open, the newest; an older one that comes later is stored as
-- superseded.

update dynaurora.dead_letters d set state = 'superseded', settled_at = now()
where d.state = 'open' and exists (select from dynaurora.dead_letters n
    where n.source = d.source and n.key_hash = d.key_hash and n.state = 'open'
        and (n.version, n.id) > (d.version, d.id));

drop index dynaurora.dead_letters_open;
create unique index dead_letters_open on dynaurora.dead_letters (source, key_hash)
    where state = 'open';
create index dead_letters_of_items on dynaurora.dead_letters (source, key_hash, version);

-- touched: while a load is active, the items that the stream's batches applied, a row for each batch: the
-- hashes of the keys and the versions beside them. A page of the load may wait while the stream applies a later
-- change of one of its items; the page's dead letter is older then, and the target tables need not show it: the
-- row may be gone, or its key unknown. So the end of the load compares its letters with these rows, and deletes
-- what it has read. The table is empty in steady state.

create table dynaurora.touched (
    id bigint generated always as identity primary key,
    source text not null references dynaurora.sources on update cascade on delete cascade,
    key_hashes bytea[] not null,
    versions numeric[] not null,
    constraint each_key_has_a_version check (cardinality(key_hashes) = cardinality(versions))
);

create index touched_of_sources on dynaurora.touched (source, id);
