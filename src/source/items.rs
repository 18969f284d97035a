//! Single items, for a verification.

use super::DynamoSource;
use crate::error::Result;
use crate::model::{Item, KeyType};
use crate::ops::ports::Items;

impl Items for DynamoSource {
    async fn key_schema(&self) -> Result<Vec<(String, KeyType)>> {
        Self::key_schema(self).await
    }

    async fn item(&self, key: &Item) -> Result<(Option<Item>, Option<f64>)> {
        Self::item(self, key).await
    }
}
