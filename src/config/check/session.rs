//! `[session]`: lifetimes, windows, cookies.

use std::time::Duration;

use super::{Reader, names};
use crate::auth::rotation::Windows;
use crate::config::Origin;
use crate::config::file::Section;
use crate::headers::cookie::{CookieStyle, SameSite};
use crate::session::Settings;
use crate::units::format_duration;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// Browsers keep no cookie longer (RFC 6265bis, "The Max-Age Attribute").
const LONGEST_COOKIE: Duration = Duration::from_secs(400 * 86_400);

/// Verified tokens that are remembered: some tens of MiB at most.
const CACHE_ENTRIES: usize = 10_000;

pub(super) fn settings(reader: &Reader<'_>, table: &Section<'_>, origin: &Origin) -> Settings {
    let access_ttl = reader.duration(table, "access_ttl", Duration::from_secs(2)..=DAY);
    if access_ttl > HOUR
        && let Some(text) = table.text("access_ttl")
    {
        reader.problems.warning(
            text.span(),
            "an access token this long-lived is renewed rarely",
            "a change of groups reaches apps only at a renewal; 5m costs nobody anything",
        );
    }
    let lifetime = Duration::from_secs(1)..=LONGEST_COOKIE;
    let idle_ttl = reader.duration(table, "idle_ttl", lifetime.clone());
    let absolute_ttl = reader.duration(table, "absolute_ttl", lifetime);
    at_most(
        reader,
        table,
        ("idle_ttl", idle_ttl),
        ("absolute_ttl", absolute_ttl),
    );
    at_most(
        reader,
        table,
        ("access_ttl", access_ttl),
        ("idle_ttl", idle_ttl),
    );
    let redelivery = window(reader, table, "redelivery_window", access_ttl);
    let replay_grace = window(reader, table, "replay_grace", access_ttl);
    grace_outlasts_answers(reader, table, replay_grace, redelivery);
    Settings {
        origin: origin.to_string(),
        access_ttl,
        absolute_ttl,
        windows: Windows {
            redelivery,
            replay_grace,
            idle_ttl,
        },
        cache_entries: CACHE_ENTRIES,
    }
}

/// Points at the shorter of the two keys that is in the file, or at the table.
fn at_most(
    reader: &Reader<'_>,
    table: &Section<'_>,
    (short_key, short): (&str, Duration),
    (long_key, long): (&str, Duration),
) {
    if short <= long {
        return;
    }
    let span = [short_key, long_key]
        .into_iter()
        .find_map(|key| table.text(key))
        .map_or(table.span(), |text| text.span());
    reader.problems.error(
        span,
        format!("`session.{short_key}` is longer than `session.{long_key}`"),
        &format!(
            "{short_key} is {}, {long_key} is {}",
            format_duration(short),
            format_duration(long)
        ),
    );
}

/// A window of the rotation rule: at most half of the access token's life, and by default not more either.
fn window(reader: &Reader<'_>, table: &Section<'_>, key: &str, access_ttl: Duration) -> Duration {
    let most = access_ttl / 2;
    let window = reader.duration(table, key, Duration::from_millis(1)..=DAY);
    if window <= most {
        return window;
    }
    if let Some(text) = table.text(key) {
        reader.problems.error(
            text.span(),
            format!("`session.{key}` is more than half of `session.access_ttl`"),
            &format!(
                "access_ttl is {}: at most {}, or leave it out",
                format_duration(access_ttl),
                format_duration(most)
            ),
        );
    }
    most
}

/// Answers may carry a new pair for a third of the window, and the browser's other requests may be under way for as long: a
/// grace that ends sooner would take them for thieves.
fn grace_outlasts_answers(
    reader: &Reader<'_>,
    table: &Section<'_>,
    replay_grace: Duration,
    redelivery: Duration,
) {
    if replay_grace >= redelivery / 3 {
        return;
    }
    let span = ["replay_grace", "redelivery_window"]
        .into_iter()
        .find_map(|key| table.text(key))
        .map_or(table.span(), |text| text.span());
    reader.problems.error(
        span,
        "`session.replay_grace` is shorter than a third of `session.redelivery_window`".to_owned(),
        &format!(
            "redelivery_window is {}: at least {}, or requests in flight sign people out",
            format_duration(redelivery),
            format_duration(redelivery / 3)
        ),
    );
}

pub(super) fn cookies(
    reader: &Reader<'_>,
    table: &Section<'_>,
    origin: Option<&Origin>,
) -> CookieStyle {
    CookieStyle {
        same_site: reader.choice(
            table,
            "same_site",
            &[
                ("strict", SameSite::Strict),
                ("lax", SameSite::Lax),
                ("none", SameSite::None),
            ],
            SameSite::Lax,
        ),
        domain: cookie_domain(reader, table, origin),
    }
}

fn cookie_domain(
    reader: &Reader<'_>,
    table: &Section<'_>,
    origin: Option<&Origin>,
) -> Option<String> {
    let text = table.text("cookie_domain")?;
    let wrong = |message: &str, hint: &str| {
        reader.problems.error(text.span(), message, hint);
        None
    };
    let typed = text.get_ref().strip_prefix('.').unwrap_or(text.get_ref());
    let domain = match names::host(typed) {
        Ok(domain) => domain,
        Err(hint) => return wrong("`session.cookie_domain` is not a domain", hint),
    };
    if names::is_address(&domain) || !domain.contains('.') {
        return wrong(
            "`session.cookie_domain` cannot have hosts below it",
            "browsers refuse such a cookie; write a domain of yours such as \"example.com\", or leave it out",
        );
    }
    if let Some(origin) = origin
        && !names::is_within(&origin.host, &domain)
    {
        return wrong(
            "`session.cookie_domain` does not contain the origin's host",
            &format!(
                "the origin is on {}; write it or a domain above it",
                origin.host
            ),
        );
    }
    Some(domain)
}
