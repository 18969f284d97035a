//! The daemon's HTTP server: `/metrics`, `/livez`, `/readyz`, `/status` and a page for people at `/`.
//!
//! Everything is read-only and shows no item data. The server has no access control, so it belongs on
//! loopback or in a private network.

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::get;
use serde_json::json;

use super::Telemetry;
use super::listener::Bounded;
use super::page::{self, History};
use super::status::Status;
use crate::error::{Error, ErrorKind, Result};

/// How often histograms are folded and the page's history is sampled: more often than Prometheus scrapes
/// (every 15 to 60 seconds), which keeps the samples few.
const UPKEEP: Duration = Duration::from_secs(5);

/// How many samples of lag the page keeps: ten minutes.
const HISTORY_SAMPLES: usize = 120;

/// How long open connections may finish their answers during a shutdown.
const DRAIN: Duration = Duration::from_secs(1);

/// Binds the address, before the rest of the daemon starts.
///
/// # Errors
/// `Config` if the address is taken or not of this machine.
pub fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).map_err(|error| {
        Error::new(ErrorKind::Config, format!("listen on {address}"))
            .with_hint("set `listen` in [telemetry] to another address; port 0 takes any free one")
            .with_source(error)
    })
}

/// Serves until `shutdown` is done; open answers then get a second to finish. `status` is called for each
/// request and must not block.
///
/// # Errors
/// `Unknown` when the listener cannot be used.
pub async fn serve<S, F>(
    listener: TcpListener,
    telemetry: Telemetry,
    status: S,
    shutdown: F,
) -> Result<()>
where
    S: Fn() -> Status + Send + Sync + 'static,
    F: Future<Output = ()> + Send,
{
    let unusable = |error| Error::new(ErrorKind::Unknown, "serve status").with_source(error);
    listener.set_nonblocking(true).map_err(unusable)?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(unusable)?;
    let state = Arc::new(Server { telemetry, status: Box::new(status), history: Mutex::default() });
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = axum::serve(Bounded::new(listener), router(Arc::clone(&state)))
        .with_graceful_shutdown(async move {
            // A dropped sender means the same as a message.
            stopped.await.ok();
        })
        .into_future();
    tokio::pin!(server, shutdown);
    let mut upkeep = tokio::time::interval(UPKEEP);
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            done = &mut server => return done.map_err(unusable),
            _ = upkeep.tick() => state.upkeep(),
        }
    }
    drop(stop);
    match tokio::time::timeout(DRAIN, server).await {
        Ok(done) => done.map_err(unusable),
        Err(_) => Ok(()),
    }
}

struct Server {
    telemetry: Telemetry,
    status: Box<dyn Fn() -> Status + Send + Sync>,
    history: Mutex<History>,
}

impl Server {
    fn upkeep(&self) {
        self.telemetry.run_upkeep();
        let status = (self.status)();
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.retain(|name, _| status.sources.iter().any(|source| source.source == *name));
        for source in &status.sources {
            let Some(lag_secs) = source.lag_secs else { continue };
            let lags = history.entry(source.source.clone()).or_default();
            if lags.len() == HISTORY_SAMPLES {
                lags.pop_front();
            }
            lags.push_back(lag_secs);
        }
    }
}

type Shared = State<Arc<Server>>;

fn router(state: Arc<Server>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .fallback(nothing)
        .with_state(state)
}

async fn index(State(server): Shared) -> Response {
    let status = (server.status)();
    let html = {
        let history = server.history.lock().unwrap_or_else(PoisonError::into_inner);
        page::render(&status, &history)
    };
    // The page needs only its own inline style, and nothing else may run in it.
    let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";
    ([plain(header::CONTENT_SECURITY_POLICY, policy), fresh()], Html(html)).into_response()
}

