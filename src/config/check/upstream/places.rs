//! `url` and `urls` of an `[[upstream]]`: where an app listens. An address with a password is refused and not shown.

use std::path::PathBuf;

use crate::config::check::{Reader, names};
use crate::config::file::Section;
use crate::upstream::Endpoint;

pub(super) fn endpoints(reader: &Reader<'_>, table: &Section<'_>) -> Vec<Endpoint> {
    let (url, urls) = (table.text("url"), table.texts("urls"));
    match (table.value("url"), table.value("urls")) {
        (None, None) if table.is_one_explained(&["url", "urls"]) => {}
        (None, None) => reader.problems.error(
            table.span(),
            "`upstream.url` is missing",
            "add `url = \"http://127.0.0.1:3000\"`: where the app listens",
        ),
        (Some(url), Some(urls)) => reader.problems.clash(
            urls.span(),
            "this upstream has both `url` and `urls`",
            "keep one of them",
            url.span(),
            "the other one",
        ),
        (None, Some(value)) if urls.as_ref().is_some_and(Vec::is_empty) => reader.problems.error(
            value.span(),
            "`upstream.urls` is empty",
            "name at least one place: [\"http://127.0.0.1:3000\"]",
        ),
        _ => {}
    }
    url.into_iter()
        .chain(urls.unwrap_or_default())
        .filter_map(|text| {
            endpoint(text.get_ref())
                .inspect_err(|hint| {
                    reader.problems.error(
                        text.span(),
                        format!(
                            "{:?} is not the address of an upstream",
                            shown(text.get_ref())
                        ),
                        hint,
                    );
                })
                .ok()
        })
        .collect()
}

/// A url without what may be a password.
fn shown(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme + 3 <= at => {
            let (head, tail) = (url.get(..scheme + 3), url.get(at..));
            format!("{}***{}", head.unwrap_or(""), tail.unwrap_or(""))
        }
        _ => url.to_owned(),
    }
}

/// `http://host[:port]`, `https://…`, `h2c://…` or `unix:/path`.
fn endpoint(text: &str) -> Result<Endpoint, &'static str> {
    const KINDS: &str = "write http://host:port, https://host:port, h2c://host:port or unix:/path";
    if let Some(path) = text.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        if !path.starts_with('/') || path.contains('\0') {
            return Err("a socket has an absolute path: unix:/run/app.sock");
        }
        return Ok(Endpoint::Unix(PathBuf::from(path)));
    }
    let (scheme, rest) = text.split_once("://").ok_or(KINDS)?;
    let default_port = match scheme {
        "http" | "h2c" => 80,
        "https" => 443,
        _ => return Err(KINDS),
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains('@') {
        return Err(
            "no user name or password in the address; the gateway sends identity headers instead",
        );
    }
    if authority.contains(['/', '?', '#', '\\']) {
        return Err(
            "no path, query or fragment: the request's own path is forwarded byte for byte; choose paths with [[route]]",
        );
    }
    let (name, port) = names::split_port(authority, default_port)?;
    // Without brackets, as resolvers and certificates take an IPv6 address.
    let host = names::host(name)?.trim_matches(['[', ']']).to_owned();
    Ok(match scheme {
        "https" => Endpoint::Https { host, port },
        "h2c" => Endpoint::H2c { host, port },
        _ => Endpoint::Http { host, port },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_addresses_without_a_path() {
        let host = |name: &str| name.to_owned();
        let check =
            |text: &str, want: Option<Endpoint>| assert_eq!(endpoint(text).ok(), want, "{text:?}");
        check(
            "http://127.0.0.1:3000",
            Some(Endpoint::Http {
                host: host("127.0.0.1"),
                port: 3000,
            }),
        );
        check(
            "http://App/",
            Some(Endpoint::Http {
                host: host("app"),
                port: 80,
            }),
        );
        check(
            "https://[::1]",
            Some(Endpoint::Https {
                host: host("::1"),
                port: 443,
            }),
        );
        check(
            "h2c://app:50051",
            Some(Endpoint::H2c {
                host: host("app"),
                port: 50051,
            }),
        );
        check(
            "unix:/run/app.sock",
            Some(Endpoint::Unix("/run/app.sock".into())),
        );
        check(
            "unix:///run/app.sock",
            Some(Endpoint::Unix("/run/app.sock".into())),
        );
        for bad in [
            "",
            "127.0.0.1:3000",
            "ftp://a",
            "http://",
            "http://a/b",
            "http://a?x",
            "http://a#x",
            "http://u:p@a",
            "http://a:0",
            "http://a:b",
            "unix:",
            "unix:run/app.sock",
            "http://a b",
            "http://::1",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn a_password_in_an_address_is_not_shown() {
        assert_eq!(shown("http://u:hunter2@a"), "http://***@a");
    }
}
