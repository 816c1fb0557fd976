//! `[[bearer]]`: issuers of tokens that API clients bring, one table for each, no issuer twice.

use http::Uri;
use http::uri::Scheme;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use std::sync::Arc;
use std::time::Duration;
use toml::Spanned;

use super::store::{public_file, secret_file};
use super::{Reader, suggest};
use crate::auth::claims::{ClaimMap, ClaimPath};
use crate::auth::foreign_keys::{Algorithm, ForeignKeys};
use crate::bearer::{Keys, Settings};
use crate::config::defaults;
use crate::config::file::Section;
use crate::issuer::Location;
use crate::units::Secret;

/// Where keys may come from; one of them, or none for discovery.
const SOURCES: [&str; 4] = ["jwks_url", "jwks_file", "public_key_file", "secret_file"];

pub(super) fn all(reader: &Reader<'_>, root: &Section<'_>) -> Vec<Settings> {
    let tables = root.sections("bearer");
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
    let algorithms = algorithms(reader, table);
    let trust_email = reader.flag(table, "trust_email");
    let claims = claims(reader, &table.section("claims"), trust_email);
    let ca = authorities(reader, table);
    let max_lifetime = reader.duration(
        table,
        "max_lifetime",
        Duration::from_secs(60)..=Duration::from_secs(366 * 86_400),
    );
    let keys = keys(reader, table, issuer.as_ref(), algorithms?, ca?);
    Some(Settings {
        issuer: issuer?.get_ref().to_string(),
        audience: audience?.get_ref().to_string(),
        claims: claims?,
        max_lifetime,
        keys: keys?,
    })
}

/// The configured algorithms; `None` inside where there are none.
fn algorithms(reader: &Reader<'_>, table: &Section<'_>) -> Option<Option<Vec<Algorithm>>> {
    let Some(texts) = table.texts("algorithms") else {
        return Some(None);
    };
    let known = || {
        let all = Algorithm::ASYMMETRIC.iter().chain(Algorithm::SYMMETRIC);
        all.map(|algorithm| algorithm.name())
    };
    let mut algorithms = Vec::new();
    let mut good = true;
    for text in &texts {
        match Algorithm::parse(text.get_ref()) {
            Some(algorithm) if !algorithms.contains(&algorithm) => algorithms.push(algorithm),
            Some(_) => {}
            None => {
                good = false;
                reader.problems.error(
                    text.span(),
                    format!("{:?} is no signature algorithm", text.get_ref()),
                    &suggest(text.get_ref(), known()),
                );
            }
        }
    }
    if texts.is_empty() {
        good = false;
        reader.problems.error(
            table.value("algorithms").map_or(0..0, Spanned::span),
            "`bearer.algorithms` is empty",
            "leave it out for all that work with a public key",
        );
    }
    good.then_some(Some(algorithms))
}

/// Which claim is what.
fn claims(reader: &Reader<'_>, table: &Section<'_>, trust_email: bool) -> Option<ClaimMap> {
    let path = |key: &str| {
        let typed = table.text(key);
        let text = match &typed {
            Some(text) => text.get_ref(),
            None => defaults::value(&table.path_of(key)),
        };
        ClaimPath::parse(text)
            .inspect_err(|error| {
                let span = typed.as_ref().map_or(table.span(), Spanned::span);
                reader.problems.error(
                    span,
                    format!("`{}` is {error}", table.path_of(key)),
                    "for example \"sub\"",
                );
            })
            .ok()
    };
    let (user, email, name) = (path("user"), path("email"), path("name"));
    let (preferred_username, groups) = (path("preferred_username"), path("groups"));
    Some(ClaimMap {
        user: user?,
        email: email?,
        name: name?,
        preferred_username: preferred_username?,
        groups: groups?,
        trust_email,
    })
}

fn authorities(reader: &Reader<'_>, table: &Section<'_>) -> Option<Vec<CertificateDer<'static>>> {
    let Some(file) = table.text("ca_file") else {
        return Some(Vec::new());
    };
    let hint = "name the PEM file of the authority that signed the issuer's certificate";
    let pem = public_file(reader, file.span(), file.get_ref(), hint)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(certificates) if !certificates.is_empty() => Some(certificates),
        _ => {
            reader.problems.error(
                file.span(),
                "there is no certificate in it",
                "a PEM file has a line -----BEGIN CERTIFICATE-----",
            );
            None
        }
    }
}

