//! `[login]`: built-in accounts, OpenID providers, OAuth 2 services. Secrets are read here and never shown.

mod client;
mod request;

use std::ops::Range;
use std::time::Duration;

use toml::Spanned;

use super::{Reader, address, authorities, claims};
use crate::auth::claims::ClaimPath;
use crate::config::file::Section;
use crate::login::local;
use crate::login::oidc::settings::{Allow, ClaimPaths, Endpoints, Kind, Settings};
use crate::login::return_to::{AllowedHosts, ReturnTo};
use crate::outbound;

const DAY: Duration = Duration::from_secs(86_400);
/// Longest name of a provider.
const LONGEST_NAME: usize = 32;

/// Every provider, in the order of the file; OpenID providers first.
pub(super) fn providers(reader: &Reader<'_>, root: &Section<'_>) -> Vec<Settings> {
    let login = root.section("login");
    let mut providers: Vec<(Settings, Range<usize>)> = Vec::new();
    for (kind, read) in [
        (
            "oidc",
            openid as fn(&Reader<'_>, &Section<'_>) -> Option<Protocol>,
        ),
        ("oauth2", oauth2),
    ] {
        for (name, table) in login.section(kind).named() {
            let name_is_good = named_well(reader, &name);
            let twin = providers
                .iter()
                .find(|(other, _)| other.name == *name.get_ref());
            if let Some((_, place)) = twin {
                reader.problems.clash(
                    name.span(),
                    format!("there are two providers called {:?}", name.get_ref()),
                    "sessions, URLs and metrics are told apart by that name: give each its own",
                    place.clone(),
                    "the first one",
                );
            }
            let protocol = read(reader, &table);
            let settings = one(reader, &table, name.get_ref(), protocol);
            if let Some(settings) = settings.filter(|_| name_is_good) {
                providers.push((settings, name.span()));
            }
        }
    }
    providers.sort_by_key(|(_, place)| place.start);
    providers
        .into_iter()
        .map(|(settings, _)| settings)
        .collect()
}

/// The names under `login` with which somebody can sign in.
pub(super) const WAYS: [&str; 3] = ["local", "oidc", "oauth2"];

/// A name is a segment of URLs and a label in metrics.
fn named_well(reader: &Reader<'_>, name: &Spanned<&str>) -> bool {
    let text = *name.get_ref();
    let plain = (1..=LONGEST_NAME).contains(&text.len())
        && text.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte)
        });
    let hint = if text == local::PROVIDER {
        "that is what the built-in accounts are called"
    } else if !plain {
        "lower-case letters, digits, `-` and `_`, 32 at most: it is part of /.auth/callback/NAME"
    } else {
        return true;
    };
    reader.problems.error(
        name.span(),
        format!("a provider cannot be called {text:?}"),
        hint,
    );
    false
}

/// What differs between the two kinds.
struct Protocol {
    kind: Kind,
    prompt: Option<String>,
    max_age: Option<Duration>,
    provider_check: Duration,
    provider_grace: Duration,
    logout_return: Option<String>,
    subject: Option<ClaimPath>,
}

fn openid(reader: &Reader<'_>, table: &Section<'_>) -> Option<Protocol> {
    let issuer = issuer(reader, table);
    let most = DAY * 400;
    let max_age = table
        .value("max_age")
        .map(|_| reader.duration(table, "max_age", Duration::ZERO..=most));
    Some(Protocol {
        prompt: request::prompt(reader, table),
        max_age,
        provider_check: reader.duration(table, "provider_check", Duration::from_secs(1)..=most),
        provider_grace: reader.duration(table, "provider_grace", Duration::ZERO..=most),
        logout_return: logout_return(reader, table),
        subject: ClaimPath::parse("sub").ok(),
        kind: Kind::OpenId { issuer: issuer? },
    })
}

fn oauth2(reader: &Reader<'_>, table: &Section<'_>) -> Option<Protocol> {
    let required = |key| {
        let text = reader.required(table, key)?;
        address(reader, table, key, &text)
    };
    let (authorize, token) = (required("authorize_url"), required("token_url"));
    let userinfo = required("userinfo_url");
    let emails = table
        .text("emails_url")
        .and_then(|text| address(reader, table, "emails_url", &text));
    Some(Protocol {
        kind: Kind::OAuth2(Endpoints {
            authorize: authorize?,
            token: token?,
            userinfo: userinfo?,
            emails,
        }),
        prompt: None,
        max_age: None,
        // Such a service cannot be asked again: its tokens say nothing of a session.
        provider_check: Duration::MAX,
        provider_grace: Duration::MAX,
        logout_return: None,
        subject: claims::path(reader, &table.section("claims"), "subject"),
    })
}

