//! Arguments that many commands take.

use std::path::PathBuf;

use clap::Args;

/// The default config file.
pub(super) const CONFIG: &str = "dynaurora.toml";

/// The config file and its overrides.
#[derive(Debug, Clone, Args)]
pub struct ConfigArgs {
    /// The config file.
    #[arg(
        long,
        short,
        value_name = "FILE",
        env = "DYNAURORA_CONFIG",
        default_value = CONFIG
    )]
    pub config: PathBuf,
    /// Override one value, as in `--set target.pool=4`; repeatable.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}
