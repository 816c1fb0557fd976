//! `[[upstream]]`: names, places, timeouts, identity headers.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;
use toml::Spanned;
use toml::de::DeValue;

use super::{Reader, names, suggest};
use crate::auth::route::Route;
use crate::config::file::{Section, called};
use crate::server::Limits;
use crate::upstream::{Claim, Endpoint, HeaderMapping, Settings};

const HOUR: Duration = Duration::from_secs(3600);

/// An upstream and where its name stands.
pub(super) struct Named {
    pub(super) settings: Settings,
    pub(super) span: Range<usize>,
}

pub(super) fn all(reader: &Reader<'_>, root: &Section<'_>, limits: &Limits) -> Vec<Named> {
    let mut upstreams: Vec<Named> = Vec::new();
    for table in root.sections("upstream") {
        let Some(named) = one(reader, &table, limits) else {
            continue;
        };
        let twin = upstreams
            .iter()
            .find(|other| other.settings.name == named.settings.name);
        if let Some(twin) = twin {
            reader.problems.clash(
                named.span.clone(),
                format!("there are two upstreams called {:?}", named.settings.name),
                "give each its own name; for several places of one app use `urls`",
                twin.span.clone(),
                "the first one",
            );
        }
        upstreams.push(named);
    }
    upstreams
}

/// An upstream that no route leads to is perhaps a forgotten route; harmless.
pub(super) fn unused(reader: &Reader<'_>, upstreams: &[Named], routes: &[Route]) {
    let led_to = |name: &str| {
        routes
            .iter()
            .filter_map(|route| upstreams.get(route.upstream.0))
            .any(|named| named.settings.name == name)
    };
    for named in upstreams {
        if !led_to(&named.settings.name) {
            reader.problems.warning(
                named.span.clone(),
                format!("no route leads to the upstream {:?}", named.settings.name),
                "add a [[route]] with this `upstream`, or remove it",
            );
        }
    }
}

fn one(reader: &Reader<'_>, table: &Section<'_>, limits: &Limits) -> Option<Named> {
    let timeout = |key| reader.duration(table, key, Duration::from_millis(1)..=HOUR * 24);
    let name = reader.required(table, "name");
    if let Some(name) = &name
        && !name
            .get_ref()
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    {
        reader.problems.error(
            name.span(),
            "an upstream's name is made of letters, digits, `-`, `_` and `.`",
            "it is the `aud` of assertions and a label in metrics",
        );
    }
    let endpoints = endpoints(reader, table);
    let settings = Settings {
        name: name.as_ref()?.get_ref().to_string(),
        endpoints,
        connect_timeout: timeout("connect_timeout"),
        response_timeout: timeout("response_timeout"),
        body_idle_timeout: limits.body_idle_timeout,
        assertion: reader.flag(table, "assertion"),
        headers: headers(reader, table),
    };
    Some(Named {
        settings,
        span: name?.span(),
    })
}

