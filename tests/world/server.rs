//! An HTTP server on a thread of its own and a free loopback port, gone on drop.

use std::thread::JoinHandle;

use axum::Router;
use tokio::sync::oneshot;

/// A running server.
#[derive(Debug)]
pub struct Server {
    /// Its URL.
    pub endpoint: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves the router until the server is dropped.
    pub fn start(router: Router) -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a loopback port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        listener.set_nonblocking(true).expect("a listener for tokio");
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            let runtime = builder.enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                // A client may keep its connections for ever, so the server does not wait for them.
                tokio::select! {
                    _ = stopped => {}
                    end = async { axum::serve(listener, router).await } => end.expect("a server"),
                }
            });
            runtime.shutdown_background();
        });
        Self { endpoint, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the server's thread panicked");
        }
    }
}
