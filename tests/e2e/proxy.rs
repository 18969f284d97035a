//! A network between the daemon and Postgres that can be cut, fall silent, and lead elsewhere.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Carries connections from a port of its own to a server's.
pub(crate) struct Proxy {
    /// Where clients connect.
    pub(crate) address: SocketAddr,
    server: u16,
    requests: watch::Sender<bool>,
    answers: watch::Sender<bool>,
    carrying: JoinSet<()>,
    /// Never listens, and keeps the port: one that nobody had bound, while it is cut, could be given to an
    /// outgoing connection.
    _port: TcpSocket,
}

impl Proxy {
    pub(crate) fn start(server: u16) -> Self {
        let port = bound(([127, 0, 0, 1], 0).into());
        let address = port.local_addr().unwrap();
        let ((requests, _), (answers, _)) = (watch::channel(true), watch::channel(true));
        let mut own =
            Self { address, server, requests, answers, carrying: JoinSet::new(), _port: port };
        own.mend();
        own
    }

    /// Every connection breaks, and new ones are refused.
    pub(crate) async fn cut(&mut self) {
        self.carrying.shutdown().await;
    }

    /// New connections come through again.
    pub(crate) fn mend(&mut self) {
        self.carry(bound(self.address).listen(1_024).unwrap());
    }

    /// The connections that there are break, and new ones come to another server, as when a name is
    /// resolved anew after a failover.
    pub(crate) async fn lead_to(&mut self, server: u16) {
        self.cut().await;
        self.server = server;
        self.mend();
    }

    /// Nothing comes through, and nobody is told; what was sent waits on the way.
    pub(crate) fn freeze(&self) {
        self.requests.send_replace(false);
        self.answers.send_replace(false);
    }

    /// The server hears all and is not heard: what it commits now, nobody learns.
    pub(crate) fn hold_answers(&self) {
        self.answers.send_replace(false);
    }

    /// What waited arrives.
    pub(crate) fn thaw(&self) {
        self.requests.send_replace(true);
        self.answers.send_replace(true);
    }

    fn carry(&mut self, listener: TcpListener) {
        let server = self.server;
        let (requests, answers) = (self.requests.subscribe(), self.answers.subscribe());
        self.carrying.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                // A server that takes no connection is one that the client sees closing.
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { continue };
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                connections.spawn(pump(from_client, to_server, requests.clone()));
                connections.spawn(pump(from_server, to_client, answers.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
    }
}

fn bound(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseport(true).unwrap();
    socket.bind(address).unwrap();
    socket
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
