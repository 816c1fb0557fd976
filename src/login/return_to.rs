//! Where a browser goes after signing in: `rd`, which anybody can put into a link, and which must never lead elsewhere.
//!
//! The rule is a whitelist on the text itself, not a URL parser whose reading might differ from the browser's: a path of
//! plain segments on this origin, or, where one sign-in serves several hosts, `https://` and exactly one of their
//! authorities before such a path. Everything else becomes `/`. What is written into `Location` is that same text.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::login::form;

/// Longest `rd` that is followed, in bytes.
pub const MAX: usize = 2048;

/// The sign-in page's path.
pub const LOGIN_PATH: &str = "/.auth/login";
/// The sign-out page's path.
pub const LOGOUT_PATH: &str = "/.auth/logout";

/// What stays readable in `rd=`: RFC 3986 unreserved characters and the slash.
const QUERY_VALUE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');

/// What cannot stand in a `Location` although it may stand in a form field; non-ASCII is always encoded.
const LOCATION: &AsciiSet = &percent_encoding::CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'`');

/// Other origins that may be returned to: the route hosts below `cookie_domain`; none without it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedHosts {
    authorities: Vec<String>,
}

impl AllowedHosts {
    /// Only paths on the same origin.
    pub fn none() -> Self {
        Self::default()
    }

    /// These hosts (lower case, no port) on the port that users see.
    pub fn new<H: AsRef<str>>(hosts: impl IntoIterator<Item = H>, port: u16) -> Self {
        let mut authorities: Vec<String> = hosts
            .into_iter()
            .map(|host| match port {
                443 => host.as_ref().to_ascii_lowercase(),
                port => format!("{}:{port}", host.as_ref().to_ascii_lowercase()),
            })
            .collect();
        authorities.sort();
        authorities.dedup();
        AllowedHosts { authorities }
    }

    /// The origins, for `form-action`: the redirect after the form must be allowed by the page's own policy.
    pub fn origins(&self) -> impl Iterator<Item = String> + '_ {
        self.authorities
            .iter()
            .map(|authority| format!("https://{authority}"))
    }

    fn knows(&self, authority: &str) -> bool {
        self.authorities
            .iter()
            .any(|known| known.eq_ignore_ascii_case(authority))
    }
}

/// A place to return to that is ours; only [`ReturnTo::parse`] makes one from text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReturnTo(String);

impl Default for ReturnTo {
    fn default() -> Self {
        ReturnTo("/".to_owned())
    }
}

impl ReturnTo {
    /// Reads `rd` (already form-decoded, once); `/` for anything that is not certainly ours.
    pub fn parse(rd: &str, allowed: &AllowedHosts) -> Self {
        accept(rd, allowed).map(ReturnTo).unwrap_or_default()
    }

    /// The `rd` of a query (without `?`); `/` when it has none, or several, or cannot be read.
    pub fn from_query(query: Option<&str>, allowed: &AllowedHosts) -> Self {
        query
            .and_then(|query| form::parse(query.as_bytes()).ok())
            .and_then(|form| form.field("rd").map(|rd| Self::parse(rd, allowed)))
            .unwrap_or_default()
    }

    /// What to write into `Location` and into the form's hidden field; always a valid header value.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReturnTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn accept(rd: &str, allowed: &AllowedHosts) -> Option<String> {
    if rd.len() > MAX || rd.chars().any(char::is_control) {
        return None;
    }
    let (prefix, local) = match rd.strip_prefix("https://") {
        None => ("", rd),
        Some(rest) => {
            let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
            let (authority, local) = rest.split_at(end);
            if !allowed.knows(authority) {
                return None;
            }
            (rd.strip_suffix(local)?, local)
        }
    };
    let local = if prefix.is_empty() || local.starts_with('/') {
        local.to_owned()
    } else {
        format!("/{local}")
    };
    let end = local.find(['?', '#']).unwrap_or(local.len());
    if !is_plain_path(local.get(..end)?) || local.contains('\\') {
        return None;
    }
    Some(format!("{prefix}{}", utf8_percent_encode(&local, LOCATION)))
}

