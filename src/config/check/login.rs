//! `[login]`: built-in accounts, OpenID providers, OAuth 2 services. Secrets are read here and never shown.

use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use url::Url;

use super::redis::{authorities, secret};
use super::store::read_file;
use super::{Reader, suggest};
use crate::auth::claims::{ClaimMap, ClaimPath};
use crate::config::defaults;
use crate::config::file::Section;
use crate::login::local;
use crate::login::oidc::authorize::RESERVED;
use crate::login::oidc::client_auth::ClientKey;
use crate::login::oidc::settings::{Allow, ClaimPaths, ClientAuth, Endpoints, Kind, Settings};
use crate::login::return_to::{AllowedHosts, ReturnTo};
use crate::units::Secret;

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
        prompt: prompt(reader, table),
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
        subject: path(reader, &table.section("claims"), "subject"),
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
    let client_auth = client_auth(reader, table, audience_known);
    let scopes = scopes(reader, table, audience_known);
    let allow = allow(reader, table);
    let claims = table.section("claims");
    let trust_email = reader.flag(table, "trust_email");
    let extra = extra(reader, table);
    let display_name = display_name(reader, table).unwrap_or_else(|| name.to_owned());
    let ca = authorities(
        reader,
        table,
        "ca_file",
        "name the PEM file of the authority that signed the provider's certificate",
    );
    let path = |key| path(reader, &claims, key);
    let (user, email) = (path("user"), path("email"));
    let (email_verified, shown) = (path("email_verified"), path("name"));
    let (preferred_username, groups) = (path("preferred_username"), path("groups"));
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
            map: ClaimMap {
                user: user?,
                email: email?,
                name: shown?,
                preferred_username: preferred_username?,
                groups: groups?,
                // Judged with the provider's own rules, source by source.
                trust_email: true,
            },
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

/// An http or https address without user and fragment, as it was typed.
fn address(
    reader: &Reader<'_>,
    table: &Section<'_>,
    key: &str,
    text: &Spanned<&str>,
) -> Option<String> {
    let typed = *text.get_ref();
    let wrong = |hint: &str| {
        reader.problems.error(
            text.span(),
            format!("`{}` is not an address", table.path_of(key)),
            hint,
        );
        None
    };
    let Ok(url) = Url::parse(typed) else {
        return wrong("write it whole: https://id.example.com/…");
    };
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return wrong("it has no user, no password and no fragment");
    }
    match url.scheme() {
        "https" => {}
        "http" => {
            let loopback = match url.host() {
                Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
                Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
                Some(url::Host::Domain(name)) => name == "localhost",
                None => false,
            };
            if !loopback {
                reader.problems.warning(
                    text.span(),
                    format!("`{}` is not over TLS", table.path_of(key)),
                    "whoever is on the way can sign in as anybody: use https",
                );
            }
        }
        _ => return wrong("it begins with https://"),
    }
    Some(typed.to_owned())
}

fn client_auth(
    reader: &Reader<'_>,
    table: &Section<'_>,
    audience_known: bool,
) -> Option<ClientAuth> {
    let default = defaults::value(&table.path_of("client_auth"));
    let mut words = vec!["secret_basic", "secret_post", "none"];
    if audience_known {
        words.push("private_key_jwt");
    }
    let word = match table.text("client_auth") {
        None => default,
        Some(text) => match words.iter().find(|word| *word == text.get_ref()) {
            Some(word) => word,
            None => {
                reader.problems.error(
                    text.span(),
                    format!(
                        "`{}` cannot be {:?}",
                        table.path_of("client_auth"),
                        text.get_ref()
                    ),
                    &suggest(text.get_ref(), words.iter().copied()),
                );
                return None;
            }
        },
    };
    let known = secret(
        reader,
        table,
        ("client_secret_file", "client_secret_env"),
        "name the file that holds the client secret and nothing else",
    );
    let secret_named = ["client_secret_file", "client_secret_env"]
        .into_iter()
        .find_map(|key| table.key_span(key));
    let key_named = table.key_span("client_key_file");
    let unused = |span: Option<Range<usize>>, what: &str| {
        if let Some(span) = span {
            reader.problems.error(
                span,
                format!("{what} is there, but `client_auth` is {word:?}"),
                "remove it, or choose another `client_auth`",
            );
        }
    };
    match word {
        "none" => {
            unused(secret_named, "a client secret");
            unused(key_named, "a client key");
            Some(ClientAuth::None)
        }
        "private_key_jwt" => {
            unused(secret_named, "a client secret");
            let text = reader.required(table, "client_key_file")?;
            let hint = "name a PEM file with the private key: openssl genpkey -algorithm ed25519";
            let pem = Secret::new(read_file(reader, text.span(), text.get_ref(), hint)?);
            let kid = table.text("client_key_id").map(|text| *text.get_ref());
            match ClientKey::from_pem(&pem, kid) {
                Ok(key) => Some(ClientAuth::PrivateKeyJwt(key)),
                Err(error) => {
                    reader.problems.error(
                        text.span(),
                        format!("the client key cannot be used: {error}"),
                        hint,
                    );
                    None
                }
            }
        }
        _ => {
            unused(key_named, "a client key");
            let Some(given) = known else {
                // Whatever is wrong with one that is named has been said.
                if secret_named.is_none() {
                    reader.problems.error(
                        table.span(),
                        format!("`{}` is missing", table.path_of("client_secret_file")),
                        "name the file with the client secret, or set client_auth = \"none\" for a public client",
                    );
                }
                return None;
            };
            if given.expose().is_empty() || std::str::from_utf8(given.expose()).is_err() {
                reader.problems.error(
                    secret_named.unwrap_or(table.span()),
                    "the client secret is empty or no text",
                    "it is the text that the provider showed when the client was registered",
                );
                return None;
            }
            Some(if word == "secret_post" {
                ClientAuth::SecretPost(given)
            } else {
                ClientAuth::SecretBasic(given)
            })
        }
    }
}

