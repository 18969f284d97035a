//! A source's table and its stream: whether both are there, and can feed the mapping.

use crate::config::SourceConfig;
use crate::engine::ports::{Source, StreamInfo};
use crate::engine::usable;
use crate::error::{Error, ErrorKind, Result};

/// Asks the source's table for its stream, which must be able to feed the mapping.
///
/// # Errors
/// `Denied`, `Unreachable` as the service answers; `Config`, with the command that fixes it, when the table
/// or its stream is missing, or the stream is disabled or carries too little.
pub async fn describe(dynamo: &impl Source, source: &SourceConfig) -> Result<StreamInfo> {
    let info = dynamo.describe().await.map_err(|error| no_table(source, error))?;
    usable(dynamo, &info, &source.mapper)?;
    let mut wrong = source.mapper.key_attributes();
    wrong.retain(|name| !info.key_attributes.iter().any(|key| key == name));
    if let Some(name) = wrong.first() {
        let what = format!("{name} is no key attribute of table {}", source.table);
        let hint = format!("its key attributes are {}", info.key_attributes.join(" and "));
        return Err(Error::new(ErrorKind::Config, what).with_hint(hint));
    }
    if !info.enabled {
        let table = &source.table;
        let hint = format!(
            "aws dynamodb update-table --table-name {table} --stream-specification \
             StreamEnabled=true,StreamViewType=NEW_AND_OLD_IMAGES"
        );
        let what = format!("the stream of table {table} is disabled");
        return Err(Error::new(ErrorKind::Config, what).with_hint(hint));
    }
    Ok(info)
}

/// A missing table explained to the operator; other errors unchanged.
#[must_use]
pub fn no_table(source: &SourceConfig, error: Error) -> Error {
    match error.kind() {
        ErrorKind::Gone => {
            let what = format!("there is no table {} in this account and region", source.table);
            Error::new(ErrorKind::Config, what)
                .with_hint(error.hint().unwrap_or("aws dynamodb list-tables").to_owned())
                .with_source(error)
        }
        _ => error,
    }
}
