//! `[[bearer]]`: issuers of tokens that API clients bring, one table for each, no issuer twice.

use std::time::Duration;

use toml::Spanned;

use super::keys::{self, Source};
use super::{Reader, address, authorities, claims, ways};
use crate::bearer::{Keys, Settings};
use crate::config::file::Section;
use crate::issuer::Location;

pub(super) fn all(reader: &Reader<'_>, root: &Section<'_>) -> Vec<Settings> {
    let tables = root.sections("bearer");
    let logins = ways::logins(root);
    let mut issuers: Vec<Spanned<&str>> = Vec::new();
    for text in tables.iter().filter_map(|table| table.text("issuer")) {
        let twin = issuers.iter().find(|one| one.get_ref() == text.get_ref());
        if let Some(twin) = twin {
            reader.problems.clash(
                text.span(),
                format!("two [[bearer]] for the issuer {:?}", text.get_ref()),
                "a token is judged by the one table of its issuer: remove one",
                twin.span(),
                "the first one",
            );
        }
        if logins.iter().any(|login| login == text.get_ref()) {
            reader.problems.error(
                text.span(),
                format!("the issuer {:?} is called as a way of signing in is", text.get_ref()),
                "who somebody is, is the pair of provider and name: no two can share the first; rename the one under [login]",
            );
        }
        issuers.push(text);
    }
    tables
        .iter()
        .filter_map(|table| one(reader, table))
        .collect()
}

fn one(reader: &Reader<'_>, table: &Section<'_>) -> Option<Settings> {
    let issuer = reader.required(table, "issuer");
    let audience = reader.required(table, "audience");
    let trust_email = reader.flag(table, "trust_email");
    let claims = claims::map(reader, &table.section("claims"), trust_email);
    let ca = authorities::certificates(reader, table, "ca_file", "issuer");
    let max_lifetime = reader.duration(
        table,
        "max_lifetime",
        Duration::from_secs(60)..=Duration::from_secs(366 * 86_400),
    );
    let keys = match keys::source(reader, table, "a [[bearer]]", "issuer")? {
        Source::Fixed(keys) => Keys::Fixed(keys),
        Source::Url(url, algorithms) => Keys::Remote {
            location: Location::Url(url),
            algorithms,
            ca,
        },
        // They are discovered at the issuer, which is called then.
        Source::Unnamed(algorithms) => {
            if let Some(stray) = algorithms.iter().find(|one| one.is_symmetric()) {
                reader.problems.error(
                    table.value("algorithms").map_or(table.span(), Spanned::span),
                    format!("{stray} needs a shared secret"),
                    "whoever knows the public key could sign with it; name secret_file or secret_env",
                );
                return None;
            }
            address::of_keys(reader, issuer.as_ref()?, "bearer.issuer")?;
            Keys::Remote {
                location: Location::Discovered,
                algorithms,
                ca,
            }
        }
    };
    Some(Settings {
        issuer: issuer?.get_ref().to_string(),
        audience: audience?.get_ref().to_string(),
        claims: claims?,
        max_lifetime,
        keys,
    })
}
