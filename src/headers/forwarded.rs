//! Where a request came from: reading it from trusted proxies, and writing it for upstreams (`X-Forwarded-*` and RFC 7239).
//!
//! Must not decide anything from what an untrusted peer claims: its fields are dropped before ours are written.

use std::fmt::Write as _;
use std::net::IpAddr;

use bytes::Bytes;
use http::header::{FORWARDED, HOST};
use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The networks whose forwarding data is believed; none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Merges overlapping and adjacent networks.
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        TrustedProxies(IpNet::aggregate(&networks.into_iter().collect()))
    }

    /// Whether this address belongs to a trusted proxy. An IPv4 address inside IPv6 counts as the IPv4 address.
    pub fn contains(&self, addr: IpAddr) -> bool {
        let addr = addr.to_canonical();
        self.0.iter().any(|network| network.contains(&addr))
    }

    /// Whether nobody is trusted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The address a request is believed to come from: the peer, unless it is trusted; then the rightmost address of
    /// `X-Forwarded-For` that is not. What cannot be read ends the walk at the last address that could.
    pub fn client_address(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut believed = peer.to_canonical();
        if !self.contains(believed) {
            return believed;
        }
        let lines = headers.get_all(X_FORWARDED_FOR);
        for entry in lines
            .iter()
            .rev()
            .flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','))
        {
            let Some(addr) = std::str::from_utf8(entry).ok().and_then(read_address) else {
                return believed;
            };
            believed = addr;
            if !self.contains(addr) {
                return addr;
            }
        }
        believed
    }
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn read_address(entry: &str) -> Option<IpAddr> {
    let entry = entry.trim();
    let addr = if let Ok(addr) = entry.parse::<IpAddr>() {
        addr
    } else if let Ok(addr) = entry.parse::<std::net::SocketAddr>() {
        addr.ip()
    } else {
        entry
            .strip_prefix('[')?
            .strip_suffix(']')?
            .parse::<std::net::Ipv6Addr>()
            .ok()?
            .into()
    };
    Some(addr.to_canonical())
}

/// The connection a request came in on.
#[derive(Clone, Copy, Debug)]
pub struct Hop<'a> {
    /// The address at its other end.
    pub peer: IpAddr,
    /// `https` or `http`, as the client saw it.
    pub scheme: &'static str,
    /// Host and port as the client named them.
    pub authority: &'a str,
}

/// The forwarding data of a request; empty unless a trusted peer sent it.
#[derive(Debug, Default)]
pub struct Received {
    chain: Option<String>,
    forwarded: Option<String>,
    proto: Option<HeaderValue>,
    host: Option<HeaderValue>,
}

impl Received {
    /// Reads the fields of a trusted peer; call only for one, and before they are removed.
    pub fn from_trusted(headers: &HeaderMap) -> Self {
        let joined = |name: &HeaderName| {
            let lines: Vec<&str> = headers
                .get_all(name)
                .iter()
                .filter_map(|line| line.to_str().ok())
                .map(str::trim)
                .filter(|line| !line.is_empty())
                .collect();
            (!lines.is_empty()).then(|| lines.join(", "))
        };
        // A value that occurs twice has no meaning, so ours is better.
        let single = |name: &HeaderName| {
            let mut lines = headers.get_all(name).iter();
            match (lines.next(), lines.next()) {
                (Some(line), None) if !line.is_empty() => Some(line.clone()),
                _ => None,
            }
        };
        Received {
            chain: joined(&X_FORWARDED_FOR),
            forwarded: joined(&FORWARDED),
            proto: single(&X_FORWARDED_PROTO),
            host: single(&X_FORWARDED_HOST),
        }
    }
}

/// Writes `Host`, `X-Forwarded-For`, `-Proto`, `-Host` and `Forwarded`, appending to what a trusted peer sent.
///
/// `Host` is what the client asked for, not the upstream's own address: applications build links and check `Origin` with
/// it. One buffer holds all texts; the values are slices of it.
pub fn write(headers: &mut HeaderMap, received: Received, hop: &Hop<'_>) {
    let mut text = String::with_capacity(
        160 + 2 * hop.authority.len()
            + received.chain.as_ref().map_or(0, String::len)
            + received.forwarded.as_ref().map_or(0, String::len),
    );
    text.push_str(hop.authority);
    let host_end = text.len();
    // Writing to a String cannot fail.
    if let Some(chain) = &received.chain {
        let _ = write!(text, "{chain}, ");
    }
    let peer_at = text.len();
    push_address(&mut text, hop.peer);
    let chain_end = text.len();
    if let Some(forwarded) = &received.forwarded {
        let _ = write!(text, "{forwarded}, ");
    }
    let (open, close) = match hop.peer {
        IpAddr::V4(_) => ("for=", ";host="),
        IpAddr::V6(_) => ("for=\"[", "]\";host="),
    };
    text.push_str(open);
    text.extend_from_within(peer_at..chain_end);
    text.push_str(close);
    push_token_or_quoted(&mut text, hop.authority);
    text.push_str(";proto=");
    text.push_str(hop.scheme);

    let text = Bytes::from(text);
    let mut put = |name: HeaderName, from: usize, to: usize| {
        match HeaderValue::from_maybe_shared(text.slice(from..to)) {
            Ok(value) => headers.insert(name, value),
            // The authority was no header text: better no field than a client's.
            Err(_) => headers.remove(name),
        };
    };
    put(HOST, 0, host_end);
    put(X_FORWARDED_FOR, host_end, chain_end);
    put(FORWARDED, chain_end, text.len());
    match received.host {
        Some(host) => {
            headers.insert(X_FORWARDED_HOST, host);
        }
        None => put(X_FORWARDED_HOST, 0, host_end),
    }
    headers.insert(
        X_FORWARDED_PROTO,
        received
            .proto
            .unwrap_or(HeaderValue::from_static(hop.scheme)),
    );
}