/// The default of OpenID providers.
const OPENID_SCOPES: [&str; 3] = ["openid", "profile", "email"];

fn scopes(reader: &Reader<'_>, table: &Section<'_>, openid: bool) -> Vec<String> {
    let Some(texts) = table.texts("scopes") else {
        return match openid {
            true => OPENID_SCOPES.map(str::to_owned).to_vec(),
            false => Vec::new(),
        };
    };
    for text in &texts {
        // RFC 6749 section 3.3.
        let plain = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        if text.get_ref().is_empty() || !text.get_ref().bytes().all(plain) {
            reader.problems.error(
                text.span(),
                format!("{:?} is not a scope", text.get_ref()),
                "write each scope as a text of its own, without spaces",
            );
        }
    }
    let span = table.value("scopes").map_or(table.span(), Spanned::span);
    if openid && !texts.iter().any(|text| *text.get_ref() == "openid") {
        reader.problems.error(
            span,
            format!("`{}` has no \"openid\"", table.path_of("scopes")),
            "without it the provider does not say who signed in",
        );
    }
    texts
        .iter()
        .map(|text| (*text.get_ref()).to_owned())
        .collect()
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

/// The path of a claim.
fn path(reader: &Reader<'_>, claims: &Section<'_>, key: &str) -> Option<ClaimPath> {
    let typed = claims.text(key);
    let path = match &typed {
        Some(text) => *text.get_ref(),
        None => defaults::value(&claims.path_of(key)),
    };
    match ClaimPath::parse(path) {
        Ok(path) => Some(path),
        Err(error) => {
            let span = typed.map_or(claims.span(), |text| text.span());
            reader.problems.error(
                span,
                format!("`{}` is not the path of a claim", claims.path_of(key)),
                &error.to_string(),
            );
            None
        }
    }
}

fn prompt(reader: &Reader<'_>, table: &Section<'_>) -> Option<String> {
    let text = table.text("prompt")?;
    let known = ["login", "consent", "select_account"];
    let mut words = text.get_ref().split(' ');
    if !words.all(|word| known.contains(&word)) {
        reader.problems.error(
            text.span(),
            format!(
                "`{}` cannot be {:?}",
                table.path_of("prompt"),
                text.get_ref()
            ),
            &suggest(text.get_ref(), known.into_iter()),
        );
    }
    Some((*text.get_ref()).to_owned())
}

fn extra(reader: &Reader<'_>, table: &Section<'_>) -> Vec<(String, String)> {
    let mut extra = Vec::new();
    for (name, value) in table.section("extra").entries() {
        let Some(text) = value.get_ref().as_str() else {
            reader.problems.error(
                value.span(),
                format!("the parameter `{}` is not a text", name.get_ref()),
                "put it in quotes",
            );
            continue;
        };
        if RESERVED.contains(name.get_ref()) || name.get_ref().is_empty() {
            reader.problems.error(
                name.span(),
                format!("the parameter `{}` is the gateway's own", name.get_ref()),
                "it is made for each sign-in, or has a key of its own; remove it here",
            );
            continue;
        }
        extra.push(((*name.get_ref()).to_owned(), text.to_owned()));
    }
    extra
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
    let good = match typed.starts_with("https://") {
        true => address(reader, table, "logout_return", &text).is_some(),
        false => ReturnTo::parse(typed, &AllowedHosts::none()).as_str() == typed,
    };
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
