//! `[[route]]`: hosts, paths, methods, references, and that no two rules can be mistaken for each other.

use std::ops::Range;

use http::Method;
use toml::Spanned;

use super::upstream::Named;
use super::{Reader, allow, names, suggest};
use crate::auth::path::CanonicalTarget;
use crate::auth::route::{Access, Ambiguous, Preflight, Revocation, Route, RouteTable, UpstreamId};
use crate::config::Origin;
use crate::config::file::Section;
use crate::headers::cookie::CookieStyle;

pub(super) fn all(
    reader: &Reader<'_>,
    root: &Section<'_>,
    origin: Option<&Origin>,
    cookies: &CookieStyle,
    upstreams: &[Named],
) -> Vec<Route> {
    let tables = root.sections("route");
    if tables.is_empty() && root.value("route").is_none() && !root.is_explained("route") {
        reader.problems.error(
            root.span(),
            "there is no route: nothing would be forwarded",
            "add [[route]] with `upstream = \"…\"` and an [[upstream]] of that name",
        );
    }
    let mut routes = Vec::new();
    let mut places = Vec::new();
    for table in &tables {
        if let Some(route) = one(reader, table, origin, cookies, upstreams, root) {
            routes.push(route);
            places.push(table.span());
        }
    }
    unambiguous(reader, &routes, &places);
    routes
}

fn one(
    reader: &Reader<'_>,
    table: &Section<'_>,
    origin: Option<&Origin>,
    cookies: &CookieStyle,
    upstreams: &[Named],
    root: &Section<'_>,
) -> Option<Route> {
    let upstream = upstream(reader, table, upstreams, root);
    let host = host(reader, table, origin, cookies);
    let path = path(reader, table);
    let methods = methods(reader, table);
    let access = reader.choice(
        table,
        "access",
        &[
            ("public", Access::Public),
            ("optional", Access::Optional),
            ("authenticated", Access::Authenticated),
        ],
        Access::Authenticated,
    );
    let allow = allow::read(reader, table, access, root);
    let preflight = reader.choice(
        table,
        "preflight",
        &[("forward", Preflight::Forward), ("deny", Preflight::Deny)],
        Preflight::Deny,
    );
    let revocation = reader.choice(
        table,
        "revocation",
        &[
            ("pushed", Revocation::Pushed),
            ("checked", Revocation::Checked),
        ],
        Revocation::Pushed,
    );
    Some(Route {
        host: host?,
        path: path?,
        methods: methods?,
        upstream: upstream?,
        access,
        allow,
        preflight,
        revocation,
    })
}

fn upstream(
    reader: &Reader<'_>,
    table: &Section<'_>,
    upstreams: &[Named],
    root: &Section<'_>,
) -> Option<UpstreamId> {
    let text = reader.required(table, "upstream")?;
    let names = || upstreams.iter().map(|named| named.settings.name.as_str());
    let found = names().position(|name| name == *text.get_ref());
    if found.is_none() {
        let hint = if upstreams.is_empty() {
            if root.value("upstream").is_some() || root.is_explained("upstream") {
                return None; // whatever is wrong with the upstreams is reported there
            }
            format!("add [[upstream]] with `name = {:?}`", text.get_ref())
        } else {
            suggest(text.get_ref(), names())
        };
        reader.problems.error(
            text.span(),
            format!("there is no upstream {:?}", text.get_ref()),
            &hint,
        );
    }
    found.map(UpstreamId)
}

fn host(
    reader: &Reader<'_>,
    table: &Section<'_>,
    origin: Option<&Origin>,
    cookies: &CookieStyle,
) -> Option<String> {
    let Some(text) = table.text("host") else {
        return origin.map(|origin| origin.host.clone());
    };
    let host = names::host(text.get_ref())
        .inspect_err(|hint| {
            reader.problems.error(
                text.span(),
                format!("{:?} is not a host", text.get_ref()),
                hint,
            );
        })
        .ok()?;
    if let Some(domain) = &cookies.domain
        && !names::is_within(&host, domain)
    {
        reader.problems.error(
            text.span(),
            format!("{host} does not lie within `session.cookie_domain` ({domain})"),
            "the sign-in of the origin cannot serve it: use a host below that domain",
        );
    }
    Some(host)
}

