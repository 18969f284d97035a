//! The config file that a command names: read, with all that is wrong printed, and its logs set up.

use super::args::ConfigArgs;
use super::paste;
use crate::config::{self, Config, Diagnostics};
use crate::error::{Error, ErrorKind, Result};
use crate::telemetry;

/// Reads the config of a command and prints all of its mistakes.
///
/// # Errors
/// `Config` when anything is wrong with it.
pub fn read(args: &ConfigArgs) -> Result<Config> {
    paste::remember(args);
    Config::read(&args.config, &args.set, std::env::vars()).map_err(|diagnostics| {
        anstream::eprintln!("{}\n", diagnostics.render(true));
        let count = diagnostics.problems().len();
        let problems =
            if count == 1 { "1 problem".to_owned() } else { format!("{count} problems") };
        Error::new(ErrorKind::Config, format!("{problems} in {}", args.config.display()))
    })
}

/// Sets up logs and metrics as the config says.
///
/// # Errors
/// As for [`telemetry::init`].
pub fn telemetry(config: &Config) -> Result<telemetry::Telemetry> {
    telemetry::init(&telemetry::Options {
        log_format: match config.telemetry.log_format {
            config::LogFormat::Text => telemetry::LogFormat::Text,
            config::LogFormat::Json => telemetry::LogFormat::Json,
        },
        level: config.telemetry.log_level.clone(),
        ..telemetry::Options::default()
    })
}

/// Prints what a config's mapping has wrong where that is what failed.
pub(super) fn show_problems(error: &Error) {
    let cause = std::error::Error::source(error);
    if let Some(diagnostics) = cause.and_then(|cause| cause.downcast_ref::<Diagnostics>()) {
        anstream::eprintln!("{}\n", diagnostics.render(true));
    }
}
