//! The contract of ledger and sink over the real server.

use std::time::Duration;

use dynaurora::mapping::spec::VERSION_COLUMN;
use dynaurora::model::{Cells, TableIndex, Version};
use dynaurora::postgres::ledger::PostgresLedger;
use dynaurora::postgres::repair::ports::PostgresTarget;
use dynaurora::postgres::sql::ident;
use dynaurora::postgres::tables::PostgresSink;
use sqlx::{AssertSqlSafe, Row};

use super::rig::Rig;
use crate::contract::repair::RepairRig;
use crate::contract::{self, StoredRow};

async fn fresh() -> Rig {
    Rig::with_tables(&contract::tables()).await
}

impl RepairRig for Rig {
    type Target = PostgresTarget;

    fn target(&self) -> &PostgresTarget {
        &self.target
    }
}

impl contract::Rig for Rig {
    type Ledger = PostgresLedger;
    type Sink = PostgresSink;

    fn ledger(&self) -> &PostgresLedger {
        &self.ledger
    }

    fn sink(&self) -> &PostgresSink {
        &self.sink
    }

    async fn rows(&self, table: TableIndex) -> Vec<StoredRow> {
        let spec = contract::tables().swap_remove(usize::from(table.0));
        let mut columns: Vec<String> = spec
            .columns
            .iter()
            .map(|column| format!("{}::text", ident::quoted(&column.name).unwrap()))
            .collect();
        if spec.parent.is_none() {
            columns.push(format!("{VERSION_COLUMN}::text"));
        }
        let sql = format!("select {} from {}", columns.join(", "), spec.name.name);
        let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&self.pool).await.unwrap();
        let mut rows: Vec<StoredRow> = rows
            .iter()
            .map(|row| {
                let text = |at: usize| row.get::<Option<String>, _>(at);
                let texts: Vec<_> = (0..spec.columns.len()).map(text).collect();
                let cells: Cells = texts.iter().map(Option::as_deref).collect();
                let version = spec.parent.is_none().then(|| text(columns.len() - 1));
                let version = version.flatten().as_deref().and_then(Version::parse);
                StoredRow { cells, version }
            })
            .collect();
        rows.sort_by_key(|row| {
            row.cells.iter().map(|cell| cell.map(str::to_owned)).collect::<Vec<_>>()
        });
        rows
    }

    async fn forget(&self) {
        self.run("delete from dynaurora.sources").await;
    }

    async fn wait(&self, time: Duration) {
        tokio::time::timeout(time, std::future::pending::<()>()).await.unwrap_err();
    }
}

contract::freshness::cases!(
    #[tokio::test]
    super::fresh().await
);
contract::ledger::cases!(
    #[tokio::test]
    super::fresh().await
);
contract::enrolment::cases!(
    #[tokio::test]
    super::fresh().await
);
contract::backfills::cases!(
    #[tokio::test]
    super::fresh().await
);
contract::rewind::cases!(
    #[tokio::test]
    super::fresh().await
);
contract::sink::cases!(
    #[tokio::test]
    super::fresh().await
);
contract::histories::cases!(
    #[tokio::test]
    super::Rig::with_tables(&crate::contract::histories::tables()).await
);
contract::repair::cases!(
    #[tokio::test]
    super::fresh().await
);