async fn metrics(State(server): Shared) -> Response {
    let kind = plain(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8");
    ([kind], server.telemetry.render()).into_response()
}

async fn livez(State(server): Shared) -> Response {
    let status = (server.status)();
    health(status.live, json!({ "live": status.live, "reasons": status.reasons }))
}

async fn readyz(State(server): Shared) -> Response {
    let status = (server.status)();
    health(status.ready, json!({ "ready": status.ready, "reasons": status.reasons }))
}

async fn status(State(server): Shared) -> Response {
    ([fresh()], Json((server.status)())).into_response()
}

async fn nothing() -> Response {
    let text = "there is /, /metrics, /livez, /readyz and /status\n";
    (StatusCode::NOT_FOUND, text).into_response()
}

fn health(well: bool, body: serde_json::Value) -> Response {
    let code = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, [fresh()], Json(body)).into_response()
}

fn fresh() -> (HeaderName, HeaderValue) {
    plain(header::CACHE_CONTROL, "no-store")
}

fn plain(name: HeaderName, value: &'static str) -> (HeaderName, HeaderValue) {
    (name, HeaderValue::from_static(value))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;

    use super::*;
    use crate::telemetry::listener::CONNECTIONS_MAX;
    use crate::telemetry::{exposition, status, tests};

    /// Asks a running server for `path`; answers status line and body.
    async fn ask(address: SocketAddr, path: &str) -> (String, String) {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    /// Runs `test` against a server that answers with `status`.
    async fn with_server<T>(status: Status, test: impl AsyncFnOnce(SocketAddr) -> T) -> T {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = serve(listener, tests::sample(), move || status.clone(), async {
            stopped.await.ok();
        });
        let (served, result) = tokio::join!(server, async {
            let result = test(address).await;
            drop(stop);
            result
        });
        served.unwrap();
        result
    }

    #[tokio::test]
    async fn metrics_are_served_in_the_text_format() {
        with_server(status::tests::sample(), async |address| {
            let (head, body) = ask(address, "/metrics").await;
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            assert!(head.contains("text/plain; version=0.0.4"), "{head}");
            assert!(exposition::parse(&body).unwrap().contains_key("dynaurora_halted"));
        })
        .await;
    }

    #[tokio::test]
    async fn a_starting_daemon_is_alive_but_not_ready() {
        with_server(Status::starting(), async |address| {
            let (head, body) = ask(address, "/readyz").await;
            assert!(head.starts_with("HTTP/1.1 503"), "{head}");
            assert_eq!(body, r#"{"ready":false,"reasons":["starting"]}"#);
            assert!(ask(address, "/livez").await.0.starts_with("HTTP/1.1 200"));
            assert!(ask(address, "/nowhere").await.0.starts_with("HTTP/1.1 404"));
        })
        .await;
    }

    #[tokio::test]
    async fn who_opens_many_connections_and_says_nothing_keeps_nobody_from_asking() {
        with_server(status::tests::sample(), async |address| {
            let mut silent = Vec::new();
            for _ in 0..5 * CONNECTIONS_MAX {
                silent.push(tokio::net::TcpStream::connect(address).await.unwrap());
            }
            for _ in 0..3 {
                assert!(ask(address, "/livez").await.0.starts_with("HTTP/1.1 200"));
            }
            let mut end = [0];
            let first = silent.first_mut().unwrap();
            assert_eq!(first.read(&mut end).await.unwrap_or(0), 0, "the oldest had to go");
        })
        .await;
    }

    #[tokio::test]
    async fn status_and_page_show_the_same_and_escape_names() {
        with_server(status::tests::sample(), async |address| {
            let (_, json) = ask(address, "/status").await;
            assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), status::tests::sample());
            assert!(ask(address, "/readyz").await.0.starts_with("HTTP/1.1 200"));
            let (head, html) = ask(address, "/").await;
            assert!(head.contains("default-src 'none'"), "{head}");
            for text in ["santa", "NorthPole", "2025-12-01T08:00:00Z", "&lt;pole&gt;-7"] {
                assert!(html.contains(text), "{text} is not in {html}");
            }
            assert!(!html.contains("<script") && !html.contains("<pole>"), "{html}");
        })
        .await;
    }

    #[test]
    fn a_taken_address_is_an_error_with_a_hint() {
        let taken = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let error = bind(taken.local_addr().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.hint().is_some());
    }
}
