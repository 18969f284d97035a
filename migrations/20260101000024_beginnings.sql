-- What a source begins with: the tables that it keeps for itself, and its name.
--
-- `sources.keeps` are the target tables that a source fills, each with the constants that tell its rows from those
-- of others: {"public.letters": {"origin": "eu"}}. Two sources never keep the same rows. Null for a source
-- that no daemon has enrolled since this column is there.
--
-- A source can be renamed (`dynaurora sources rename`): what belongs to it follows.

alter table dynaurora.sources add column keeps jsonb;

alter table dynaurora.workers
    drop constraint workers_source_fkey,
    add constraint workers_source_fkey foreign key (source)
        references dynaurora.sources on update cascade on delete cascade;
alter table dynaurora.partitions
    drop constraint partitions_source_fkey,
    add constraint partitions_source_fkey foreign key (source)
        references dynaurora.sources on update cascade on delete cascade;
alter table dynaurora.dead_letters
    drop constraint dead_letters_source_fkey,
    add constraint dead_letters_source_fkey foreign key (source)
        references dynaurora.sources on update cascade on delete cascade;
alter table dynaurora.gaps
    drop constraint gaps_source_fkey,
    add constraint gaps_source_fkey foreign key (source)
        references dynaurora.sources on update cascade on delete cascade;
alter table dynaurora.claims
    drop constraint claims_source_fkey,
    add constraint claims_source_fkey foreign key (source)
        references dynaurora.sources on update cascade on delete cascade;
alter table dynaurora.verifications
    drop constraint verifications_source_fkey,
    add constraint verifications_source_fkey foreign key (source)
        references dynaurora.sources on update cascade on delete cascade;
