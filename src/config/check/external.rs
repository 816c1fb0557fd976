//! `[external]`: a service of the deployer's that issues the tokens: keys, cookies, how they are renewed, where people sign
//! in and out, and which upstream it is.

mod places;

use std::time::Duration;

use http::Uri;
use toml::Spanned;

use super::keys::{self, Source};
use super::secrets::secret;
use super::upstream::Named;
use super::{Reader, address, authorities, claims, suggest};
use crate::auth::credentials::CookieNames;
use crate::auth::route::{Revocation, Route, UpstreamId};
use crate::config::file::Section;
use crate::config::{External, Origin, StoreSettings};
use crate::external::{KeySource, Refresh, Settings};
use crate::headers::cookie::{self, CookieStyle};
use crate::upstream::Endpoint;
use crate::{outbound, session, store};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// What the rest of the file says.
pub(super) struct Around<'a> {
    pub(super) cookies: &'a CookieStyle,
    pub(super) session: &'a session::Settings,
    pub(super) store: &'a StoreSettings,
    pub(super) upstreams: &'a [Named],
    pub(super) routes: &'a [Route],
}

/// What was meant; `None` without the table, or when a part is missing.
pub(super) fn settings(
    reader: &Reader<'_>,
    root: &Section<'_>,
    origin: &Origin,
    around: &Around<'_>,
) -> Option<External> {
    let table = root.section("external");
    if !table.is_present() {
        return None;
    }
    if let Some(login) = root.key_span("login") {
        reader.problems.clash(
            table.span(),
            "both [external] and [login] are there",
            "either a service of yours issues the tokens, or the gateway does: remove one of them",
            login,
            "the other one",
        );
    }
    let text = |key| {
        reader
            .required(&table, key)
            .map(|text| text.get_ref().to_string())
    };
    let issuer = text("issuer");
    let audience = text("audience");
    let keys = keys(reader, &table);
    let trust_email = reader.flag(&table, "trust_email");
    let claims = claims::map(reader, &table.section("claims"), trust_email);
    let cookies = cookie_names(reader, &table);
    let (refresh, service) = refresh(reader, &table, around);
    let login_url = places::login_url(reader, &table, origin, around.routes);
    let logout_url = match table.text("logout_url") {
        Some(url) => Some(places::page(reader, &url, "external.logout_url")?),
        None => None,
    };
    let cookies_to = cookies_to(reader, &table, service.as_ref(), around.upstreams);
    let outbound = outbound::Settings {
        ca: authorities::certificates(reader, &table, "ca_file", "service"),
    };
    nothing_to_check(reader, root, around.routes);
    if refresh.is_some() && matches!(around.store.kind, store::Kind::Redis(_)) {
        reader.problems.warning(
            table.span(),
            "each node renews [external] tokens on its own",
            "two nodes may spend the same refresh token, which a service that rotates takes for theft: let the load balancer keep a browser on one node",
        );
    }
    Some(External {
        settings: Settings {
            issuer: issuer?,
            audience: audience?,
            keys: keys?,
            max_access_life: reader.duration(&table, "max_access_life", SECOND..=DAY * 400),
            claims: claims?,
            cookies: cookies?,
            refresh,
            login_url: login_url?,
            logout_url,
            cookies_to,
            replay_grace: reader.duration(&table, "replay_grace", SECOND..=MINUTE * 10),
            wait: reader.duration(&table, "wait", SECOND..=MINUTE * 5),
            refresh_timeout: reader.duration(&table, "refresh_timeout", SECOND..=MINUTE * 10),
            host: match origin.port {
                443 => origin.host.clone(),
                port => format!("{}:{port}", origin.host),
            },
        },
        outbound,
    })
}

/// Exactly one source of keys, and the algorithms said.
fn keys(reader: &Reader<'_>, table: &Section<'_>) -> Option<KeySource> {
    if table.value("algorithms").is_none() && !table.is_explained("algorithms") {
        reader.problems.error(
            table.span(),
            "`external.algorithms` is missing",
            "add `algorithms = [\"HS256\"]`: how the service signs its access tokens; it is never taken from a token",
        );
    }
    match keys::source(reader, table, "[external]", "service")? {
        Source::Fixed(keys) => Some(KeySource::Fixed(keys)),
        Source::Url(url, algorithms) => Some(KeySource::Url { url, algorithms }),
        Source::Unnamed(_) if table.is_one_explained(&keys::SOURCES) => None,
        Source::Unnamed(_) => {
            reader.problems.error(
                table.span(),
                "[external] has no key to verify tokens with",
                "add one of secret_file, secret_env (HS algorithms), public_key_file, jwks_file, jwks_url",
            );
            None
        }
    }
}

