//! Where the daemon is that a command asks.

use std::net::SocketAddr;
use std::path::Path;

use super::args::{CONFIG, ConfigArgs};
use super::paste;
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};

/// The daemon's address: as given, or from the config. Without a config it is the default.
///
/// # Errors
/// `Config` when the named config cannot be read, or lets the daemon take any free port.
pub(super) fn address(listen: Option<SocketAddr>, args: &ConfigArgs) -> Result<SocketAddr> {
    paste::remember(args);
    if let Some(listen) = listen {
        return Ok(listen);
    }
    let none = args.config == Path::new(CONFIG) && !args.config.exists();
    let file = (!none).then_some(args.config.as_path());
    let listen = Config::listen(file, &args.set, std::env::vars()).map_err(|diagnostics| {
        anstream::eprintln!("{}\n", diagnostics.render(true));
        Error::new(ErrorKind::Config, format!("read where {} listens", args.config.display()))
            .with_hint("pass the daemon's address with `--listen`")
    })?;
    if listen.port() == 0 {
        let what = format!("{} lets the daemon take any free port", args.config.display());
        return Err(Error::new(ErrorKind::Config, what)
            .with_hint("its log says which; pass the address with `--listen`"));
    }
    Ok(listen)
}