/// As `Display` writes it; the usual address without the formatting machinery, which every request would pay for.
fn push_address(text: &mut String, addr: IpAddr) {
    let IpAddr::V4(addr) = addr else {
        // Writing to a String cannot fail.
        let _ = write!(text, "{addr}");
        return;
    };
    for (place, octet) in addr.octets().into_iter().enumerate() {
        if place > 0 {
            text.push('.');
        }
        if octet >= 100 {
            text.push(char::from(b'0' + octet / 100));
        }
        if octet >= 10 {
            text.push(char::from(b'0' + octet / 10 % 10));
        }
        text.push(char::from(b'0' + octet % 10));
    }
}

/// RFC 7239 section 4: a value is a token or a quoted string.
fn push_token_or_quoted(text: &mut String, value: &str) {
    let is_token = !value.is_empty()
        && value.bytes().all(|byte| {
            byte.is_ascii_alphanumeric()
                || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
        });
    if is_token {
        text.push_str(value);
        return;
    }
    text.push('"');
    if memchr::memchr2(b'"', b'\\', value.as_bytes()).is_none() {
        text.push_str(value);
        text.push('"');
        return;
    }
    for c in value.chars() {
        if matches!(c, '"' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_written_as_it_is_displayed() {
        for addr in [
            "0.0.0.0",
            "1.2.3.4",
            "9.10.99.100",
            "101.199.200.255",
            "::1",
            "2001:db8::7",
        ] {
            let mut text = String::new();
            push_address(&mut text, addr.parse().unwrap());
            assert_eq!(text, addr);
        }
    }

    fn trusted(networks: &[&str]) -> TrustedProxies {
        TrustedProxies::new(networks.iter().map(|network| network.parse().unwrap()))
    }

    #[track_caller]
    fn check_client(networks: &[&str], peer: &str, lines: &[&str], expected: &str) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(X_FORWARDED_FOR, line.parse().unwrap());
        }
        let addr = trusted(networks).client_address(peer.parse().unwrap(), &headers);
        assert_eq!(addr, expected.parse::<IpAddr>().unwrap());
    }

    #[test]
    fn b01_only_trusted_peers_are_believed() {
        check_client(&[], "192.0.2.9", &["127.0.0.1"], "192.0.2.9");
        check_client(&["10.0.0.0/8"], "192.0.2.9", &["127.0.0.1"], "192.0.2.9");
        check_client(
            &["10.0.0.0/8"],
            "10.1.1.1",
            &["1.1.1.1, 2.2.2.2"],
            "2.2.2.2",
        );
        check_client(
            &["10.0.0.0/8"],
            "10.1.1.1",
            &["1.1.1.1", "2.2.2.2, 10.2.2.2"],
            "2.2.2.2",
        );
        check_client(
            &["10.0.0.0/8"],
            "::ffff:10.1.1.1",
            &["[2001:db8::1]:443"],
            "2001:db8::1",
        );
        check_client(
            &["10.0.0.0/8"],
            "10.1.1.1",
            &["10.3.3.3, 10.2.2.2"],
            "10.3.3.3",
        );
        check_client(
            &["10.0.0.0/8"],
            "10.1.1.1",
            &["1.1.1.1, unknown, 10.2.2.2"],
            "10.2.2.2",
        );
        check_client(&["10.0.0.0/8"], "10.1.1.1", &[], "10.1.1.1");
        check_client(
            &["10.0.0.0/9", "10.128.0.0/9"],
            "10.200.0.1",
            &["4.4.4.4:81"],
            "4.4.4.4",
        );
    }

    fn written(received: Received, peer: &str, authority: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        write(
            &mut headers,
            received,
            &Hop {
                peer: peer.parse().unwrap(),
                scheme: "https",
                authority,
            },
        );
        headers
    }

    #[test]
    fn writes_all_fields_with_rfc_7239_quoting() {
        let headers = written(Received::default(), "192.0.2.1", "app.example.com");
        assert_eq!(headers["host"], "app.example.com");
        assert_eq!(headers["x-forwarded-for"], "192.0.2.1");
        assert_eq!(headers["x-forwarded-host"], "app.example.com");
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert_eq!(
            headers["forwarded"],
            "for=192.0.2.1;host=app.example.com;proto=https"
        );
        let headers = written(Received::default(), "2001:db8::1", "app.example.com:8443");
        assert_eq!(headers["x-forwarded-for"], "2001:db8::1");
        assert_eq!(
            headers["forwarded"],
            "for=\"[2001:db8::1]\";host=\"app.example.com:8443\";proto=https"
        );
    }

    #[test]
    fn appends_to_what_a_trusted_peer_sent() {
        let mut sent = HeaderMap::new();
        sent.append("x-forwarded-for", "1.1.1.1".parse().unwrap());
        sent.append("x-forwarded-for", "2.2.2.2".parse().unwrap());
        sent.append("forwarded", "for=1.1.1.1".parse().unwrap());
        sent.append("x-forwarded-proto", "http".parse().unwrap());
        sent.append("x-forwarded-host", "a".parse().unwrap());
        sent.append("x-forwarded-host", "b".parse().unwrap());
        let headers = written(Received::from_trusted(&sent), "10.0.0.1", "app");
        assert_eq!(headers["x-forwarded-for"], "1.1.1.1, 2.2.2.2, 10.0.0.1");
        assert_eq!(
            headers["forwarded"],
            "for=1.1.1.1, for=10.0.0.1;host=app;proto=https"
        );
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert_eq!(headers["x-forwarded-host"], "app");
    }
}