fn cookie_names(reader: &Reader<'_>, table: &Section<'_>) -> Option<CookieNames> {
    let name = |key: &str| {
        let Some(text) = table.text(key) else {
            return Some(table.default_of(key).to_owned());
        };
        let typed = *text.get_ref();
        // RFC 6265 section 4.1.1: a token of HTTP.
        let is_token = !typed.is_empty()
            && typed.len() <= 128
            && typed
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
        if !is_token {
            reader.problems.error(
                text.span(),
                format!("{typed:?} is not the name of a cookie"),
                "letters, digits, `-`, `_` and `.`, as the service writes it",
            );
            return None;
        }
        if cookie::is_ours(typed) {
            reader.problems.error(
                text.span(),
                format!("the cookie {typed:?} is the gateway's own"),
                "name the cookie that the service sets",
            );
            return None;
        }
        Some(typed.to_owned())
    };
    let (access, refresh) = (name("access_cookie")?, name("refresh_cookie")?);
    if access.eq_ignore_ascii_case(&refresh) {
        let span = table
            .key_span("refresh_cookie")
            .or(table.key_span("access_cookie"));
        reader.problems.error(
            span.unwrap_or(table.span()),
            "the access cookie and the refresh cookie have the same name",
            "they are two cookies: the gateway reads one and spends the other",
        );
        return None;
    }
    Some(CookieNames {
        access,
        refresh,
        // A sign-in at the service needs no cookie of the gateway.
        login: CookieNames::new(false).login,
    })
}

/// How tokens are renewed, and where the service listens.
fn refresh(
    reader: &Reader<'_>,
    table: &Section<'_>,
    around: &Around<'_>,
) -> (Option<Refresh>, Option<Uri>) {
    let (refresh_url, token_endpoint) = (table.text("refresh_url"), table.text("token_endpoint"));
    if token_endpoint.is_none() {
        for key in ["client_id", "client_secret_file", "client_secret_env"] {
            if let Some(span) = table.key_span(key) {
                reader.problems.error(
                    span,
                    format!("`external.{key}` belongs to a token endpoint"),
                    "add `token_endpoint`, or remove it",
                );
            }
        }
    }
    match (refresh_url, token_endpoint) {
        (None, None) => (None, None),
        (Some(one), Some(other)) => {
            reader.problems.clash(
                other.span(),
                "[external] has both `refresh_url` and `token_endpoint`",
                "keep the way in which the service renews",
                one.span(),
                "the other one",
            );
            (None, None)
        }
        (Some(text), None) => match spending_url(reader, &text, "external.refresh_url") {
            Some(url) => (Some(Refresh::Cookies { url: url.clone() }), Some(url)),
            None => (None, None),
        },
        (None, Some(text)) => {
            let client_id = reader.required(table, "client_id");
            let client_secret = secret(
                reader,
                table,
                ("client_secret_file", "client_secret_env"),
                "name the file that holds the client's secret and nothing else",
            );
            let url = spending_url(reader, &text, "external.token_endpoint");
            let refresh =
                url.clone()
                    .zip(client_id)
                    .map(|(url, client_id)| Refresh::TokenEndpoint {
                        url,
                        client_id: client_id.get_ref().to_string(),
                        client_secret: client_secret.map(Spanned::into_inner),
                        style: around.cookies.clone(),
                        refresh_life: around.session.windows.idle_ttl,
                    });
            (refresh, url)
        }
    }
}

/// Where refresh tokens are sent. In clear only where nobody else can listen, or with a warning.
fn spending_url(reader: &Reader<'_>, text: &Spanned<&str>, key: &str) -> Option<Uri> {
    let url = address::called(reader, text, key)?;
    if outbound::is_in_clear(&url) {
        reader.problems.warning(
            text.span(),
            format!("`{key}` sends refresh tokens in clear over the network"),
            "use https, unless nobody can listen between the gateway and the service",
        );
    }
    Some(url)
}

/// The upstreams that are the service: those named, or those at the address that is called.
fn cookies_to(
    reader: &Reader<'_>,
    table: &Section<'_>,
    service: Option<&Uri>,
    upstreams: &[Named],
) -> Vec<UpstreamId> {
    let known = || upstreams.iter().map(|named| named.settings.name.as_str());
    if let Some(texts) = table.texts("cookies_to") {
        return texts
            .iter()
            .filter_map(|text| {
                let found = known().position(|name| name == *text.get_ref());
                if found.is_none() && !upstreams.is_empty() {
                    reader.problems.error(
                        text.span(),
                        format!("there is no upstream {:?}", text.get_ref()),
                        &suggest(text.get_ref(), known()),
                    );
                }
                found.map(UpstreamId)
            })
            .collect();
    }
    let Some(url) = service else {
        return Vec::new();
    };
    let tls = url.scheme_str() == Some("https");
    let place = url.authority().map(|authority| {
        let host = authority
            .host()
            .trim_matches(['[', ']'])
            .to_ascii_lowercase();
        (
            host,
            authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
        )
    });
    upstreams
        .iter()
        .enumerate()
        .filter(|(_, named)| {
            named
                .settings
                .endpoints
                .iter()
                .any(|endpoint| match endpoint {
                    Endpoint::Http { host, port }
                    | Endpoint::Https { host, port }
                    | Endpoint::H2c { host, port } => {
                        place.as_ref() == Some(&(host.to_ascii_lowercase(), *port))
                    }
                    Endpoint::Unix(_) => false,
                })
        })
        .map(|(index, _)| UpstreamId(index))
        .collect()
}

/// There are no sessions of ours that the store could be asked for.
fn nothing_to_check(reader: &Reader<'_>, root: &Section<'_>, routes: &[Route]) {
    if !routes
        .iter()
        .any(|route| route.revocation == Revocation::Checked)
    {
        return;
    }
    for table in root.sections("route") {
        if let Some(text) = table
            .text("revocation")
            .filter(|text| *text.get_ref() == "checked")
        {
            reader.problems.error(
                text.span(),
                "with [external] there are no sessions here that could be checked",
                "the service ends its own sign-ins, when their access token runs out at the latest; remove it",
            );
        }
    }
}