/// A path that every parser reads alike, and that does not lead back to signing in or out. What the gateway itself would
/// answer with 400 is not worth a redirect either.
fn is_plain_path(path: &str) -> bool {
    let Some(inner) = path.strip_prefix('/') else {
        return false;
    };
    let Ok(decoded) = percent_decode_str(inner).decode_utf8() else {
        return false;
    };
    // As many slashes before as after decoding: none was encoded.
    if decoded.contains('\\')
        || decoded.chars().any(char::is_control)
        || decoded.matches('/').count() != inner.matches('/').count()
    {
        return false;
    }
    let segments = || {
        decoded
            .split('/')
            .map(|segment| segment.split(';').next().unwrap_or_default())
    };
    if segments().any(|segment| matches!(segment, "." | "..")) || decoded.contains("//") {
        return false;
    }
    if decoded.starts_with('/') {
        return false;
    }
    let mut segments = segments();
    let ours = segments
        .next()
        .is_some_and(|first| first.eq_ignore_ascii_case(".auth"));
    let looping = segments.next().is_some_and(|second| {
        ["login", "logout", "callback"]
            .iter()
            .any(|name| second.eq_ignore_ascii_case(name))
    });
    !(ours && looping)
}

/// `/.auth/login?rd=…` for a request target (path and query); a target too long to come back to is left out.
pub fn login_url_for(target: &str) -> String {
    if target.len() > MAX || target == "/" {
        return LOGIN_PATH.to_owned();
    }
    format!(
        "{LOGIN_PATH}?rd={}",
        utf8_percent_encode(target, QUERY_VALUE)
    )
}

/// A sign-in page that is not ours, with `rd` for a request target: a path where the page is on the same origin, else
/// absolute. A target too long to come back to is left out.
pub fn with_return(page: &str, own_origin: &str, target: &str) -> String {
    let elsewhere = !page.starts_with('/');
    if target.len() > MAX || (target == "/" && !elsewhere) {
        return page.to_owned();
    }
    let (url, fragment) = match page.find('#') {
        Some(at) => page.split_at(at),
        None => (page, ""),
    };
    let mark = if url.contains('?') { '&' } else { '?' };
    let origin = if elsewhere { own_origin } else { "" };
    let encoded = |text| utf8_percent_encode(text, QUERY_VALUE);
    format!(
        "{url}{mark}rd={}{}{fragment}",
        encoded(origin),
        encoded(target)
    )
}

