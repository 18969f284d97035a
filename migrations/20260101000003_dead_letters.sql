-- dead_letters: records that could not be mapped or stored, whole, written in the transaction that moved the
-- position past them. They hold item data: grant them as the target tables are granted.
--
-- `key` and `image` are DynamoDB JSON, kept as text because jsonb refuses U+0000, one of the reasons to be
-- here. `open` waits for an operator; `superseded`: a newer image of the same key was applied; `resolved`: a
-- retry applied the item's present state; `dropped`: an operator gave it up, and `note` says why.

create table dynaurora.dead_letters (
    id bigint generated always as identity primary key,
    source text not null references dynaurora.sources on delete cascade,
    partition text not null,
    version numeric not null,
    key text not null,
    key_hash bytea not null,
    image text not null,
    reason text not null,
    entity text,
    place text,
    detail text not null,
    state text not null default 'open',
    created_at timestamptz not null default now(),
    settled_at timestamptz,
    note text,
    constraint a_key_hash_is_a_sha256 check (octet_length(key_hash) = 32),
    constraint states_are_known check (state in ('open', 'superseded', 'resolved', 'dropped')),
    constraint what_is_not_open_was_settled check ((state = 'open') = (settled_at is null))
);

create index dead_letters_open on dynaurora.dead_letters (source, key_hash) where state = 'open';
create index dead_letters_settled on dynaurora.dead_letters (source, settled_at) where state <> 'open';
