//! Where `[external]` sends people: pages that browsers are led to, and that lead them out again.

use toml::Spanned;

use crate::auth::path::CanonicalTarget;
use crate::auth::route::{Access, Matched, Route, RouteTable};
use crate::config::Origin;
use crate::config::check::{Reader, address, names};
use crate::config::file::Section;

/// A page that people are sent to: a path of the origin, or an https URL.
pub(super) fn page(reader: &Reader<'_>, text: &Spanned<&str>, key: &str) -> Option<String> {
    let typed = *text.get_ref();
    if address::is_page(typed) {
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
