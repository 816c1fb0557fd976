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

/// The connection a request came in on, and the name under which it asked for us: what is told of both, ready to be written.
///
/// One client names the same host in all requests of a connection, so this is made once for all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// `Host` and `X-Forwarded-Host`; `None` when the authority is no header text: better no field than a client's.
    host: Option<HeaderValue>,
    /// `X-Forwarded-For` of this hop alone.
    chain: HeaderValue,
    /// `Forwarded` of this hop alone.
    forwarded: Option<HeaderValue>,
}

impl Hop {
    /// `peer` is the address at the connection's other end, `authority` host and port as the client named them. The client
    /// came by https: nothing else reaches an upstream.
    pub fn new(peer: IpAddr, authority: &str) -> Self {
        let peer = peer.to_canonical();
        let mut text = String::with_capacity(160 + 2 * authority.len());
        text.push_str(authority);
        let host_end = text.len();
        // Writing to a String cannot fail.
        let _ = write!(text, "{peer}");
        let chain_end = text.len();
        let (open, close) = match peer {
            IpAddr::V4(_) => ("for=", ";host="),
            IpAddr::V6(_) => ("for=\"[", "]\";host="),
        };
        text.push_str(open);
        text.extend_from_within(host_end..chain_end);
        text.push_str(close);
        push_token_or_quoted(&mut text, authority);
        text.push_str(";proto=https");

        // One buffer holds all texts; the values are slices of it.
        let text = Bytes::from(text);
        let value =
            |from: usize, to: usize| HeaderValue::from_maybe_shared(text.slice(from..to)).ok();
        Hop {
            host: value(0, host_end),
            // An address is always header text.
            chain: value(host_end, chain_end).unwrap_or(HeaderValue::from_static("unknown")),
            forwarded: value(chain_end, text.len()),
        }
    }
}

/// The forwarding data of a request; empty unless a trusted peer sent it.
#[derive(Clone, Debug, Default)]
pub struct Received {
    chain: Option<String>,
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
            proto: single(&X_FORWARDED_PROTO),
            host: single(&X_FORWARDED_HOST),
        }
    }

    /// The same as elements of `Forwarded` (RFC 7239 section 4): one for each address, and with the first, which is nearest
    /// to the client, what it asked for.
    fn elements(&self) -> Option<String> {
        let chain = self.chain.as_deref()?;
        let mut text = String::with_capacity(2 * chain.len() + 64);
        for (index, entry) in chain.split(',').enumerate() {
            if index > 0 {
                text.push_str(", ");
            }
            // Writing to a String cannot fail.
            let _ = match read_address(entry) {
                Some(IpAddr::V4(addr)) => write!(text, "for={addr}"),
                Some(IpAddr::V6(addr)) => write!(text, "for=\"[{addr}]\""),
                None => write!(text, "for=unknown"),
            };
            if index == 0 {
                for (name, value) in [(";host=", &self.host), (";proto=", &self.proto)] {
                    if let Some(value) = value.as_ref().and_then(|value| value.to_str().ok()) {
                        text.push_str(name);
                        push_token_or_quoted(&mut text, value);
                    }
                }
            }
        }
        Some(text)
    }
}

/// Writes `Host`, `X-Forwarded-For`, `-Proto`, `-Host` and `Forwarded`, appending to what a trusted peer sent.
///
/// `Forwarded` is written from the same values as the others, so that no app is told two stories: a proxy that keeps
/// `X-Forwarded-For` mostly passes on whatever `Forwarded` its client made up.
///
/// `Host` is what the client asked for, not the upstream's own address: applications build links and check `Origin` with
/// it.
pub fn write(headers: &mut HeaderMap, received: &Received, hop: &Hop) {
    put(headers, HOST, hop.host.clone());
    let chain = appended(received.chain.as_deref(), Some(&hop.chain));
    put(headers, X_FORWARDED_FOR, chain);
    let earlier = received.elements();
    let forwarded = appended(earlier.as_deref(), hop.forwarded.as_ref());
    put(headers, FORWARDED, forwarded);
    let host = received.host.as_ref().or(hop.host.as_ref());
    put(headers, X_FORWARDED_HOST, host.cloned());
    let proto = received.proto.clone().unwrap_or(HTTPS);
    headers.insert(X_FORWARDED_PROTO, proto);
}

const HTTPS: HeaderValue = HeaderValue::from_static("https");

fn put(headers: &mut HeaderMap, name: HeaderName, value: Option<HeaderValue>) {
    match value {
        Some(value) => headers.insert(name, value),
        None => headers.remove(name),
    };
}

/// `ours` behind what a trusted peer sent.
fn appended(received: Option<&str>, ours: Option<&HeaderValue>) -> Option<HeaderValue> {
    let (received, ours) = match (received, ours) {
        (None, ours) => return ours.cloned(),
        (Some(_), None) => return None,
        (Some(received), Some(ours)) => (received.as_bytes(), ours.as_bytes()),
    };
    HeaderValue::from_bytes(&[received, b", ", ours].concat()).ok()
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
        let hop = Hop::new(peer.parse().unwrap(), authority);
        write(&mut headers, &received, &hop);
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
            "for=1.1.1.1;proto=http, for=2.2.2.2, for=10.0.0.1;host=app;proto=https"
        );
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert_eq!(headers["x-forwarded-host"], "app");
    }

    #[test]
    fn forwarded_tells_the_same_as_the_others() {
        let check = |chain: &str, forwarded: &str, want: &str| {
            let mut sent = HeaderMap::new();
            for (name, value) in [("x-forwarded-for", chain), ("forwarded", forwarded)] {
                if !value.is_empty() {
                    sent.append(name, value.parse().unwrap());
                }
            }
            sent.append("x-forwarded-host", "app:8443".parse().unwrap());
            let headers = written(Received::from_trusted(&sent), "10.0.0.1", "app");
            assert_eq!(headers["forwarded"], want);
        };
        let ours = "for=10.0.0.1;host=app;proto=https";
        check(
            "[2001:db8::1]:80, junk;x=\"y, 192.0.2.1:9",
            "",
            &format!("for=\"[2001:db8::1]\";host=\"app:8443\", for=unknown, for=192.0.2.1, {ours}"),
        );
        // What a client made up and a proxy passed on.
        check(
            "192.0.2.1",
            "for=127.0.0.1",
            &format!("for=192.0.2.1;host=\"app:8443\", {ours}"),
        );
        check("", "for=127.0.0.1", ours);
    }
}
