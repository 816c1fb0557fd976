//! What was typed -> what was meant: values with their units, references, and every rule that spans several keys.
//!
//! Goes on after a problem with the default in place of the bad value, so that all problems are found at once; the caller
//! throws the result away when there was an error.

mod address;
mod admin;
mod allow;
mod authorities;
mod bearer;
mod claims;
mod external;
mod files;
mod groups;
mod keys;
mod login;
pub(super) mod names;
mod redis;
mod route;
mod secrets;
mod server;
mod session;
mod store;
mod tls;
mod upstream;
mod ways;

use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;

use super::Config;
use super::file::Section;
use super::report::{Problems, Report, suggest};
use crate::observe;
use crate::units::{format_duration, parse_duration, parse_size};

/// What the configuration is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To serve with it: everything that it names must be usable.
    Serve,
    /// To operate on the store, or to look: certificates are not needed for that, nor a folder that can be written.
    Operate,
}

/// Reads every part; `None` when a part without which the rest means nothing is missing.
pub(super) fn check(
    root: &Section<'_>,
    source: &Path,
    problems: &Problems,
    purpose: Purpose,
) -> Option<Config> {
    let reader = Reader {
        problems,
        purpose,
        folder: source.parent().unwrap_or(Path::new("")),
    };
    let server_table = root.section("server");
    let origin = server::origin(&reader, &server_table);
    let origin_or_stand_in = origin.clone().unwrap_or_else(|| super::Origin {
        host: "localhost".to_owned(),
        port: 443,
    });
    let admin = admin::settings(&reader, &root.section("admin"));
    let mut server = server::settings(&reader, &server_table, &origin_or_stand_in, admin.as_ref());
    let trusted_proxies = server::trusted_proxies(&reader, &server_table);
    let tls = tls::settings(&reader, root, &origin_or_stand_in);
    let session_table = root.section("session");
    let session = session::settings(&reader, &session_table, &origin_or_stand_in);
    let cookies = session::cookies(&reader, &session_table, origin.as_ref());
    let store = store::settings(&reader, root);
    let local = root
        .section("login")
        .section("local")
        .is_present()
        .then(crate::login::local::Settings::default);
    let mut providers = login::providers(&reader, root);
    let bearers = bearer::all(&reader, root);
    let upstreams = upstream::all(&reader, root, &server.limits);
    let routes = route::all(&reader, root, origin.as_ref(), &cookies, &upstreams);
    server.origins = server::origins(&origin_or_stand_in, &routes);
    route::someone_can_sign_in(&reader, root, &routes);
    let external = external::settings(
        &reader,
        root,
        &origin_or_stand_in,
        &external::Around {
            cookies: &cookies,
            session: &session,
            store: &store,
            upstreams: &upstreams,
            routes: &routes,
        },
    );
    let ways = ways::Ways {
        local: local.is_some(),
        providers: &providers,
        bearers: &bearers,
        external: external.as_ref(),
    };
    ways::one_name_for_two_people(&reader, root, &ways, &upstreams, &routes);
    if !routes.is_empty() && routes.len() == root.sections("route").len() {
        upstream::unused(&reader, &upstreams, &routes);
    }
    let log = log_settings(&reader, &root.section("log"));
    for provider in &mut providers {
        provider.useful_groups = groups::useful(&routes, &upstreams, provider);
    }

    Some(Config {
        source: source.to_owned(),
        warnings: Report::default(),
        server,
        origin: origin?,
        trusted_proxies,
        tls,
        session,
        cookies,
        store,
        local,
        external,
        providers,
        bearers,
        upstreams: upstreams.into_iter().map(|named| named.settings).collect(),
        routes,
        admin,
        log,
    })
}

fn log_settings(reader: &Reader<'_>, table: &Section<'_>) -> observe::Settings {
    observe::Settings {
        format: reader.choice(
            table,
            "format",
            &[
                ("json", observe::Format::Json),
                ("text", observe::Format::Text),
            ],
            observe::Format::Json,
        ),
        access: reader.flag(table, "access"),
    }
}

/// Reads single values and notes what is wrong with them.
pub(super) struct Reader<'a> {
    problems: &'a Problems,
    purpose: Purpose,
    folder: &'a Path,
}