fn one(
    reader: &Reader<'_>,
    table: &Section<'_>,
    name: &str,
    protocol: Option<Protocol>,
) -> Option<Settings> {
    let client_id = reader.required(table, "client_id");
    let audience_known = matches!(
        protocol,
        Some(Protocol {
            kind: Kind::OpenId { .. },
            ..
        })
    );
    let client_auth = client::authentication(reader, table, audience_known);
    let scopes = request::scopes(reader, table, audience_known);
    let allow = allow(reader, table);
    let trust_email = reader.flag(table, "trust_email");
    let extra = request::extra(reader, table);
    let display_name = display_name(reader, table).unwrap_or_else(|| name.to_owned());
    let ca = authorities::certificates(reader, table, "ca_file", "provider");
    // Whether an address is trusted is judged with the provider's own rules, source by source.
    let claims = table.section("claims");
    let map = claims::map(reader, &claims, true);
    let email_verified = claims::path(reader, &claims, "email_verified");
    let protocol = protocol?;
    Some(Settings {
        name: name.to_owned(),
        display_name,
        kind: protocol.kind,
        client_id: client_id?.get_ref().to_string(),
        client_auth: client_auth?,
        scopes,
        allow,
        claims: ClaimPaths {
            subject: protocol.subject?,
            email_verified: email_verified?,
            map: map?,
        },
        trust_email,
        prompt: protocol.prompt,
        max_age: protocol.max_age,
        extra,
        provider_check: protocol.provider_check,
        provider_grace: protocol.provider_grace,
        logout_return: protocol.logout_return,
        ca,
        useful_groups: None,
    })
}

/// The issuer as it was typed: it is compared byte for byte (OpenID Connect Discovery section 4.3).
fn issuer(reader: &Reader<'_>, table: &Section<'_>) -> Option<String> {
    let text = reader.required(table, "issuer")?;
    let typed = *text.get_ref();
    let microsoft = ["common", "organizations", "consumers"]
        .iter()
        .any(|tenant| typed.contains(&format!("login.microsoftonline.com/{tenant}/")));
    if microsoft || typed.contains('{') {
        reader.problems.error(
            text.span(),
            "this issuer stands for many tenants: its tokens name another one each",
            "write your own tenant's: https://login.microsoftonline.com/TENANT-ID/v2.0",
        );
        return None;
    }
    if typed.contains("/.well-known/") {
        reader.problems.error(
            text.span(),
            "this is the address of a discovery document, not an issuer",
            "write what stands before /.well-known/, or `issuer` as the document has it",
        );
        return None;
    }
    address(reader, table, "issuer", &text)?;
    if typed.contains(['?', '#']) {
        reader.problems.error(
            text.span(),
            format!("`{}` has a query or a fragment", table.path_of("issuer")),
            "an issuer has none (OpenID Connect Discovery section 3)",
        );
        return None;
    }
    Some(typed.to_owned())
}

/// Where the gateway or people's browsers meet the provider, as it was typed.
fn address(
    reader: &Reader<'_>,
    table: &Section<'_>,
    key: &str,
    text: &Spanned<&str>,
) -> Option<String> {
    let path = table.path_of(key);
    let url = address::called(reader, text, &path)?;
    if outbound::is_in_clear(&url) {
        reader.problems.error(
            text.span(),
            format!("`{path}` is not over TLS"),
            "whoever is on the way could sign in as anybody: use https; http is for a provider on this very machine",
        );
        return None;
    }
    Some((*text.get_ref()).to_owned())
}

fn allow(reader: &Reader<'_>, table: &Section<'_>) -> Allow {
    let allow = table.section("allow");
    let list = |key: &str, wrong: fn(&str) -> Option<&'static str>| -> Vec<String> {
        let texts = allow.texts(key).unwrap_or_default();
        if texts.is_empty()
            && let Some(value) = allow.value(key)
        {
            reader.problems.error(
                value.span(),
                format!("`{}` is empty", allow.path_of(key)),
                "an empty list says nothing: remove it, or name somebody",
            );
        }
        for text in &texts {
            if let Some(hint) = wrong(text.get_ref()) {
                reader.problems.error(
                    text.span(),
                    format!("{:?} cannot be in `{}`", text.get_ref(), allow.path_of(key)),
                    hint,
                );
            }
        }
        texts
            .iter()
            .map(|text| (*text.get_ref()).to_owned())
            .collect()
    };
    let empty = |text: &str| text.trim().is_empty().then_some("remove it");
    Allow {
        email_domains: list("email_domains", |text| {
            (text.is_empty() || text.contains(['@', '*', ' ']) || !text.contains('.')).then_some(
                "write the domain alone, such as \"example.com\"; a subdomain is another domain",
            )
        })
        .into_iter()
        .map(|domain| domain.to_ascii_lowercase())
        .collect(),
        groups: list("groups", empty),
        users: list("users", empty),
        emails: list("emails", |text| {
            (!text.contains('@')).then_some("an e-mail address has an @")
        }),
    }
}

fn display_name(reader: &Reader<'_>, table: &Section<'_>) -> Option<String> {
    let text = table.text("display_name")?;
    let name = text.get_ref().trim();
    if name.is_empty() || name.chars().count() > 64 || name.chars().any(char::is_control) {
        reader.problems.error(
            text.span(),
            format!(
                "`{}` is no text for a button",
                table.path_of("display_name")
            ),
            "1 to 64 characters on one line",
        );
        return None;
    }
    Some(name.to_owned())
}

/// Where people go after the provider's sign-out: the configuration is the list of what is allowed.
fn logout_return(reader: &Reader<'_>, table: &Section<'_>) -> Option<String> {
    let text = table.text("logout_return")?;
    let typed = *text.get_ref();
    let good = address::is_page(typed)
        && (typed.starts_with("https://")
            || ReturnTo::parse(typed, &AllowedHosts::none()).as_str() == typed);
    if !good {
        reader.problems.error(
            text.span(),
            format!("`{}` leads nowhere", table.path_of("logout_return")),
            "write a path such as \"/goodbye\", or an address that begins with https://",
        );
        return None;
    }
    Some(typed.to_owned())
}
