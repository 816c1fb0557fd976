//! The plain listener: answers 308 to https, nothing else. Where to comes from the configuration: `Host` chooses among the
//! hosts that are served, and one that is not is never repeated.
//!
//! One bounded read, one answer, close: it keeps no state and needs no HTTP library.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use memchr::memmem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::Limits;
use super::target::{TARGET_BYTES, host_and_port};
use crate::door;

const CONNECTIONS: usize = 256;
/// Longest head that is read; what matters stands in its first line.
const HEAD_BYTES: usize = 16 << 10;
const LINGER: Duration = Duration::from_secs(1);

/// Where the redirect may lead: origins of the configuration, each `https://host[:port]`.
#[derive(Debug)]
pub(super) struct Origins {
    /// Of a request that names no host, or none that is served.
    pub(super) fallback: String,
    /// By host.
    pub(super) of_host: BTreeMap<String, String>,
}

impl Origins {
    /// The first lines of the answer. A browser keeps a 308 for good, so one that only leads away from a host that is not
    /// served must not be kept: the host may be served tomorrow.
    fn answer(&self, asked: &Asked<'_>) -> String {
        let own = asked
            .host
            .as_deref()
            .and_then(|host| self.of_host.get(host));
        let (origin, kept) = match own {
            Some(origin) => (origin, ""),
            None => (&self.fallback, "Cache-Control: no-store\r\n"),
        };
        let target = asked.target;
        format!("HTTP/1.1 308 Permanent Redirect\r\nLocation: {origin}{target}\r\n{kept}")
    }
}

/// Redirects until `shutdown`.
pub(super) async fn serve(
    listener: TcpListener,
    origins: Arc<Origins>,
    limits: Limits,
    shutdown: CancellationToken,
) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS.min(limits.connections.max(1))));
    door::each(&listener, &permits, &shutdown, |(stream, _), permit| {
        let origins = Arc::clone(&origins);
        // Head, answer and farewell together; the answer is small enough to fit any socket buffer.
        let patience = limits.header_timeout;
        tokio::spawn(async move {
            let _ = tokio::time::timeout(patience, answer(stream, &origins)).await;
            drop(permit);
        });
        Ok(())
    })
    .await;
}

async fn answer(mut stream: TcpStream, origins: &Origins) -> io::Result<()> {
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
    let mut answer = match asked(&head) {
        Some(asked) => origins.answer(&asked),
        None => "HTTP/1.1 400 Bad Request\r\n".to_owned(),
    };
    answer.push_str("Content-Length: 0\r\nConnection: close\r\n\r\n");
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

/// What a request head asks for.
#[derive(Debug)]
struct Asked<'a> {
    /// Whose: lower case, without port; `None` when the head does not name exactly one valid host.
    host: Option<Box<str>>,
    /// Path and query, as they can stand in a `Location`.
    target: &'a str,
}

/// Reads a request head; `None` when it is no request whose target can stand in a `Location` as it is.
fn asked(head: &[u8]) -> Option<Asked<'_>> {
    let mut lines = head.split(|&byte| byte == b'\n');
    let line = std::str::from_utf8(lines.next()?.strip_suffix(b"\r")?).ok()?;
    let mut parts = line.split(' ');
    let (method, target, version) = (parts.next()?, parts.next()?, parts.next()?);
    // A target with a host overrides `Host` (RFC 9112 section 3.2.2).
    let (named, target) = match target.split_at_checked("http://".len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http://") => {
            let (named, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            (Some(named.as_bytes()), path)
        }
        _ => (None, target),
    };
    let target = if target.is_empty() { "/" } else { target };
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/?[]@!$&'()*+,;=%".contains(&byte);
    let fine = parts.next().is_none()
        && !method.is_empty()
        && version.starts_with("HTTP/1.")
        && target.starts_with('/')
        && target.len() <= TARGET_BYTES
        && target.bytes().all(safe);
    fine.then(|| Asked {
        host: named
            .or_else(|| only_host(lines))
            .and_then(|named| host_and_port(named).ok())
            .map(|(host, _)| host),
        target,
    })
}

/// The value of `Host`, when there is exactly one in a head that is whole.
fn only_host<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Option<&'a [u8]> {
    let mut host = None;
    for line in lines {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return host;
        }
        let colon = memchr::memchr(b':', line)?;
        let (name, value) = line.split_at(colon);
        if name.eq_ignore_ascii_case(b"host")
            && host.replace(value.get(1..)?.trim_ascii()).is_some()
        {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_path_is_taken_from_the_request() {
        let check = |line: &str, want: Option<&str>| {
            assert_eq!(
                asked(format!("{line}\r\nHost: evil\r\n\r\n").as_bytes()).map(|asked| asked.target),
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

    #[test]
    fn a_host_that_is_served_stays_and_no_other_is_repeated() {
        let origins = Origins {
            fallback: "https://app.test:8443".into(),
            of_host: [
                ("app.test".into(), "https://app.test:8443".into()),
                ("wiki.test".into(), "https://wiki.test:8443".into()),
            ]
            .into(),
        };
        let check = |target: &str, fields: &str, (origin, kept): (&str, bool)| {
            let head = format!("GET {target} HTTP/1.1\r\n{fields}\r\n");
            let answer = origins.answer(&asked(head.as_bytes()).unwrap());
            let location = format!("\r\nLocation: {origin}/x?y\r\n");
            assert!(answer.contains(&location), "{head:?}: {answer}");
            assert_eq!(!answer.contains("no-store"), kept, "{head:?}: {answer}");
        };
        let app = ("https://app.test:8443", true);
        let wiki = ("https://wiki.test:8443", true);
        let fallback = ("https://app.test:8443", false);
        check("/x?y", "Host: app.test\r\n", app);
        check("/x?y", "Host: wiki.test\r\n", wiki);
        check("/x?y", "Accept: */*\r\nhOST:\tWIKI.test:80 \r\n", wiki);
        check("http://wiki.test:80/x?y", "Host: app.test\r\n", wiki);
        check("http://evil.test/x?y", "Host: wiki.test\r\n", fallback);
        for fields in [
            "",
            "Host:\r\n",
            "Host: evil.test\r\n",
            "Host: sub.wiki.test\r\n",
            "Host: wiki.test.evil.test\r\n",
            "Host: wiki.test@evil.test\r\n",
            "Host: wiki.test/../evil.test\r\n",
            "Host: wiki.test\r\nHost: app.test\r\n",
            "Host: wiki.test, app.test\r\n",
            "Host : wiki.test\r\n",
            "Host: wiki.test\0\r\n",
            "X: y\r\nno field\r\nHost: wiki.test\r\n",
            "\r\nHost: wiki.test\r\n",
        ] {
            check("/x?y", fields, fallback);
        }
    }
}