/// `/.auth/login/NAME?rd=…`: where a sign-in by a provider begins.
pub fn provider_url_for(name: &str, rd: &ReturnTo) -> String {
    match rd.as_str() {
        "/" => format!("{LOGIN_PATH}/{name}"),
        rd => format!(
            "{LOGIN_PATH}/{name}?rd={}",
            utf8_percent_encode(rd, QUERY_VALUE)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use url::Url;

    const BASE: &str = "https://gw.example.com/";

    fn hosts() -> AllowedHosts {
        AllowedHosts::new(["example.com", "App.example.com"], 443)
    }

    fn check(rd: &str, want: &str) {
        assert_eq!(
            ReturnTo::parse(rd, &AllowedHosts::none()).as_str(),
            want,
            "{rd:?}"
        );
    }

    /// The criterion of attacks section D, judged by a WHATWG parser.
    fn origin_is_ours(location: &str, allowed: &AllowedHosts) -> bool {
        let base = Url::parse(BASE).unwrap();
        let there = base.join(location).unwrap().origin();
        there == base.origin()
            || allowed
                .origins()
                .any(|origin| Url::parse(&origin).unwrap().origin() == there)
    }

    #[test]
    fn paths_of_ours_are_kept() {
        for path in [
            "/",
            "/a",
            "/a/b/",
            "/a?b=c&d=%2F%2Fevil",
            "/a?u=https://evil.example//x",
            "/a#b",
            "/a%20b",
            "/%ED%95%9C",
            "/a:b@c",
            "/.auth/me",
            "/.auth/sessions",
            "/.author/login",
            "/...",
            "/a;b=c",
        ] {
            check(path, path);
        }
        check(
            "/한 글?q=\"<한>\"",
            "/%ED%95%9C%20%EA%B8%80?q=%22%3C%ED%95%9C%3E%22",
        );
    }

    #[test]
    fn d01_no_generated_string_leaves_the_origin() {
        let atoms = [
            "/",
            "\\",
            ":",
            "@",
            ".",
            "#",
            "?",
            "%",
            "\t",
            "\n",
            "\r",
            "%2f",
            "%5c",
            "%09",
            "%0a",
            "%0d",
            "%2e",
            "%40",
            "%00",
            "https:",
            "http:",
            "evil",
            "evil.example",
            "gw.example.com",
            "app.example.com",
            " ",
            "\u{a0}",
            "\u{3000}",
            "\u{ff0f}",
            "\u{2025}",
            ";",
            "javascript:",
        ];
        let mut corpus = Vec::new();
        for a in atoms {
            for b in atoms {
                for c in [
                    "evil.example",
                    "/",
                    "//evil.example/",
                    "\\evil.example",
                    "@evil.example",
                    "%2f%2fevil.example",
                ] {
                    corpus.push(format!("{a}{b}{c}"));
                    corpus.push(format!("/{a}{b}{c}"));
                    corpus.push(format!("https://{a}{b}{c}"));
                    corpus.push(format!("https://app.example.com{a}{b}{c}"));
                }
            }
        }
        assert!(corpus.len() >= 300);
        let mut kept = 0;
        for allowed in [AllowedHosts::none(), hosts()] {
            for rd in &corpus {
                let found = ReturnTo::parse(rd, &allowed);
                assert!(
                    origin_is_ours(found.as_str(), &allowed),
                    "{rd:?} -> {found}"
                );
                assert!(
                    http::HeaderValue::from_str(found.as_str()).is_ok(),
                    "{rd:?}"
                );
                kept += usize::from(found.as_str() != "/");
            }
        }
        assert!(
            kept > 100,
            "the corpus must not be refused as a whole: {kept}"
        );
    }

    #[test]
    fn d02_classics_are_refused() {
        for rd in [
            "",
            "//evil",
            "/\\evil",
            "\\\\evil",
            "/\t/evil",
            "/%09/evil",
            "/%2f/evil",
            "/%5cevil",
            "/%2Fevil",
            "https:evil",
            "https:/evil",
            "https:///evil",
            "HTTPS://evil",
            "http://gw.example.com/",
            "https://gw.example.com/",
            "javascript:alert(1)",
            "data:text/html,x",
            "evil",
            "./evil",
            "../evil",
            "?x",
            "#x",
            " /x",
            "/\n/evil",
            "/a//b",
            "/./x",
            "/a/../x",
            "/a/%2e%2e/x",
            "/a/..;/x",
            "/\u{0}",
            "/\u{85}",
            "/\u{7f}",
            "/%00",
            "/%c2%85",
            "/%ff",
        ] {
            check(rd, "/");
        }
        check(&format!("/{}", "a".repeat(MAX)), "/");
    }

    #[test]
    fn d03_only_whole_hosts_match() {
        let hosts = hosts();
        let check = |rd: &str, want: &str| {
            assert_eq!(ReturnTo::parse(rd, &hosts).as_str(), want, "{rd:?}");
        };
        check(
            "https://app.example.com/x?y#z",
            "https://app.example.com/x?y#z",
        );
        check("https://APP.example.com/x", "https://APP.example.com/x");
        check("https://example.com", "https://example.com/");
        check("https://example.com?a", "https://example.com/?a");
        check("/x", "/x");
        for rd in [
            "https://evil-example.com",
            "https://evil-example.com/",
            "https://example.com.evil",
            "https://example.com.",
            "https://example.com:8443/",
            "https://example.com:443/",
            "https://example.com:/",
            "https://example.com@evil.example/",
            "https://evil.example@example.com/",
            "https://evil.example\\@example.com/",
            "https://example.com\\.evil.example/",
            "https://example.com\\evil",
            "https://example.com%2eevil.example/",
            "https://example.com%00/",
            "https://example.com//evil",
            "https://example.com/.auth/logout",
            "http://example.com/",
            "https:example.com/",
            "https:\\\\example.com/",
            "//example.com/",
            "https://gw.example.com/",
            "https://\u{ff45}xample.com/",
        ] {
            check(rd, "/");
        }
        let other_port = AllowedHosts::new(["localhost"], 8443);
        let parse = |rd| ReturnTo::parse(rd, &other_port).0;
        assert_eq!(
            parse("https://localhost:8443/a"),
            "https://localhost:8443/a"
        );
        assert_eq!(parse("https://localhost/a"), "/");
        assert_eq!(
            other_port.origins().collect::<Vec<_>>(),
            ["https://localhost:8443"]
        );
    }

    #[test]
    fn signing_in_never_returns_to_signing_in_or_out() {
        for rd in [
            "/.auth/login",
            "/.auth/login/",
            "/.auth/login?rd=/x",
            "/.auth/login/corp",
            "/.auth/logout",
            "/.auth/LOGOUT#x",
            "/%2eauth/%6cogin",
            "/.auth/logout;x",
            "/.auth/callback/corp?code=1",
        ] {
            check(rd, "/");
        }
    }

    #[test]
    fn a_query_without_one_clear_rd_leads_home() {
        for query in [
            None,
            Some(""),
            Some("x=/a"),
            Some("rd=/a&rd=/b"),
            Some("rd=%zz"),
            Some("rd=//evil"),
        ] {
            let back = ReturnTo::from_query(query, &AllowedHosts::none());
            assert_eq!(back.as_str(), "/", "{query:?}");
        }
    }

    #[test]
    fn targets_become_login_urls_and_come_back() {
        assert_eq!(login_url_for("/"), "/.auth/login");
        assert_eq!(login_url_for("/a?b=c&d"), "/.auth/login?rd=/a%3Fb%3Dc%26d");
        assert_eq!(
            login_url_for(&format!("/{}", "a".repeat(MAX))),
            "/.auth/login"
        );
        for target in ["/a/b?c=%2F&d=+e%20f", "/한", "/a;b@c:d"] {
            let url = login_url_for(target);
            let query = url.split_once('?').unwrap().1;
            let form = form::parse(query.as_bytes()).unwrap();
            assert_eq!(form.field("rd"), Some(target));
            let back = ReturnTo::from_query(Some(query), &AllowedHosts::none());
            assert_eq!(back, ReturnTo::parse(target, &AllowedHosts::none()));
        }
    }

    proptest! {
        #[test]
        fn any_text_stays_on_our_origins(rd in "(/|https://app.example.com|https://)?[/\\\\:@.#?%\t\n\r ;a2fe5c0é-]{0,24}") {
            let allowed = hosts();
            let found = ReturnTo::parse(&rd, &allowed);
            prop_assert!(origin_is_ours(found.as_str(), &allowed), "{:?} -> {}", rd, found);
            prop_assert!(http::HeaderValue::from_str(found.as_str()).is_ok());
            // What was accepted once is accepted again, unchanged: it travels through the form's hidden field.
            prop_assert_eq!(&ReturnTo::parse(found.as_str(), &allowed), &found);
        }
    }

    #[test]
    fn a_page_of_others_gets_rd_appended() {
        let check = |page: &str, target: &str, want: &str| {
            assert_eq!(with_return(page, "https://a.example", target), want);
        };
        check("/login", "/x?y=1&z=ä", "/login?rd=/x%3Fy%3D1%26z%3D%C3%A4");
        check("/login?a=b", "/x", "/login?a=b&rd=/x");
        check("/login#top", "/x", "/login?rd=/x#top");
        check("/login", "/", "/login");
        check(
            "https://id.example/in",
            "/",
            "https://id.example/in?rd=https%3A//a.example/",
        );
        check(
            "https://id.example/in",
            "/x",
            "https://id.example/in?rd=https%3A//a.example/x",
        );
        check("/login", &format!("/{}", "x".repeat(MAX)), "/login");
    }
}
