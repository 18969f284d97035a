//! dynaurora's own tables: the files of `migrations/`, run by sqlx's migrator into the schema
//! `dynaurora`.

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{PgPool, Row};

use super::session::in_transaction;
use super::sqlstate;
use crate::error::{Error, ErrorKind, Result};

/// The schema of dynaurora's own tables.
pub const SCHEMA: &str = "dynaurora";

/// The migrator's own table.
const MIGRATIONS_TABLE: &str = "dynaurora._sqlx_migrations";

const APPLIED: &str = "select version from dynaurora._sqlx_migrations where success";

/// Brings dynaurora's own tables up to date. It holds an advisory lock meanwhile, so it needs its own
/// session: not a pooler in transaction mode.
///
/// # Errors
/// `Schema` when the database has migrations that this program does not know or that differ,
/// `Denied` when the role may not create them.
pub async fn migrate(pool: &PgPool) -> Result<()> {
    migrator()
        .run(pool)
        .await
        .map_err(|error| migration_error("migrate the schema dynaurora", error))
}

/// The missing migrations in order, by name. It only reads, so the runtime role can do it.
///
/// # Errors `Schema` if the database has migrations that this program does not know: an older version cannot
/// know what a newer one's tables mean. Otherwise errors of the database.
pub async fn pending(pool: &PgPool) -> Result<Vec<String>> {
    let what = "read the applied migrations";
    let applied = in_transaction(pool, what, async |tx| {
        let present = tx.query("select to_regclass($1) is not null").bind(MIGRATIONS_TABLE);
        if !present.one(|row| row.try_get(0)).await? {
            return Ok(Vec::new());
        }
        tx.query(APPLIED).all(|row| row.try_get::<i64, _>(0)).await
    })
    .await?;
    let own = migrator();
    if let Some(unknown) = applied.iter().find(|version| !own.version_exists(**version)) {
        return Err(from_the_future(what).with_source(MigrateError::VersionMissing(*unknown)));
    }
    let missing = own.iter().filter(|migration| !applied.contains(&migration.version));
    Ok(missing
        .map(|migration| format!("{} {}", migration.version, migration.description))
        .collect())
}

fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!();
    migrator.dangerous_set_table_name(MIGRATIONS_TABLE);
    migrator.create_schema(SCHEMA);
    migrator
}

fn migration_error(what: &str, error: MigrateError) -> Error {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            sqlstate::error(what, error)
        }
        MigrateError::VersionMissing(_) | MigrateError::VersionTooNew(..) => {
            from_the_future(what).with_source(error)
        }
        error => Error::new(ErrorKind::Schema, what).with_source(error),
    }
}

fn from_the_future(what: &str) -> Error {
    Error::new(ErrorKind::Schema, what)
        .with_hint("a newer dynaurora migrated this database; run that version")
}
