//! A network between the daemon and Postgres that can be cut, and that can fall silent.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Carries connections from a port of its own to a server's.
pub(super) struct Proxy {
    /// Where clients connect.
    pub(super) address: SocketAddr,
    server: u16,
    flow: watch::Sender<bool>,
    carrying: JoinSet<()>,
}

impl Proxy {
    pub(super) async fn start(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (flow, _) = watch::channel(true);
        let mut own = Self { address, server, flow, carrying: JoinSet::new() };
        own.carry(listener);
        own
    }

    /// Every connection breaks, and new ones are refused.
    pub(super) async fn cut(&mut self) {
        self.carrying.shutdown().await;
    }

    /// New connections come through again.
    pub(super) async fn mend(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.carry(listener);
    }

    /// Nothing comes through, and nobody is told; what was sent waits on the way.
    pub(super) fn freeze(&self) {
        self.flow.send_replace(false);
    }

    /// What waited arrives.
    pub(super) fn thaw(&self) {
        self.flow.send_replace(true);
    }

    fn carry(&mut self, listener: TcpListener) {
        let (server, flow) = (self.server, self.flow.subscribe());
        self.carrying.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                connections.spawn(pump(from_client, to_server, flow.clone()));
                connections.spawn(pump(from_server, to_client, flow.clone()));
            }
        });
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut flow: watch::Receiver<bool>) {
    let mut buffer = vec![0; 64 * 1024];
    // Either side may go away at any time; the other one then sees its connection end.
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let open = flow.wait_for(|open| *open).await.is_ok();
        if !open || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