impl Reader<'_> {
    /// A path as the deployer meant it: relative to the folder of the file.
    fn path(&self, text: &str) -> PathBuf {
        self.folder.join(text)
    }

    /// A text that must be there.
    fn required<'t>(&self, table: &Section<'t>, key: &str) -> Option<Spanned<&'t str>> {
        if table.value(key).is_none() && !table.is_explained(key) {
            let path = table.path_of(key);
            let meaning = table.known(key).map_or("", |key| key.meaning);
            self.problems.error(
                table.span(),
                format!("`{path}` is missing"),
                &format!("add `{key} = \"…\"`: {meaning}"),
            );
        }
        let text = table.text(key)?;
        if text.get_ref().trim().is_empty() {
            self.problems.error(
                text.span(),
                format!("`{}` is empty", table.path_of(key)),
                "",
            );
            return None;
        }
        Some(text)
    }

    fn flag(&self, table: &Section<'_>, key: &str) -> bool {
        table
            .flag(key)
            .map_or_else(|| table.default_of(key) == "true", |flag| *flag.get_ref())
    }

    /// A duration within bounds, or the default.
    fn duration(
        &self,
        table: &Section<'_>,
        key: &str,
        allowed: RangeInclusive<Duration>,
    ) -> Duration {
        let path = table.path_of(key);
        let fallback = parse_duration(table.default_of(key)).unwrap_or_default();
        let Some(text) = table.text(key) else {
            return fallback;
        };
        match parse_duration(text.get_ref()) {
            Ok(duration) if allowed.contains(&duration) => duration,
            Ok(_) => {
                self.out_of_bounds(
                    text.span(),
                    &path,
                    format_duration(*allowed.start()),
                    format_duration(*allowed.end()),
                );
                fallback
            }
            Err(error) => {
                self.unreadable(text.span(), &path, &error);
                fallback
            }
        }
    }

    /// A size, `None` = unlimited, or the default.
    fn size(&self, table: &Section<'_>, key: &str) -> Option<u64> {
        let path = table.path_of(key);
        let fallback = parse_size(table.default_of(key)).unwrap_or_default();
        let Some(text) = table.text(key) else {
            return fallback;
        };
        parse_size(text.get_ref()).unwrap_or_else(|error| {
            self.unreadable(text.span(), &path, &error);
            fallback
        })
    }

    /// A whole number within bounds, or the default.
    fn count(&self, table: &Section<'_>, key: &str, allowed: RangeInclusive<usize>) -> usize {
        let path = table.path_of(key);
        let fallback = table.default_of(key).parse().unwrap_or(*allowed.start());
        let Some(count) = table.count(key) else {
            return fallback;
        };
        let number = count
            .get_ref()
            .and_then(|count| usize::try_from(count).ok());
        match number {
            Some(number) if allowed.contains(&number) => number,
            _ => {
                self.out_of_bounds(count.span(), &path, allowed.start(), allowed.end());
                fallback
            }
        }
    }

    /// One of several words, or the fallback.
    fn choice<T: Copy>(
        &self,
        table: &Section<'_>,
        key: &str,
        words: &[(&'static str, T)],
        fallback: T,
    ) -> T {
        let Some(text) = table.text(key) else {
            return fallback;
        };
        let found = words.iter().find(|(word, _)| word == text.get_ref());
        if let Some((_, value)) = found {
            return *value;
        }
        let known = || words.iter().map(|(word, _)| *word);
        self.problems.error(
            text.span(),
            format!("`{}` cannot be {:?}", table.path_of(key), text.get_ref()),
            &suggest(text.get_ref(), known()),
        );
        fallback
    }

    fn out_of_bounds(
        &self,
        span: Range<usize>,
        path: &str,
        least: impl Display,
        most: impl Display,
    ) {
        self.problems.error(
            span,
            format!("`{path}` is out of bounds"),
            &format!("from {least} to {most}"),
        );
    }

    /// A text that its parser does not take; what it says after a colon is what to do about it.
    fn unreadable(&self, span: Range<usize>, path: &str, error: &impl Display) {
        let text = error.to_string();
        let (what, hint) = text.split_once(": ").unwrap_or((&text, ""));
        self.problems
            .error(span, format!("`{path}` is {what}"), hint);
    }
}
