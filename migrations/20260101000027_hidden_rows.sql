-- hidden_rows: where an item's row can move to another key, two items may want one key for a while, because one
-- has left it and its change is still to come. The row that was applied last is in the target, the other one
-- waits here, whole, until the first leaves or it leaves itself. The table is empty in steady state.
--
-- `target` is the target table, `key_hash` the SHA-256 of the row's primary key, `item` the tag of the row's item,
-- `content` its columns and child rows as texts, by name.

create table dynaurora.hidden_rows (
    source text not null references dynaurora.sources on update cascade on delete cascade,
    target text not null,
    key_hash bytea not null,
    item bigint not null,
    version numeric not null,
    content jsonb not null,
    primary key (source, target, key_hash, item),
    constraint a_key_hash_is_a_sha256 check (octet_length(key_hash) = 32)
) with (fillfactor = 80);