fn path(reader: &Reader<'_>, table: &Section<'_>) -> Option<String> {
    let Some(text) = table.text("path") else {
        return Some("/".to_owned());
    };
    let typed = *text.get_ref();
    let wrong = |message: String, hint: &str| {
        reader.problems.error(text.span(), message, hint);
        None
    };
    if !typed.starts_with('/') {
        return wrong(format!("{typed:?} is not a path"), "it begins with `/`");
    }
    if typed.contains(['*', '?', '#', '%', ';']) {
        return wrong(
            format!("{typed:?} is not a plain path"),
            "a path is a prefix on segment boundaries: \"/api\" covers /api and /api/…; write it decoded, without `*`, `?`, `#`, `%` and `;`",
        );
    }
    let segments = typed.trim_end_matches('/');
    let strange = typed.chars().any(|c| c.is_control() || c == '\\');
    let dots = segments
        .split('/')
        .skip(1)
        .any(|segment| matches!(segment, "" | "." | ".."));
    if strange || dots || typed.len() > CanonicalTarget::MAX {
        return wrong(
            format!("{typed:?} can never match"),
            "requests with dot segments, `//`, backslashes or control characters are refused before any route",
        );
    }
    if names::is_within_path(typed, "/.auth") {
        return wrong(
            format!("{typed:?} belongs to the gateway"),
            "paths below /.auth/ are the sign-in pages and never reach an upstream",
        );
    }
    Some(typed.to_owned())
}

fn methods(reader: &Reader<'_>, table: &Section<'_>) -> Option<Vec<Method>> {
    let Some(texts) = table.texts("methods") else {
        return Some(Vec::new());
    };
    if texts.is_empty()
        && let Some(value) = table.value("methods")
    {
        reader.problems.error(
            value.span(),
            "`route.methods` is empty",
            "leave it out for all methods",
        );
        return None;
    }
    const COMMON: [&str; 8] = [
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND",
    ];
    let mut methods = Vec::new();
    let mut good = true;
    for text in texts {
        let typed = *text.get_ref();
        match Method::from_bytes(typed.as_bytes()) {
            Ok(_) if typed.bytes().any(|byte| byte.is_ascii_lowercase()) => {
                good = false;
                reader.problems.error(
                    text.span(),
                    format!("the method {typed:?} is not written in capitals"),
                    &format!("did you mean {:?}?", typed.to_ascii_uppercase()),
                );
            }
            Ok(Method::CONNECT) => {
                good = false;
                reader.problems.error(
                    text.span(),
                    "CONNECT is never forwarded",
                    "WebSockets over HTTP/1 are GET requests",
                );
            }
            Ok(method) => {
                if !methods.contains(&method) {
                    methods.push(method);
                }
            }
            Err(_) => {
                good = false;
                reader.problems.error(
                    text.span(),
                    format!("{typed:?} is not a method"),
                    &suggest(typed, COMMON.into_iter()),
                );
            }
        }
    }
    good.then_some(methods)
}

/// Reports every rule that cannot be told from an earlier one. What counts as such is the table's to say: it is built
/// again without the offender until it can be built.
fn unambiguous(reader: &Reader<'_>, routes: &[Route], places: &[Range<usize>]) {
    let mut left: Vec<(Route, Range<usize>)> =
        routes.iter().cloned().zip(places.iter().cloned()).collect();
    while let Err(Ambiguous(first, second)) =
        RouteTable::build(left.iter().map(|(route, _)| route.clone()).collect())
    {
        let Some((_, first_place)) = left.get(first).cloned() else {
            return;
        };
        if second >= left.len() {
            return;
        }
        let (route, place) = left.remove(second);
        reader.problems.clash(
            place,
            format!(
                "two routes for {}{} with a method in common",
                route.host, route.path
            ),
            "nobody could say which rule holds: change host, path or methods, or remove one",
            first_place,
            "the first one",
        );
    }
}

/// A route that wants a sign-in needs a way to sign in.
pub(super) fn someone_can_sign_in(reader: &Reader<'_>, root: &Section<'_>, routes: &[Route]) {
    let login = root.section("login");
    let has_a_way = login
        .entries()
        .any(|(name, _)| super::login::WAYS.contains(name.get_ref()))
        || root.value("external").is_some()
        || root.value("bearer").is_some()
        || login.is_one_explained(&super::login::WAYS)
        || root.is_one_explained(&["external", "bearer"]);
    if !has_a_way && routes.iter().any(|route| route.access != Access::Public) {
        let span = root.value("login").map_or(0..0, Spanned::span);
        reader.problems.error(
            span,
            "nobody can sign in: no way to do so is configured",
            "add [login.local] for built-in accounts, then `vestibule user add NAME`; or [login.oidc.NAME] for an OpenID provider",
        );
    }
}
