//! Names on the network: hosts as they are compared, and origins. Must not resolve anything.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::Origin;

/// A host name or address as requests are compared with it: lower case, no port, IPv6 in brackets.
pub(super) fn host(text: &str) -> Result<String, &'static str> {
    let lower = text.to_ascii_lowercase();
    if let Some(inner) = lower
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        let address: Ipv6Addr = inner.parse().map_err(|_| "not an IPv6 address")?;
        return Ok(format!("[{address}]"));
    }
    if lower.parse::<Ipv4Addr>().is_ok() {
        return Ok(lower);
    }
    if lower.parse::<Ipv6Addr>().is_ok() {
        return Err("put an IPv6 address in brackets: \"[::1]\"");
    }
    if lower.contains("://") || lower.contains('/') {
        return Err("write the host alone, without scheme and path");
    }
    if lower.contains('*') {
        return Err("a route is for one host; write one route for each host");
    }
    if lower.contains(':') {
        return Err("write the host without a port");
    }
    if lower.ends_with('.') {
        return Err("write the host without the dot at its end");
    }
    if !lower.is_ascii() {
        return Err("write the host in its ASCII form (xn--…)");
    }
    let label_is_good = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if lower.len() > 253 || !lower.split('.').all(label_is_good) {
        return Err("not a host name");
    }
    let last = lower.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("not a host name, and not an IPv4 address either");
    }
    Ok(lower)
}

/// `https://host[:port]` and nothing else.
pub(in crate::config) fn origin(text: &str) -> Result<Origin, &'static str> {
    let rest = match text.get(..8) {
        Some(scheme) if scheme.eq_ignore_ascii_case("https://") => text.get(8..).unwrap_or(""),
        _ => {
            return Err(
                "it begins with https:// - session cookies exist on https only; for a trial, [tls] self_signed = true",
            );
        }
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#', '\\']) {
        return Err("it has no path: \"https://app.example.com\"");
    }
    if rest.contains('@') {
        return Err("it has no user name: \"https://app.example.com\"");
    }
    let (name, port) = split_port(rest, 443)?;
    Ok(Origin {
        host: host(name)?,
        port,
    })
}

/// `host[:port]`.
pub(super) fn split_port(text: &str, default: u16) -> Result<(&str, u16), &'static str> {
    let after_bracket = text.rfind(']').map_or(0, |at| at + 1);
    match text.get(after_bracket..).and_then(|tail| tail.rfind(':')) {
        None => Ok((text, default)),
        Some(colon) => {
            let (name, port) = text.split_at(after_bracket + colon);
            match port.get(1..).map(str::parse::<u16>) {
                Some(Ok(port)) if port != 0 => Ok((name, port)),
                _ => Err("a port is a number from 1 to 65535"),
            }
        }
    }
}

/// Whether `host` is `domain` or lies below it.
pub(super) fn is_within(host: &str, domain: &str) -> bool {
    host == domain
        || host
            .strip_suffix(domain)
            .is_some_and(|above| above.ends_with('.'))
}

/// Whether `path` is `prefix` or lies below it, whatever the case.
pub(super) fn is_within_path(path: &str, prefix: &str) -> bool {
    path.get(..prefix.len())
        .is_some_and(|head| head.eq_ignore_ascii_case(prefix))
        && matches!(path.as_bytes().get(prefix.len()), None | Some(b'/'))
}

/// Whether a checked host is an address, which has no subdomains.
pub(super) fn is_address(host: &str) -> bool {
    host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let check = |text: &str, want: Option<&str>| {
            assert_eq!(host(text).ok().as_deref(), want, "{text:?}");
        };
        check("App.Example.com", Some("app.example.com"));
        check("localhost", Some("localhost"));
        check("127.0.0.1", Some("127.0.0.1"));
        check("[::1]", Some("[::1]"));
        check("[0:0:0:0:0:0:0:1]", Some("[::1]"));
        for bad in [
            "",
            ".",
            "a..b",
            "a.",
            "-a",
            "a-",
            "a b",
            "::1",
            "*.a",
            "a:1",
            "https://a",
            "a/b",
            "1.2.3",
            "1.2.3.456",
            "[::1",
            "ä.de",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn origins() {
        let check = |text: &str, want: Option<&str>| {
            assert_eq!(
                origin(text)
                    .ok()
                    .map(|origin| origin.to_string())
                    .as_deref(),
                want,
                "{text:?}"
            );
        };
        check("https://app.example.com", Some("https://app.example.com"));
        check(
            "HTTPS://App.example.com:443/",
            Some("https://app.example.com"),
        );
        check("https://localhost:8443", Some("https://localhost:8443"));
        check("https://[::1]:8443", Some("https://[::1]:8443"));
        for bad in [
            "",
            "http://a",
            "https://",
            "https://a/b",
            "https://a?x",
            "https://a#x",
            "https://u@a",
            "https://a:0",
            "https://a:99999",
            "https://a:",
            "https://a\\b",
            "https://a//",
            "https:a",
            "httpſ://a",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn within_is_on_label_boundaries() {
        assert!(is_within("app.example.com", "example.com"));
        assert!(is_within("example.com", "example.com"));
        assert!(!is_within("badexample.com", "example.com"));
        assert!(!is_within("com", "example.com"));
    }
}
