//! One cluster for the whole run, a database for each test.

use std::sync::atomic::{AtomicU32, Ordering};

use dynaurora::demo::postgres::{LocalPostgres, Options};
use sqlx::PgPool;
use tokio::sync::OnceCell;

/// The run's cluster, started by the test that asks first and gone with the process.
pub(crate) async fn cluster() -> &'static LocalPostgres {
    static CLUSTER: OnceCell<LocalPostgres> = OnceCell::const_new();
    CLUSTER.get_or_init(|| async { LocalPostgres::start(Options::default()).await.unwrap() }).await
}

/// The URL of a new, empty database.
pub(crate) async fn fresh_database() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let cluster = cluster().await;
    cluster.create_database(&name).await.unwrap();
    cluster.url(&name)
}

#[tokio::test]
async fn a_cluster_takes_connections_and_its_drop_ends_it() {
    let server =
        LocalPostgres::start(Options { durable: true, ..Options::default() }).await.unwrap();
    server.create_database("letters \"of\" 2026").await.unwrap();
    let url = server.url("postgres");
    let pool = PgPool::connect(&url).await.unwrap();
    let durable: String = sqlx::query_scalar("show fsync").fetch_one(&pool).await.unwrap();
    assert_eq!(durable, "on");
    let folder: String = sqlx::query_scalar("show data_directory").fetch_one(&pool).await.unwrap();
    pool.close().await;
    drop(server);
    assert!(PgPool::connect(&url).await.is_err());
    assert!(!std::path::Path::new(&folder).exists());
}

#[tokio::test]
async fn databases_of_one_cluster_are_apart() {
    let (first, second) = (fresh_database().await, fresh_database().await);
    assert_ne!(first, second);
    let pool = PgPool::connect(&first).await.unwrap();
    sqlx::query("create table t (x int)").execute(&pool).await.unwrap();
    let other = PgPool::connect(&second).await.unwrap();
    let there: bool =
        sqlx::query_scalar("select to_regclass('t') is not null").fetch_one(&other).await.unwrap();
    assert!(!there);
}
