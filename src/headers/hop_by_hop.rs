//! Fields that concern one connection only (RFC 9110 section 7.6.1). Must run before the gateway adds its own fields, so
//! that a client cannot nominate ours for removal.

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderName};

/// The fields that are of one hop by definition, whatever `Connection` says.
fn is_of_one_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
    )
}

/// Removes every field that `Connection` names, `Connection` itself, and the fields that are of one hop by definition.
pub fn strip(headers: &mut HeaderMap) {
    // Most heads have one or none of them: looking at each name there is beats looking for each name on the list.
    while let Some(name) = headers.keys().find(|name| is_of_one_hop(name)).cloned() {
        if name == CONNECTION {
            for name in nominated(headers) {
                headers.remove(name);
            }
        }
        headers.remove(name);
    }
}

/// The fields that `Connection` lines name, without the options that are no fields.
fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|option| {
            !option.eq_ignore_ascii_case(b"close") && !option.eq_ignore_ascii_case(b"keep-alive")
        })
        .filter_map(|option| HeaderName::from_bytes(option).ok())
        .collect()
}

/// Whether the comma-separated field `name` lists `token` (compared without case, parameters ignored).
pub fn lists(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(|item| item.split(|byte| *byte == b';').next().unwrap_or(item))
        .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// Whether the sender asks for a WebSocket and nothing else: `Connection: upgrade` with exactly one `Upgrade: websocket`.
pub fn asks_for_websocket(headers: &HeaderMap) -> bool {
    let mut upgrades = headers.get_all(UPGRADE).iter();
    let only_websocket = match (upgrades.next(), upgrades.next()) {
        (Some(protocol), None) => protocol
            .as_bytes()
            .trim_ascii()
            .eq_ignore_ascii_case(b"websocket"),
        _ => false,
    };
    only_websocket && lists(headers, &CONNECTION, "upgrade")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        headers
    }

    #[test]
    fn removes_what_connection_names_and_the_fixed_list() {
        let mut headers = headers(&[
            ("Connection", "close, X-Secret ,, bad name"),
            ("Connection", "X-Other"),
            ("X-Secret", "1"),
            ("X-Other", "1"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Connection", "keep-alive"),
            ("TE", "trailers"),
            ("Transfer-Encoding", "chunked"),
            ("Upgrade", "h2c"),
            ("HTTP2-Settings", "AAA"),
            ("Proxy-Authorization", "Basic x"),
            ("Trailer", "X-Sum"),
            ("Accept", "*/*"),
        ]);
        strip(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "trailer"]);
    }

    #[test]
    fn only_a_single_websocket_is_an_upgrade() {
        let case = |connection, upgrade: &[&str]| {
            let mut lines = vec![("connection", connection)];
            lines.extend(upgrade.iter().map(|protocol| ("upgrade", *protocol)));
            asks_for_websocket(&headers(&lines))
        };
        assert!(case("Upgrade", &["websocket"]));
        assert!(case("keep-alive, upgrade", &["WebSocket"]));
        assert!(!case("keep-alive", &["websocket"]));
        assert!(!case("upgrade", &["h2c"]));
        assert!(!case("upgrade", &["websocket, h2c"]));
        assert!(!case("upgrade", &["websocket", "h2c"]));
        assert!(!case("upgrade", &[]));
    }
}