fn endpoints(reader: &Reader<'_>, table: &Section<'_>) -> Vec<Endpoint> {
    let (url, urls) = (table.text("url"), table.texts("urls"));
    match (table.value("url"), table.value("urls")) {
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

const CLAIMS: [(&str, Claim); 5] = [
    ("user", Claim::User),
    ("email", Claim::Email),
    ("name", Claim::Name),
    ("preferred_username", Claim::PreferredUsername),
    ("groups", Claim::Groups),
];

fn headers(reader: &Reader<'_>, table: &Section<'_>) -> HeaderMapping {
    if let Some(value) = table.value("headers")
        && value.get_ref().is_table()
    {
        return header_table(reader, &table.section("headers"));
    }
    let forwarded: &[(&'static str, Claim)] = &[
        ("x-forwarded-user", Claim::User),
        ("x-forwarded-email", Claim::Email),
        ("x-forwarded-preferred-username", Claim::PreferredUsername),
        ("x-forwarded-groups", Claim::Groups),
    ];
    let remote: &[(&'static str, Claim)] = &[
        ("remote-user", Claim::User),
        ("remote-email", Claim::Email),
        ("remote-name", Claim::Name),
        ("remote-groups", Claim::Groups),
    ];
    let auth_request: &[(&'static str, Claim)] = &[
        ("x-auth-request-user", Claim::User),
        ("x-auth-request-email", Claim::Email),
        (
            "x-auth-request-preferred-username",
            Claim::PreferredUsername,
        ),
        ("x-auth-request-groups", Claim::Groups),
    ];
    let webauth: &[(&'static str, Claim)] = &[
        ("x-webauth-user", Claim::User),
        ("x-webauth-email", Claim::Email),
        ("x-webauth-name", Claim::Name),
        ("x-webauth-groups", Claim::Groups),
    ];
    let preset = reader.choice(
        table,
        "headers",
        &[
            ("forwarded", forwarded),
            ("remote", remote),
            ("auth-request", auth_request),
            ("webauth", webauth),
        ],
        forwarded,
    );
    HeaderMapping(
        preset
            .iter()
            .map(|(name, claim)| (HeaderName::from_static(name), *claim))
            .collect(),
    )
}

fn header_table(reader: &Reader<'_>, table: &Section<'_>) -> HeaderMapping {
    let mut mapping: Vec<(HeaderName, Claim)> = Vec::new();
    let mut seen: Vec<(String, Range<usize>)> = Vec::new();
    for (name, value) in table.entries() {
        let header = header_name(reader, &name);
        let claim = claim(reader, value);
        let (Some(header), Some(claim)) = (header, claim) else {
            continue;
        };
        let read_as = as_read(header.as_str());
        if let Some((_, other)) = seen.iter().find(|(known, _)| *known == read_as) {
            reader.problems.clash(
                name.span(),
                format!(
                    "{:?} can be read as another header of this table",
                    name.get_ref()
                ),
                "`_`, `.` and `-` are the same to many apps, and so is the case: keep one",
                other.clone(),
                "the other one",
            );
        }
        seen.push((read_as, name.span()));
        mapping.push((header, claim));
    }
    HeaderMapping(mapping)
}

fn claim(reader: &Reader<'_>, value: &Spanned<DeValue<'_>>) -> Option<Claim> {
    let Some(text) = value.get_ref().as_str() else {
        reader.problems.error(
            value.span(),
            format!("a claim is a text, found {}", called(value.get_ref())),
            &suggest("", CLAIMS.iter().map(|(word, _)| *word)),
        );
        return None;
    };
    let found = CLAIMS.iter().find(|(word, _)| *word == text);
    if found.is_none() {
        reader.problems.error(
            value.span(),
            format!("there is no claim {text:?}"),
            &suggest(text, CLAIMS.iter().map(|(word, _)| *word)),
        );
    }
    found.map(|(_, claim)| *claim)
}

fn header_name(reader: &Reader<'_>, name: &Spanned<&str>) -> Option<HeaderName> {
    let Ok(header) = HeaderName::from_bytes(name.get_ref().as_bytes()) else {
        reader.problems.error(
            name.span(),
            format!("{:?} is not a header name", name.get_ref()),
            "letters, digits and `-`, such as \"X-Forwarded-User\"",
        );
        return None;
    };
    if is_reserved(header.as_str()) {
        reader.problems.error(
            name.span(),
            format!("the header {} has another meaning", name.get_ref()),
            "choose a name of your own, such as \"X-Forwarded-User\" or \"Remote-User\"",
        );
        return None;
    }
    Some(header)
}

/// A header name as the most careless app reads it.
fn as_read(name: &str) -> String {
    name.to_ascii_lowercase().replace(['_', '.'], "-")
}

/// Names that HTTP, browsers or this gateway give a meaning: an identity there would break or fool something.
fn is_reserved(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "accept",
        "accept-charset",
        "accept-encoding",
        "accept-language",
        "authorization",
        "cache-control",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "date",
        "expect",
        "forwarded",
        "host",
        "http2-settings",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "keep-alive",
        "max-forwards",
        "origin",
        "pragma",
        "range",
        "referer",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "via",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-prefix",
        "x-forwarded-proto",
        "x-forwarded-server",
        "x-forwarded-uri",
        "x-real-ip",
        "x-request-id",
        "x-vestibule-assertion",
    ];
    const BEGINNINGS: &[&str] = &["access-control-", "proxy-", "sec-"];
    let read = as_read(name);
    NAMES.contains(&read.as_str())
        || BEGINNINGS
            .iter()
            .any(|beginning| read.starts_with(beginning))
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

    #[test]
    fn names_with_a_meaning_are_reserved_in_every_spelling() {
        for name in [
            "X_Forwarded_For",
            "sec-fetch-site",
            "Cookie",
            "X-Vestibule-Assertion",
            "x.real.ip",
        ] {
            assert!(is_reserved(name), "{name}");
        }
        assert!(!is_reserved("X-Forwarded-User"));
    }
}
