-- claims: while a load is active, the version of the delete that last spoke for a key. A scan page writes no key
-- that stands here, so a row deleted meanwhile does not come back; a lock keeps a page and a delete from
-- missing each other. The table is empty in steady state.
--
-- `target` is the target table, `key_hash` the SHA-256 of the row's primary key.

create table dynaurora.claims (
    source text not null references dynaurora.sources on delete cascade,
    target text not null,
    key_hash bytea not null,
    version numeric not null,
    primary key (source, target, key_hash),
    constraint a_key_hash_is_a_sha256 check (octet_length(key_hash) = 32)
) with (fillfactor = 80);
