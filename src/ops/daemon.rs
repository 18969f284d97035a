//! Asks a running daemon over HTTP: one small request, one answer of limited size.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::error::{Error, ErrorKind, Result};

/// How long the daemon may take to answer. It answers from memory, and health checks of container platforms
/// give up after 5 seconds.
const ANSWER: Duration = Duration::from_secs(3);

/// The longest answer that is read: enough for the status of ten thousand shards.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// A daemon's answer.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status code.
    pub code: u16,
    /// The body.
    pub body: String,
}

/// Gets `path` from the daemon that listens on `listen`.
///
/// # Errors
/// `Unreachable` when no daemon answers there, or something else does.
pub async fn ask(listen: SocketAddr, path: &str) -> Result<Answer> {
    let address = reachable(listen);
    let text = match tokio::time::timeout(ANSWER, exchange(address, path)).await {
        Ok(Ok(text)) => text,
        Ok(Err(error)) => return Err(silent(address).with_source(error)),
        Err(elapsed) => return Err(silent(address).with_source(elapsed)),
    };
    parse(&text).ok_or_else(|| {
        Error::new(ErrorKind::Unreachable, format!("the program on {address} is not dynaurora"))
            .with_hint("pass the daemon's address with `--listen`")
    })
}

/// A daemon that listens on every address is asked on loopback.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// HTTP/1.0, so that the answer is never chunked and ends with the connection.
async fn exchange(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.0\r\nhost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut text).await?;
    Ok(text)
}

fn silent(address: SocketAddr) -> Error {
    Error::new(ErrorKind::Unreachable, format!("no daemon answers on {address}")).with_hint(
        "start one with `dynaurora run`; if it has another address, name its config with \
         `--config`, or pass the address with `--listen`",
    )
}

fn parse(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let line = head.lines().next()?.strip_prefix("HTTP/1.")?;
    let code = line.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { code, body: body.to_owned() })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An address on which nothing listens.
    pub(crate) fn nobody() -> SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    }

    /// Runs `test` against a listener that gives every caller the same answer.
    pub(crate) async fn with_answer<T>(
        answer: String,
        test: impl AsyncFnOnce(SocketAddr) -> T,
    ) -> T {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = async {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                let _read = stream.read(&mut request).await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        };
        tokio::select! {
            () = serving => unreachable!("it serves for ever"),
            result = test(address) => result,
        }
    }

    #[tokio::test]
    async fn a_daemon_that_is_not_there_or_not_ours_is_unreachable() {
        let error = ask(nobody(), "/livez").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable);
        assert!(error.hint().unwrap().contains("dynaurora run"));
        let error = with_answer("SSH-2.0\r\n".into(), async |address| {
            ask(address, "/livez").await.unwrap_err()
        })
        .await;
        assert!(error.to_string().contains("is not dynaurora"), "{error}");
    }

    #[test]
    fn every_address_means_loopback() {
        let asked = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(asked("0.0.0.0:9187"), "127.0.0.1:9187");
        assert_eq!(asked("[::]:9187"), "[::1]:9187");
        assert_eq!(asked("10.0.0.1:9187"), "10.0.0.1:9187");
    }
}
