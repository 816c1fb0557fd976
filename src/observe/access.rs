//! The access line: one per request, with what an operator needs to find it again and nothing that lets anybody in.
//!
//! The type has no field for a header, a cookie, a query or a body; the query is cut off should one come along with the
//! path (reset links and OAuth codes live there).

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::{ClientAddr, SessionId};
use crate::clock::Timestamp;
use crate::observe::Format;
use crate::observe::line::Line;
use crate::observe::metrics::Stream;
use crate::observe::writer::Lines;

/// Everything one access line says.
#[derive(Clone, Debug)]
pub struct AccessLine<'a> {
    /// When the request arrived.
    pub time: Timestamp,
    /// The id that the upstream and the client saw, too.
    pub request_id: &'a str,
    /// Who asked, after `trusted_proxies`.
    pub client: ClientAddr,
    /// `HTTP/1.1`, `HTTP/2.0`.
    pub protocol: &'static str,
    /// As received.
    pub method: &'a str,
    /// The authority's host.
    pub host: &'a str,
    /// As received; whatever follows a `?` is not written.
    pub path: &'a str,
    /// The route's host and prefix, when one matched.
    pub route: Option<&'a str>,
    /// The answer's status.
    pub status: u16,
    /// What became of the request, in one word of the gateway.
    pub outcome: &'a str,
    /// Why it was refused before it could be decided about: a sentence of the gateway.
    pub reason: Option<&'static str>,
    /// Whose request it was.
    pub user: Option<&'a str>,
    /// In which session: what audit lines speak about.
    pub session: Option<SessionId>,
    /// Request read until answer's head written.
    pub total: Duration,
    /// Of that, waiting for the upstream.
    pub upstream: Option<Duration>,
}

impl AccessLine<'_> {
    /// Writes the line.
    pub fn write(&self, log: &AccessLog) {
        thread_local! {
            // Scratch space of the worker, no state: a line is built without allocating.
            static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        BUFFER.with_borrow_mut(|buffer| {
            buffer.clear();
            self.append(buffer, log.format);
            log.lines.push(Stream::Access, buffer);
        });
    }

    fn append(&self, buffer: &mut Vec<u8>, format: Format) {
        let path = self.path.split('?').next().unwrap_or_default();
        let mut line = Line::begin(buffer, format, self.time, "access");
        line.text("request_id", self.request_id)
            .display("client", self.client.0)
            .text("protocol", self.protocol)
            .text("method", self.method)
            .text("host", self.host)
            .text("path", path)
            .maybe("route", self.route)
            .number("status", u64::from(self.status))
            .text("outcome", self.outcome)
            .maybe("reason", self.reason)
            .maybe("user", self.user);
        if let Some(session) = self.session {
            line.display("session", session);
        }
        line.millis("total_ms", self.total);
        if let Some(upstream) = self.upstream {
            line.millis("upstream_ms", upstream);
        }
        line.end();
    }
}

/// Where access lines go. One per process; clones share it.
#[derive(Clone)]
pub struct AccessLog {
    lines: Arc<Lines>,
    format: Format,
}

impl AccessLog {
    /// Over a writer.
    pub fn new(lines: Arc<Lines>, format: Format) -> Self {
        AccessLog { lines, format }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn line<'a>(method: &'a str, host: &'a str, path: &'a str, user: &'a str) -> AccessLine<'a> {
        AccessLine {
            time: Timestamp::from_secs(1_795_309_323),
            request_id: "0193",
            client: ClientAddr(IpAddr::V6(Ipv6Addr::LOCALHOST)),
            protocol: "HTTP/1.1",
            method,
            host,
            path,
            route: Some("app.example.com/"),
            status: 200,
            outcome: "forwarded",
            reason: None,
            user: Some(user),
            session: Some(SessionId::from_bytes([7; 16])),
            total: Duration::from_micros(1500),
            upstream: Some(Duration::from_micros(1200)),
        }
    }

    fn written(line: &AccessLine<'_>, format: Format) -> String {
        let mut buffer = Vec::new();
        line.append(&mut buffer, format);
        String::from_utf8(buffer).unwrap()
    }

    #[test]
    fn the_query_is_never_written() {
        let text = written(
            &line("GET", "app.example.com", "/reset?token=s3cret", "alice"),
            Format::Text,
        );
        assert_eq!(
            text,
            "2026-11-22T01:02:03.000Z access request_id=0193 client=::1 protocol=HTTP/1.1 method=GET host=app.example.com \
             path=/reset route=app.example.com/ status=200 outcome=forwarded user=alice session=BwcHBwcHBwcHBwcHBwcHBw \
             total_ms=1.500 upstream_ms=1.200\n"
        );
    }

    proptest! {
        #[test]
        fn every_access_line_is_one_line_of_valid_json(
            method in prop::collection::vec(any::<u8>(), 0..64),
            host in prop::collection::vec(any::<u8>(), 0..300),
            path in prop::collection::vec(any::<u8>(), 0..3000),
            user in ".{0,100}",
        ) {
            let (method, host, path) = (
                String::from_utf8_lossy(&method),
                String::from_utf8_lossy(&host),
                String::from_utf8_lossy(&path),
            );
            let text = written(&line(&method, &host, &path, &user), Format::Json);
            prop_assert_eq!(text.matches('\n').count(), 1);
            let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(parsed["user"].as_str(), Some(&*user));
            prop_assert_eq!(parsed["host"].as_str(), Some(&*host));
            prop_assert_eq!(parsed.as_object().unwrap().len(), 15);
        }
    }
}
