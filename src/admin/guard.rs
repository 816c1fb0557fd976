//! Who may ask the admin listener: programs, and nobody's web page.
//!
//! A page can point a name of its own at 127.0.0.1 (DNS rebinding) and read what answers there. Such a request carries that
//! name as `Host`; one that is made across sites carries an `Origin` or says so in `Sec-Fetch-Site`. An address or
//! `localhost` cannot be rebound.

use std::net::{IpAddr, Ipv6Addr};

use http::{HeaderMap, StatusCode, Uri, header};

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No `Host`, or several, or one that is no authority.
    NoHost,
    /// `Host` is a name that could have been rebound.
    ForeignHost,
    /// A browser sent it for another site.
    CrossSite,
}

impl Refusal {
    /// The answer's status.
    pub fn status(self) -> StatusCode {
        match self {
            Refusal::NoHost => StatusCode::BAD_REQUEST,
            Refusal::ForeignHost => StatusCode::MISDIRECTED_REQUEST,
            Refusal::CrossSite => StatusCode::FORBIDDEN,
        }
    }

    /// What to do about it.
    pub fn detail(self) -> &'static str {
        match self {
            Refusal::NoHost => "exactly one Host header is needed",
            Refusal::ForeignHost => "ask by IP address or as localhost",
            Refusal::CrossSite => "web pages may not ask here",
        }
    }
}

/// Judges where a request wants to go and where it comes from.
pub fn check(uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = match (hosts.next().map(|value| value.to_str()), hosts.next()) {
        (Some(Ok(host)), None) => host,
        _ => return Err(Refusal::NoHost),
    };
    let named = uri.authority().map(|authority| authority.as_str());
    if !is_local(host) || named.is_some_and(|named| !is_local(named)) {
        return Err(Refusal::ForeignHost);
    }
    for origin in headers.get_all(header::ORIGIN) {
        let local = origin
            .to_str()
            .ok()
            .and_then(|origin| origin.strip_prefix("http://"))
            .is_some_and(|authority| authority.eq_ignore_ascii_case(host));
        if !local {
            return Err(Refusal::CrossSite);
        }
    }
    let own_site = |site: &header::HeaderValue| site == "same-origin" || site == "none";
    if !headers.get_all("sec-fetch-site").iter().all(own_site) {
        return Err(Refusal::CrossSite);
    }
    Ok(())
}

/// Whether an authority (`host[:port]`) is an IP address or `localhost`.
fn is_local(authority: &str) -> bool {
    if let Some(rest) = authority.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else {
            return false;
        };
        return address.parse::<Ipv6Addr>().is_ok()
            && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    port.is_none_or(is_port)
        && (host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok())
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_with(fields: &[(&'static str, &str)]) -> Result<(), Refusal> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        check(&Uri::from_static("/metrics"), &headers)
    }

    #[test]
    fn addresses_and_localhost_are_served() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:9091",
            "[::1]:9091",
            "[::1]",
            "localhost",
            "LOCALHOST:9091",
            "10.1.2.3:9091",
        ] {
            assert_eq!(check_with(&[("host", host)]), Ok(()), "{host}");
        }
    }

    #[test]
    fn a_rebound_name_is_not() {
        for host in [
            "evil.example",
            "evil.example:9091",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "localhost:9091:1",
            "localhost:",
            "[::1]evil",
            "[::1",
            "::1",
            "user@localhost",
            "",
        ] {
            assert_eq!(
                check_with(&[("host", host)]),
                Err(Refusal::ForeignHost),
                "{host}"
            );
        }
        assert_eq!(check_with(&[]), Err(Refusal::NoHost));
        assert_eq!(
            check_with(&[("host", "localhost"), ("host", "localhost")]),
            Err(Refusal::NoHost)
        );
    }

    #[test]
    fn another_site_is_refused() {
        let host = ("host", "localhost:9091");
        for field in [
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("origin", "http://localhost:3000"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            assert_eq!(check_with(&[host, field]), Err(Refusal::CrossSite));
        }
        assert_eq!(
            check_with(&[host, ("origin", "http://localhost:9091")]),
            Ok(())
        );
        assert_eq!(check_with(&[host, ("sec-fetch-site", "none")]), Ok(()));
    }

    #[test]
    fn an_absolute_target_is_judged_as_well() {
        let mut headers = HeaderMap::new();
        headers.insert("host", "localhost".parse().unwrap());
        assert_eq!(
            check(&Uri::from_static("http://evil.example/metrics"), &headers),
            Err(Refusal::ForeignHost)
        );
    }
}
