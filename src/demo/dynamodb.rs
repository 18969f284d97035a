//! A DynamoDB-compatible server inside this process: in memory, on a free loopback port, gone on drop.

use std::path::PathBuf;
use std::thread::JoinHandle;

use dynoxide::Database;
use tokio::sync::oneshot;

use crate::error::{Error, ErrorKind, Result};

/// A running local server for the protocols of DynamoDB and DynamoDB Streams. It takes any credentials and
/// any region.
///
/// It runs on its own thread, because it executes requests synchronously and would block the caller's
/// runtime.
#[derive(Debug)]
pub struct LocalDynamo {
    endpoint: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl LocalDynamo {
    /// Starts an empty server; it takes some milliseconds.
    ///
    /// # Errors
    /// When there is no loopback port, thread or temporary folder.
    pub fn start() -> Result<Self> {
        let database = indexed_database()?;
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))
            .map_err(|error| failed("bind a loopback port for the local dynamodb", error))?;
        let address = listener
            .local_addr()
            .map_err(|error| failed("read the local dynamodb's own address", error))?;
        // Accepted connections inherit this. Without it each answer waits 40 ms for a delayed
        // acknowledgement: 24 writes a second and writer (measured).
        socket2::SockRef::from(&listener)
            .set_tcp_nodelay(true)
            .map_err(|error| failed("prepare the local dynamodb's port", error))?;
        listener
            .set_nonblocking(true)
            .map_err(|error| failed("prepare the local dynamodb's port", error))?;
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| failed("start the local dynamodb's runtime", error))?;
        let thread = std::thread::Builder::new()
            .name("local-dynamodb".to_owned())
            .spawn(move || {
                runtime.block_on(serve(listener, database, stopped));
                // Open client connections must not keep the process alive.
                runtime.shutdown_background();
            })
            .map_err(|error| failed("start the local dynamodb's thread", error))?;
        Ok(Self { endpoint: format!("http://{address}"), stop: Some(stop), thread: Some(thread) })
    }

    /// The URL for clients of both services.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

impl Drop for LocalDynamo {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("the local dynamodb's thread ended in a panic");
        }
    }
}

/// Serves until the sender is dropped. The server is then abandoned rather than shut down, because it would
/// wait for every idle keep-alive connection.
async fn serve(
    listener: std::net::TcpListener,
    database: Database,
    stopped: oneshot::Receiver<()>,
) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the local dynamodb cannot listen");
            return;
        }
    };
    let server = dynoxide::server::serve_with_shutdown(listener, database, std::future::pending());
    tokio::select! {
        _ = stopped => {}
        outcome = server => {
            if let Err(error) = outcome {
                tracing::error!(%error, "the local dynamodb stopped");
            }
        }
    }
}

/// An in-memory database with indexes on its stream records. Without them each write scans all records for
/// the highest sequence number (measured: 2,400 writes a second fall to 200 at 20,000 records, with them
/// 5,700 stay). The schema is private to the server's crate, whose version is therefore pinned.
fn indexed_database() -> Result<Database> {
    let folder = TemporaryFolder::create()?;
    let template = folder.0.join("template.db");
    let path = template
        .to_str()
        .ok_or_else(|| Error::new(ErrorKind::Config, "the temporary folder's name is not text"))?;
    drop(Database::new(path).map_err(|error| failed("create the local dynamodb", error))?);
    index_stream_records(path).map_err(|error| failed("index the local dynamodb", error))?;
    let database =
        Database::memory().map_err(|error| failed("create the local dynamodb", error))?;
    database.restore_from(path).map_err(|error| failed("load the local dynamodb", error))?;
    Ok(database)
}

fn index_stream_records(path: &str) -> rusqlite::Result<()> {
    rusqlite::Connection::open(path)?.execute_batch(
        "create index stream_records_by_number
             on _stream_records (table_name, cast(sequence_number as integer));
         create index stream_records_by_shard
             on _stream_records (table_name, shard_id, cast(sequence_number as integer));
         pragma wal_checkpoint(truncate);",
    )
}

/// A folder with an unpredictable name, removed on drop.
struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    fn create() -> Result<Self> {
        let name = format!("dynaurora-{:016x}", fastrand::u64(..));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).map_err(|error| failed("create a temporary folder", error))?;
        Ok(Self(path))
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, "a temporary folder was not removed");
        }
    }
}

fn failed(
    what: &'static str,
    cause: impl Into<Box<dyn std::error::Error + Send + Sync + 'static>>,
) -> Error {
    Error::new(ErrorKind::Unavailable, what).with_source(cause)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn it_listens_until_it_is_dropped() {
        let local = LocalDynamo::start().unwrap();
        let address = local.endpoint().trim_start_matches("http://").to_owned();
        let kept_open = TcpStream::connect(&address).unwrap();
        drop(local);
        assert!(TcpStream::connect(&address).is_err());
        drop(kept_open);
    }
}