fn keys(
    reader: &Reader<'_>,
    table: &Section<'_>,
    issuer: Option<&Spanned<&str>>,
    algorithms: Option<Vec<Algorithm>>,
    ca: Vec<CertificateDer<'static>>,
) -> Option<Keys> {
    let given: Vec<_> = SOURCES
        .into_iter()
        .filter_map(|key| Some((key, table.text(key)?)))
        .collect();
    if let [(first, one), (other, another), ..] = given.as_slice() {
        reader.problems.clash(
            another.span(),
            format!("a [[bearer]] has both `{first}` and `{other}`"),
            "keep the one that its tokens are verified with",
            one.span(),
            "the other one",
        );
        return None;
    }
    let source = given.first();
    let shared = matches!(source, Some(("secret_file", _)));
    let allowed = match algorithms {
        Some(algorithms) => algorithms,
        None if shared => vec![Algorithm::HS256],
        None => Algorithm::ASYMMETRIC.to_vec(),
    };
    if let Some(stray) = allowed.iter().find(|one| one.is_symmetric() != shared) {
        let (needs, hint) = match shared {
            true => (
                "a public key",
                "a shared secret goes with HS256, HS384 or HS512; for this one use jwks_url, jwks_file or public_key_file",
            ),
            false => (
                "a shared secret",
                "whoever knows the public key could sign with it; for this one use secret_file",
            ),
        };
        reader.problems.error(
            table
                .value("algorithms")
                .map_or(table.span(), Spanned::span),
            format!("{stray} needs {needs}"),
            hint,
        );
        return None;
    }
    let Some((key, text)) = source else {
        let issuer = issuer?;
        callable(reader, issuer, "issuer")?;
        return Some(Keys::Remote {
            location: Location::Discovered,
            algorithms: allowed,
            ca,
        });
    };
    if *key == "jwks_url" {
        return Some(Keys::Remote {
            location: Location::Url(callable(reader, text, key)?),
            algorithms: allowed,
            ca,
        });
    }
    let hint = match *key {
        "secret_file" => "name the file that holds the issuer's secret and nothing else",
        "public_key_file" => "name the PEM file with the issuer's public key",
        _ => "name the file with the issuer's JWK Set",
    };
    let bytes = match shared {
        true => secret_file(reader, text.span(), text.get_ref(), hint)?,
        false => public_file(reader, text.span(), text.get_ref(), hint)?,
    };
    let made = match *key {
        "secret_file" => ForeignKeys::from_secret(&Secret::new(bytes), &allowed),
        "public_key_file" => ForeignKeys::from_pem(&bytes, &allowed),
        _ => ForeignKeys::from_jwks(&bytes, &allowed),
    };
    match made {
        Ok(keys) => {
            if let Some((kid, why)) = keys.skipped().first() {
                let which = kid
                    .as_deref()
                    .map_or(String::new(), |kid| format!(" {kid:?}"));
                reader.problems.warning(
                    text.span(),
                    format!("a key{which} of this file is not used: {why}"),
                    "tokens that are signed with it are refused",
                );
            }
            Some(Keys::Fixed(Arc::new(keys)))
        }
        Err(error) => {
            reader
                .problems
                .error(text.span(), format!("`bearer.{key}`: {error}"), hint);
            None
        }
    }
}

/// A URL whose answer decides whose tokens are believed: https, or http on this very machine.
fn callable(reader: &Reader<'_>, text: &Spanned<&str>, key: &str) -> Option<Uri> {
    let typed = *text.get_ref();
    let wrong = |message: String, hint: &str| {
        reader.problems.error(text.span(), message, hint);
        None
    };
    let uri: Option<Uri> = typed.parse().ok();
    let Some((uri, host)) = uri.and_then(|uri| {
        let host = uri.host()?.to_owned();
        Some((uri, host))
    }) else {
        let hint = match key {
            "issuer" => {
                "the keys are discovered at the issuer, which must be an https URL then; or name jwks_url, jwks_file, public_key_file or secret_file"
            }
            _ => "write https://host/path",
        };
        return wrong(format!("{typed:?} is not a URL"), hint);
    };
    if typed.contains(['@', '#']) {
        return wrong(
            format!("{typed:?} has a part that is not sent"),
            "no user, no password and no #fragment belong into it",
        );
    }
    match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => Some(uri),
        Some(scheme) if *scheme == Scheme::HTTP && is_this_machine(&host) => Some(uri),
        Some(scheme) if *scheme == Scheme::HTTP => wrong(
            format!("the keys would be fetched from {host} without TLS"),
            "whoever is in between could give you keys of their own: use https (ca_file names an authority of your own), or jwks_file",
        ),
        _ => wrong(
            format!("{typed:?} cannot be called"),
            "write https://host/path",
        ),
    }
}

fn is_this_machine(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || bare
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}
