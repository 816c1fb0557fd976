//! The plain listener: answers 308 to https, nothing else. The origin comes from the configuration, never from `Host`.
//!
//! One bounded read, one answer, close: it keeps no state and needs no HTTP library.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use memchr::memmem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::target::TARGET_BYTES;
use super::{Limits, door};

const CONNECTIONS: usize = 256;
/// Longest head that is read; what matters stands in its first line.
const HEAD_BYTES: usize = 16 << 10;
const LINGER: Duration = Duration::from_secs(1);

/// Redirects until `shutdown`.
pub(super) async fn serve(
    listener: TcpListener,
    origin: Arc<str>,
    limits: Limits,
    shutdown: CancellationToken,
) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS.min(limits.connections.max(1))));
    door::each(&listener, &permits, &shutdown, |stream, _, permit| {
        let origin = Arc::clone(&origin);
        // Head, answer and farewell together; the answer is small enough to fit any socket buffer.
        let patience = limits.header_timeout;
        tokio::spawn(async move {
            let _ = tokio::time::timeout(patience, answer(stream, &origin)).await;
            drop(permit);
        });
        Ok(())
    })
    .await;
}

async fn answer(mut stream: TcpStream, origin: &str) -> io::Result<()> {
    let mut head = Vec::new();
    let mut some = [0; 2048];
    while memmem::find(&head, b"\n\r\n").is_none() && memmem::find(&head, b"\n\n").is_none() {
        let read = stream.read(&mut some).await?;
        head.extend_from_slice(some.get(..read).unwrap_or_default());
        if read == 0 || head.len() > HEAD_BYTES {
            break;
        }
    }
    if head.is_empty() {
        return Ok(());
    }
    let answer = match path(&head) {
        Some(path) => format!(
            "HTTP/1.1 308 Permanent Redirect\r\nLocation: {origin}{path}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        ),
        None => {
            "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned()
        }
    };
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    // The rest of the request, so that closing does not reset the connection before the answer was read.
    let drain = async {
        let mut left = 64;
        while left > 0 && stream.read(&mut some).await? > 0 {
            left -= 1;
        }
        io::Result::Ok(())
    };
    let _ = tokio::time::timeout(LINGER, drain).await;
    Ok(())
}

/// Path and query of a request head, when they can stand in a `Location` as they are.
fn path(head: &[u8]) -> Option<&str> {
    let line = head.split(|&byte| byte == b'\n').next()?;
    let line = std::str::from_utf8(line.strip_suffix(b"\r")?).ok()?;
    let mut parts = line.split(' ');
    let (method, target, version) = (parts.next()?, parts.next()?, parts.next()?);
    let target = match target.split_at_checked("http://".len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http://") => {
            rest.get(rest.find('/').unwrap_or(rest.len())..)?
        }
        _ => target,
    };
    let target = if target.is_empty() { "/" } else { target };
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/?[]@!$&'()*+,;=%".contains(&byte);
    (parts.next().is_none()
        && !method.is_empty()
        && version.starts_with("HTTP/1.")
        && target.starts_with('/')
        && target.len() <= TARGET_BYTES
        && target.bytes().all(safe))
    .then_some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_path_is_taken_from_the_request() {
        let check = |line: &str, want: Option<&str>| {
            assert_eq!(
                path(format!("{line}\r\nHost: evil\r\n\r\n").as_bytes()),
                want,
                "{line:?}"
            );
        };
        check("GET / HTTP/1.1", Some("/"));
        check("POST /a//b?c=%0d%0a HTTP/1.0", Some("/a//b?c=%0d%0a"));
        check("GET http://evil/x HTTP/1.1", Some("/x"));
        check("GET http://evil HTTP/1.1", Some("/"));
        check("GET //evil/x HTTP/1.1", Some("//evil/x"));
        for bad in [
            "GET @evil HTTP/1.1",
            "GET evil HTTP/1.1",
            "GET .evil HTTP/1.1",
            "GET :x@evil HTTP/1.1",
            "GET /\\evil HTTP/1.1",
            "GET /a\tb HTTP/1.1",
            "GET /a b HTTP/1.1",
            "GET / HTTP/2.0",
            "GET /",
            "",
            "GET /\r HTTP/1.1",
            "GET https://evil/ HTTP/1.1",
            "GET * HTTP/1.1",
        ] {
            check(bad, None);
        }
    }
}
