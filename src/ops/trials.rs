//! The mapping tests of a config, offline.

use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};

/// The result of one test; the JSON only gains fields.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Ended {
    /// The test's name.
    pub name: String,
    /// The source whose mapping is tested.
    pub source: String,
    /// Whether it passed.
    pub passed: bool,
    /// What is not as expected.
    pub differences: Vec<String>,
}

/// Runs every `[[test]]`; nothing is called.
///
/// # Errors
/// `Config` when a test names no source of the config.
pub fn run(config: &Config) -> Result<Vec<Ended>> {
    let mut ended = Vec::new();
    for trial in &config.trials {
        let source = config.sources.iter().find(|source| *source.name == *trial.source);
        let Some(source) = source else {
            let what = format!("test {:?} names no source of this config", trial.name);
            return Err(Error::new(ErrorKind::Config, what));
        };
        let differences: Vec<String> =
            trial.run(&source.mapper).iter().map(ToString::to_string).collect();
        ended.push(Ended {
            name: trial.name.clone(),
            source: trial.source.clone(),
            passed: differences.is_empty(),
            differences,
        });
    }
    Ok(ended)
}
