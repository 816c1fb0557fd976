//! Whom a request is addressed to and what it asks for: the rules on authority and target that HTTP/1 and HTTP/2 share,
//! and the check of a whole HTTP/2 request. Paths are not judged here, only passed on as received.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, Request};

use super::refusal::Refusal;
use super::{Addressed, Authority, Limits, RawTarget};
use crate::headers::forwarded::Hop;

/// Longest request target (414).
pub(super) const TARGET_BYTES: usize = 8 << 10;

/// Reads the authorities of one connection's requests. They name the same one nearly always, so the last is remembered.
#[derive(Debug)]
pub(super) struct Authorities {
    peer: IpAddr,
    last: Option<(Box<[u8]>, Arc<Authority>)>,
}

impl Authorities {
    pub(super) fn new(peer: IpAddr) -> Self {
        Authorities { peer, last: None }
    }

    /// Reads `host[:port]`.
    pub(super) fn read(&mut self, text: &[u8]) -> Result<Arc<Authority>, Refusal> {
        if let Some((known, authority)) = &self.last
            && **known == *text
        {
            return Ok(Arc::clone(authority));
        }
        let (host, port) = host_and_port(text)?;
        let named = match port {
            Some(port) => format!("{host}:{port}"),
            None => host.to_string(),
        };
        let hop = Hop::new(self.peer, &named);
        let authority = Arc::new(Authority { host, port, hop });
        self.last = Some((text.into(), Arc::clone(&authority)));
        Ok(authority)
    }
}

/// Reads `host[:port]`: no userinfo, no path, no list, nothing that is not a host.
pub(super) fn host_and_port(text: &[u8]) -> Result<(Box<str>, Option<u16>), Refusal> {
    const HOST: Refusal = Refusal::bad("the host of this request is not a valid `host[:port]`");
    let text = std::str::from_utf8(text).map_err(|_| HOST)?;
    let (host, port): (Box<str>, _) = if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']').ok_or(HOST)?;
        let address: std::net::Ipv6Addr = address.parse().map_err(|_| HOST)?;
        (format!("[{address}]").into(), port)
    } else {
        let (host, port) = text.split_at(text.find(':').unwrap_or(text.len()));
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        if host.is_empty()
            || host.len() > 255
            || host.starts_with('.')
            || host.contains("..")
            || !host.bytes().all(valid)
        {
            return Err(HOST);
        }
        (host.to_ascii_lowercase().into(), port)
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => None,
        Some(digits) if digits.len() <= 5 && digits.bytes().all(|b| b.is_ascii_digit()) => {
            match digits.parse::<u16>() {
                Ok(port @ 1..) => Some(port),
                _ => return Err(HOST),
            }
        }
        _ => return Err(HOST),
    };
    Ok((host, port))
}

/// Reads the request target of `method`: origin-form, or absolute-form for the same `authority`. Returns path and query
/// as received.
pub(super) fn target<'a>(
    method: &[u8],
    text: &'a [u8],
    authority_of_host: &Authority,
) -> Result<&'a str, Refusal> {
    method_is_available(method)?;
    if text.len() > TARGET_BYTES {
        return Err(Refusal::TARGET_TOO_LONG);
    }
    // As in `is_value`.
    if !text.iter().fold(true, |fine, &byte| {
        fine & (byte.wrapping_sub(b'!') <= b'~' - b'!') & (byte != b'#')
    }) {
        return Err(Refusal::bad(
            "the request target has a character that does not belong there",
        ));
    }
    let text =
        std::str::from_utf8(text).map_err(|_| Refusal::bad("the request target is not ASCII"))?;
    if text.starts_with('/') {
        return Ok(text);
    }
    if text == "*" {
        return Err(if method == b"OPTIONS" {
            Refusal::METHOD
        } else {
            Refusal::bad("only OPTIONS can ask for `*`")
        });
    }
    const SCHEME: &str = "https://";
    let rest = match text.split_at_checked(SCHEME.len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(SCHEME) => rest,
        _ => {
            return Err(Refusal::bad(
                "the request target does not begin with a slash",
            ));
        }
    };
    let (named, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = host_and_port(named.as_bytes())?;
    let or_default = |port: Option<u16>| port.unwrap_or(443);
    if host != authority_of_host.host || or_default(port) != or_default(authority_of_host.port) {
        return Err(Refusal::bad(
            "the request target and `Host` name different hosts",
        ));
    }
    Ok(if path.is_empty() { "/" } else { path })
}

/// TRACE echoes secrets and CONNECT opens tunnels to anywhere: neither belongs to a gateway.
fn method_is_available(method: &[u8]) -> Result<(), Refusal> {
    match method {
        b"TRACE" | b"CONNECT" => Err(Refusal::METHOD),
        _ => Ok(()),
    }
}

/// True for the bytes that a field value may have: visible ASCII, space, tab.
pub(super) fn is_value(value: &[u8]) -> bool {
    // No early end: cookies are long and nearly always fine, and without one the compiler compares many bytes at once.
    value.iter().fold(true, |fine, &byte| {
        fine & ((byte.wrapping_sub(b' ') <= b'~' - b' ') | (byte == b'\t'))
    })
}

