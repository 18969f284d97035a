-- The two roles of dynaurora: one that writes, one that asks how fresh the tables are.
--
-- Run it as the role that owns the target tables and runs `dynaurora apply`, before or after that, as often
-- as you like:
--
--   psql "$OWNER_URL" -v ON_ERROR_STOP=1 -f deploy/sql/grants.sql
--
-- Names: -v runtime=dynaurora -v reader=dynaurora_reader -v target_schema=public unless told otherwise.
\if :{?runtime}
\else
    \set runtime dynaurora
\endif
\if :{?reader}
\else
    \set reader dynaurora_reader
\endif
\if :{?target_schema}
\else
    \set target_schema public
\endif

select format('create role %I', :'runtime')
where not exists (select from pg_roles where rolname = :'runtime') \gexec
select format('create role %I nologin', :'reader')
where not exists (select from pg_roles where rolname = :'reader') \gexec

-- It can do nothing that its tables do not allow it to do. The limit is three workers of a pool of 8, their
-- lease connections, and room for a failover, when old and new connections overlap.
alter role :"runtime" with login nocreatedb nocreaterole connection limit 60;

-- Limits belong to the role rather than to a SET of each session, which would pin a pooler's connection.
-- A frozen worker's row locks end with its idle transaction; a lock that somebody else holds is not waited
-- for longer than a lease lasts.
alter role :"runtime" in database :"DBNAME" set search_path = :"target_schema";
alter role :"runtime" in database :"DBNAME" set statement_timeout = '60s';
alter role :"runtime" in database :"DBNAME" set lock_timeout = '10s';
alter role :"runtime" in database :"DBNAME" set idle_in_transaction_session_timeout = '15s';

grant connect on database :"DBNAME" to :"runtime", :"reader";

-- The ledger: rows, no DDL. The default privileges cover what `dynaurora apply` creates later on.
create schema if not exists dynaurora;
grant usage on schema dynaurora to :"runtime", :"reader";
grant select, insert, update, delete on all tables in schema dynaurora to :"runtime";
grant usage, select on all sequences in schema dynaurora to :"runtime";
alter default privileges in schema dynaurora
    grant select, insert, update, delete on tables to :"runtime";
alter default privileges in schema dynaurora grant usage, select on sequences to :"runtime";

-- The query side sees how fresh the tables are and can wait for them (run this again after the first
-- `dynaurora apply`), and neither the ledger nor any dead letter: those hold whole items.
select format('grant select on dynaurora.freshness to %I', :'reader')
where to_regclass('dynaurora.freshness') is not null \gexec
select format('grant execute on function %s to %I, %I', own, :'runtime', :'reader')
from unnest(array[
    'dynaurora.synced_up_to(text)',
    'dynaurora.wait_for(text, timestamp with time zone, interval)']) as own
where to_regprocedure(own) is not null \gexec

-- The target tables, named one by one: `dynaurora grants` prints these lines for your config.
grant usage on schema :"target_schema" to :"runtime", :"reader";
-- grant select, insert, update, delete on table children, letters, letter_toys to dynaurora;
-- grant select on table children, letters, letter_toys to dynaurora_reader;

-- On Aurora and RDS: log in by IAM token instead of a password (`auth = "iam"`).
select format('grant rds_iam to %I', :'runtime')
where exists (select from pg_roles where rolname = 'rds_iam') \gexec
