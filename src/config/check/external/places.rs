//! Where `[external]` sends the gateway and people: URLs that are called, and pages that browsers are led to. Must not call
//! anything.

use http::Uri;
use toml::Spanned;

use crate::auth::path::CanonicalTarget;
use crate::auth::route::{Access, Matched, Route, RouteTable};
use crate::config::Origin;
use crate::config::check::{Reader, names};
use crate::config::file::Section;

/// A URL that the gateway itself calls.
pub(super) fn called(reader: &Reader<'_>, text: &Spanned<&str>, key: &str) -> Option<Uri> {
    let typed = *text.get_ref();
    let wrong = |hint: &str| {
        reader.problems.error(
            text.span(),
            format!("`{key}` is not a URL that can be called"),
            hint,
        );
        None
    };
    let Some((scheme, rest)) = typed.split_once("://") else {
        return wrong("an absolute one: \"http://127.0.0.1:3000/auth/refresh\"");
    };
    let default_port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return wrong("it begins with http:// or https://"),
    };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority.contains('@') {
        return wrong("no user name or password in it");
    }
    if typed.contains('#') || typed.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return wrong("no fragment, no blanks, and everything else percent-encoded");
    }
    let host = names::split_port(authority, default_port).and_then(|(name, _)| names::host(name));
    if let Err(hint) = host {
        return wrong(hint);
    }
    match typed.parse::<Uri>() {
        Ok(url) => Some(url),
        Err(_) => wrong("an absolute one: \"http://127.0.0.1:3000/auth/refresh\""),
    }
}

/// Whether what is sent there can be read on its way: http to anywhere but this machine.
pub(super) fn is_in_clear(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default();
    let here = host == "localhost"
        || host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    url.scheme_str() == Some("http") && !here
}

/// A page that people are sent to: a path of the origin, or an https URL.
pub(super) fn page(reader: &Reader<'_>, text: &Spanned<&str>, key: &str) -> Option<String> {
    let typed = *text.get_ref();
    let clean = typed
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'\\' && byte != b'"');
    let own = typed.starts_with('/') && !typed.starts_with("//");
    let elsewhere = typed
        .strip_prefix("https://")
        .and_then(|rest| rest.split(['/', '?', '#']).next())
        .is_some_and(|authority| {
            names::split_port(authority, 443).is_ok_and(|(name, _)| names::host(name).is_ok())
        });
    if clean && (own || elsewhere) {
        return Some(typed.to_owned());
    }
    reader.problems.error(
        text.span(),
        format!("`{key}` is no page that people can be sent to"),
        "a path on the origin such as \"/login\", or an https:// URL, without blanks",
    );
    None
}

pub(super) fn login_url(
    reader: &Reader<'_>,
    table: &Section<'_>,
    origin: &Origin,
    routes: &[Route],
) -> Option<String> {
    let text = reader.required(table, "login_url")?;
    let url = page(reader, &text, "external.login_url")?;
    let circle = |message: &str, hint: &str| {
        reader.problems.error(text.span(), message, hint);
    };
    let path = url.split('#').next().unwrap_or_default();
    if path.starts_with('/') {
        if names::is_within_path(path.split('?').next().unwrap_or_default(), "/.auth") {
            circle(
                "`external.login_url` is the gateway's own",
                "name the page on which the service signs people in",
            );
            return None;
        }
        // Routes with mistakes have been reported, and would make this one a riddle.
        if let (Ok(target), Ok(known)) = (
            CanonicalTarget::parse(path),
            RouteTable::build(routes.to_vec()),
        ) && !routes.is_empty()
        {
            match known.find(&origin.host, &target, &http::Method::GET) {
                Matched::Route(_, route) if route.access == Access::Authenticated => circle(
                    "`external.login_url` is on a route that asks for a sign-in",
                    "people would be sent in circles: add a [[route]] for it with `access = \"public\"`",
                ),
                Matched::Route(..) => {}
                _ => circle(
                    "no route leads to `external.login_url`",
                    "add a [[route]] to the service for it with `access = \"public\"`",
                ),
            }
        }
    }
    Some(url)
}
