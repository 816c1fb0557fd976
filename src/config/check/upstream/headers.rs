//! `headers` of an `[[upstream]]`: in which headers an identity is told. No name that means something else to HTTP, browsers or
//! this gateway, and no two that an app could read as one.

use std::ops::Range;

use http::HeaderName;
use toml::Spanned;
use toml::de::DeValue;

use crate::config::check::{Reader, suggest};
use crate::config::file::Section;
use crate::config::survey::called;
use crate::upstream::{Claim, HeaderMapping};

const CLAIMS: [(&str, Claim); 5] = [
    ("user", Claim::User),
    ("email", Claim::Email),
    ("name", Claim::Name),
    ("preferred_username", Claim::PreferredUsername),
    ("groups", Claim::Groups),
];

pub(super) fn mapping(reader: &Reader<'_>, table: &Section<'_>) -> HeaderMapping {
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
