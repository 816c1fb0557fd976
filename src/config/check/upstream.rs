//! `[[upstream]]`: names, timeouts, and that each is used.

mod headers;
mod places;

use std::ops::Range;
use std::time::Duration;

use super::Reader;
use crate::auth::route::Route;
use crate::config::file::Section;
use crate::server::Limits;
use crate::upstream::Settings;

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
    let endpoints = places::endpoints(reader, table);
    let settings = Settings {
        name: name.as_ref()?.get_ref().to_string(),
        endpoints,
        connect_timeout: timeout("connect_timeout"),
        response_timeout: timeout("response_timeout"),
        body_idle_timeout: limits.body_idle_timeout,
        assertion: reader.flag(table, "assertion"),
        headers: headers::mapping(reader, table),
    };
    Some(Named {
        settings,
        span: name?.span(),
    })
}