/// Holds an HTTP/2 request to the same rules as HTTP/1, and joins its cookie crumbs (RFC 9113 section 8.2.3).
pub(super) fn check_http2<B>(
    request: &mut Request<B>,
    authorities: &mut Authorities,
    limits: &Limits,
) -> Result<Addressed, Refusal> {
    let uri = request.uri();
    if request.method() == Method::CONNECT {
        return Err(Refusal::METHOD);
    }
    if uri.scheme_str() != Some("https") {
        return Err(Refusal::bad("`:scheme` is not https"));
    }
    let authority = match uri.authority() {
        Some(text) => authorities.read(text.as_str().as_bytes())?,
        None => return Err(Refusal::bad("`:authority` is missing")),
    };
    let path = uri.path_and_query().map_or("/", |target| target.as_str());
    let path = target(
        request.method().as_str().as_bytes(),
        path.as_bytes(),
        &authority,
    )?;
    let path = RawTarget(path.into());
    check_http2_fields(request.headers(), &authority, limits)?;
    join_cookies(request.headers_mut())?;
    Ok(Addressed {
        authority,
        target: path,
    })
}

fn check_http2_fields(
    headers: &HeaderMap,
    authority_of_stream: &Authority,
    limits: &Limits,
) -> Result<(), Refusal> {
    if headers.len() > limits.headers {
        return Err(Refusal::TOO_MANY_HEADERS);
    }
    let mut hosts = headers.get_all(HOST).iter();
    if let Some(host) = hosts.next()
        && (hosts.next().is_some()
            || host_and_port(host.as_bytes())?
                != (authority_of_stream.host.clone(), authority_of_stream.port))
    {
        return Err(Refusal::bad("`Host` and `:authority` differ"));
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    if let Some(length) = lengths.next()
        && (lengths.next().is_some() || content_length(length.as_bytes()).is_none())
    {
        return Err(Refusal::bad("`Content-Length` is not one number"));
    }
    let of_connection = [CONNECTION, TRANSFER_ENCODING, UPGRADE];
    if of_connection.iter().any(|name| headers.contains_key(name))
        || headers.contains_key("keep-alive")
        || headers.contains_key("proxy-connection")
    {
        return Err(Refusal::bad("HTTP/2 has no connection header fields"));
    }
    if headers
        .get_all(TE)
        .iter()
        .any(|te| !te.as_bytes().eq_ignore_ascii_case(b"trailers"))
    {
        return Err(Refusal::bad("`TE` may only be `trailers`"));
    }
    if !headers
        .values()
        .all(|value| is_field_value(value.as_bytes()))
    {
        return Err(Refusal::bad(
            "a header value has a byte that does not belong there",
        ));
    }
    if headers
        .keys()
        .any(|name| resembles_framing(name.as_str().as_bytes()))
    {
        return Err(Refusal::bad(
            "a header name could be read as one that frames the body",
        ));
    }
    headers
        .get_all(EXPECT)
        .iter()
        .try_for_each(|value| expect(value.as_bytes()))
}

/// As [`is_value`], and with nothing blank at either end: HTTP/2 has no white space around values (RFC 9113 section 8.2.1).
fn is_field_value(value: &[u8]) -> bool {
    is_value(value) && value.trim_ascii().len() == value.len()
}

/// Whether a lax server could read `name` as `wanted` (lower case): without case, and with any character that is no letter
/// and no digit for `-`, as CGI and its heirs do.
pub(super) fn reads_as(name: &[u8], wanted: &[u8]) -> bool {
    name.len() == wanted.len()
        && name.iter().zip(wanted).all(|(byte, wanted)| {
            byte.eq_ignore_ascii_case(wanted) || (*wanted == b'-' && !byte.is_ascii_alphanumeric())
        })
}

/// A name that is not, but could be read as, one that says where a body ends.
fn resembles_framing(name: &[u8]) -> bool {
    [&b"content-length"[..], b"transfer-encoding"]
        .iter()
        .any(|framing| name != *framing && reads_as(name, framing))
}

/// The one expectation there is (RFC 9110 section 10.1.1).
pub(super) fn expect(value: &[u8]) -> Result<(), Refusal> {
    if value.eq_ignore_ascii_case(b"100-continue") {
        Ok(())
    } else {
        Err(Refusal::EXPECTATION)
    }
}

fn join_cookies(headers: &mut HeaderMap) -> Result<(), Refusal> {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return Ok(());
    }
    let crumbs: Vec<&[u8]> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    let joined = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
        .map_err(|_| Refusal::bad("the cookies cannot be joined"))?;
    headers.insert(COOKIE, joined);
    Ok(())
}

