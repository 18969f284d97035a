//! Target tables, built column by column.

use std::sync::Arc;

use dynaurora::mapping::spec::{ColumnSpec, ColumnType, ParentSpec, TableName, TableSpec};
use dynaurora::model::TableIndex;

/// A table of letters without a column: `table("letters").key("child", Text).column("body", Text)`.
pub fn table(name: &str) -> TableSpec {
    let name = TableName { schema: None, name: name.to_owned() };
    TableSpec { name, entity: Arc::from("letter"), ..TableSpec::default() }
}

/// What a table is built with.
pub trait Build: Sized {
    /// One more column of the primary key; they come first.
    fn key(self, name: &str, column_type: ColumnType) -> Self;

    /// One more column that may be NULL.
    fn column(self, name: &str, column_type: ColumnType) -> Self;

    /// Makes its rows the children of another table's, whose key its first columns are.
    fn below(self, table: TableIndex, key_columns: usize) -> Self;

    /// Puts it into a schema.
    fn in_schema(self, schema: &str) -> Self;
}

impl Build for TableSpec {
    fn key(mut self, name: &str, column_type: ColumnType) -> Self {
        assert_eq!(self.key_columns, self.columns.len(), "the key stands first");
        self.columns.push(ColumnSpec { name: name.to_owned(), column_type, not_null: true });
        self.key_columns += 1;
        self
    }

    fn column(mut self, name: &str, column_type: ColumnType) -> Self {
        self.columns.push(ColumnSpec { name: name.to_owned(), column_type, not_null: false });
        self
    }

    fn below(mut self, table: TableIndex, key_columns: usize) -> Self {
        self.parent = Some(ParentSpec { table, key_columns });
        self
    }

    fn in_schema(mut self, schema: &str) -> Self {
        self.name.schema = Some(schema.to_owned());
        self
    }
}