/// One to nineteen digits, so that it always fits.
pub(super) fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(text: &[u8]) -> Result<Arc<Authority>, Refusal> {
        Authorities::new([192, 0, 2, 1].into()).read(text)
    }

    fn check_http2<B>(request: &mut Request<B>) -> Result<Addressed, Refusal> {
        let mut authorities = Authorities::new([192, 0, 2, 1].into());
        super::check_http2(request, &mut authorities, &Limits::default())
    }

    #[test]
    fn an_authority_is_remembered_until_another_is_named() {
        let mut authorities = Authorities::new([192, 0, 2, 1].into());
        let first = authorities.read(b"App:443").unwrap();
        assert!(Arc::ptr_eq(&first, &authorities.read(b"App:443").unwrap()));
        assert_eq!(first, authorities.read(b"app:443").unwrap());
        assert!(authorities.read(b"app:0").is_err());
        let other = authorities.read(b"app").unwrap();
        assert_ne!(first, other);
        assert_ne!(first.hop, other.hop);
        assert_eq!(first, authorities.read(b"App:443").unwrap());
    }

    #[test]
    fn authorities() {
        let check = |text: &str, want: Option<(&str, Option<u16>)>| {
            let got = authority(text.as_bytes()).ok();
            let got = got.as_ref().map(|found| (&*found.host, found.port));
            assert_eq!(got, want, "{text:?}");
        };
        check("App.Example.com", Some(("app.example.com", None)));
        check("localhost:8443", Some(("localhost", Some(8443))));
        check("127.0.0.1:65535", Some(("127.0.0.1", Some(65535))));
        check("[::0001]:443", Some(("[::1]", Some(443))));
        check("[::1]", Some(("[::1]", None)));
        for bad in [
            "",
            ":443",
            "h:",
            "h:0",
            "h:65536",
            "h:+1",
            "h:1:2",
            "h:x",
            "user@h",
            "h/path",
            "a, b",
            "a,b",
            "h?x",
            "h#x",
            "h\\x",
            " h",
            "h ",
            "[::1",
            "[::1]x",
            "[zz]",
            "::1",
            "h%41",
            "..",
            "a..b",
            ".a",
            "hé",
            "h\t",
            "h:99999999999",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn targets() {
        let host = authority(b"app.example.com").unwrap();
        let check = |method: &str, text: &str, want: Result<&str, u16>| {
            let got = target(method.as_bytes(), text.as_bytes(), &host);
            assert_eq!(
                got.map_err(|refusal| refusal.status.as_u16()),
                want,
                "{text:?}"
            );
        };
        check("GET", "/a/../b//c\\%2f?d=%00", Ok("/a/../b//c\\%2f?d=%00"));
        check("GET", "HTTPS://APP.example.com:443/x", Ok("/x"));
        check("GET", "https://app.example.com", Ok("/"));
        check("GET", "https://evil.example/x", Err(400));
        check("GET", "https://app.example.com:8443/", Err(400));
        check("GET", "http://app.example.com/", Err(400));
        check("GET", "https://app.example.com?x", Err(400));
        check("GET", "*", Err(400));
        check("OPTIONS", "*", Err(501));
        check("GET", "x", Err(400));
        check("GET", "", Err(400));
        check("GET", "/a#b", Err(400));
        check("GET", "/a\u{7f}", Err(400));
        check("GET", "/é", Err(400));
        check("TRACE", "/", Err(501));
        check("CONNECT", "h:443", Err(501));
        check("GET", &format!("/{}", "a".repeat(TARGET_BYTES)), Err(414));
    }

    #[test]
    fn cookie_crumbs_become_one_field() {
        let mut request = Request::get("https://h/")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .body(())
            .unwrap();
        check_http2(&mut request).unwrap();
        let cookies: Vec<_> = request.headers().get_all(COOKIE).iter().collect();
        assert_eq!(cookies, ["a=1; b=2"]);
    }

    #[test]
    fn what_could_be_read_as_framing_is_refused_in_http2_too() {
        for (name, value) in [
            ("transfer_encoding", "chunked"),
            ("transfer.encoding", "chunked"),
            ("content_length", "3"),
            ("content~length", "3"),
            ("x", " blank before"),
            ("x", "blank after\t"),
        ] {
            let request = Request::get("https://h/").header(name, value).body(());
            let found = check_http2(&mut request.unwrap());
            assert!(found.is_err(), "{name}: {value:?}");
        }
        let plain = Request::get("https://h/")
            .header("content-lengths", "3")
            .header("x", "")
            .body(());
        assert!(check_http2(&mut plain.unwrap()).is_ok());
    }

    #[test]
    fn http2_requests_obey_the_same_rules() {
        let check = |name: &str, value: &[u8], want: bool| {
            let request = Request::get("https://h:443/").header(name, value).body(());
            let found = check_http2(&mut request.unwrap());
            assert_eq!(found.is_ok(), want, "{name}: {value:?}");
        };
        check("host", b"h:443", true);
        check("host", b"h", false);
        check("host", b"other", false);
        check("te", b"trailers", true);
        check("te", b"gzip", false);
        check("connection", b"close", false);
        check("transfer-encoding", b"chunked", false);
        check("content-length", b"+5", false);
        check("x", b"\xff", false);
        check("expect", b"100-continue", true);
        check("expect", b"something", false);
    }
}
