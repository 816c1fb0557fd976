//! What has to be registered at a provider, character for character, and whether it is: an authorization request that nobody has
//! to answer (`prompt=none`, OpenID Connect Core section 3.1.2.1) comes back to an address that the provider knows. Must not
//! sign anybody in.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::Response;
use http::header::LOCATION;
use url::Url;

use super::calls::get;
use super::{Finding, Verdict};
use crate::clock::Clock;
use crate::config::{Config, Origin};
use crate::login::oidc::callback::error_code;
use crate::login::oidc::pending::Pending;
use crate::login::oidc::{Beginning, Kind, Settings, authorize};
use crate::outbound::Outbound;

/// Answers of a provider that would sign people in, had there been one (OpenID Connect Core section 3.1.2.6).
const NEEDS_A_PERSON: [&str; 4] = [
    "login_required",
    "interaction_required",
    "consent_required",
    "account_selection_required",
];

/// The origins that providers send browsers back to: the configured one where one sign-in serves several hosts, else that of
/// every host with a route.
pub(super) fn origins(config: &Config) -> Vec<String> {
    let mut hosts: BTreeSet<&str> = BTreeSet::new();
    if config.cookies.domain.is_none() {
        hosts.extend(config.routes.iter().map(|route| route.host.as_str()));
    }
    let others = hosts.into_iter().filter(|host| *host != config.origin.host);
    let others = others.map(|host| {
        let origin = Origin {
            host: host.to_owned(),
            port: config.origin.port,
        };
        origin.to_string()
    });
    std::iter::once(config.origin.to_string())
        .chain(others)
        .collect()
}

/// Where browsers come back to.
pub(super) fn redirect_uri(origin: &str, name: &str) -> String {
    format!("{origin}/.auth/callback/{name}")
}

/// What has to be registered.
pub(super) fn to_register(
    settings: &Settings,
    origins: &[String],
    backchannel: bool,
    end_session: bool,
) -> Vec<(&'static str, String)> {
    let name = &settings.name;
    let callbacks = origins
        .iter()
        .map(|origin| ("redirect URI", redirect_uri(origin, name)));
    let openid = matches!(settings.kind, Kind::OpenId { .. });
    let returns = origins
        .iter()
        .filter(|_| openid && end_session)
        .map(|origin| ("post-logout redirect URI", format!("{origin}/.auth/logout")));
    // Sessions end on every host, whichever is told.
    let logout = origins
        .first()
        .filter(|_| openid && backchannel)
        .map(|origin| {
            (
                "back-channel logout URI",
                format!("{origin}/.auth/backchannel-logout/{name}"),
            )
        });
    callbacks.chain(returns).chain(logout).collect()
}

/// Asks for a sign-in without a person, for each redirect URI. Plain OAuth 2 has no word for "without a person": such a service is
/// asked as a browser asks it, and mostly answers with its sign-in page.
pub(super) async fn tried(
    outbound: &Outbound,
    endpoint: &Url,
    settings: &Settings,
    origins: &[String],
) -> Vec<Finding> {
    let openid = matches!(settings.kind, Kind::OpenId { .. });
    let silent = Settings {
        prompt: openid.then(|| "none".to_owned()),
        ..settings.clone()
    };
    let asked = origins.iter().map(async |origin| {
        let redirect_uri = redirect_uri(origin, &settings.name);
        let Ok(pending) = Pending::begin(&settings.name, "/", Clock::System.now()) else {
            return Finding::of(
                Verdict::Problem,
                "authorization request: this system has no random numbers".to_owned(),
                "look at the system",
            );
        };
        let beginning = Beginning {
            redirect_uri: &redirect_uri,
            state: "vestibule-check",
            anew: false,
        };
        let url = authorize::url(endpoint, &silent, &pending, beginning);
        match get(outbound, &url).await {
            Ok(response) => judge(&response, &redirect_uri, openid),
            Err(finding) => Finding {
                text: format!("authorization request: {}", finding.text),
                ..finding
            },
        }
    });
    futures_util::future::join_all(asked).await
}

fn judge(response: &Response<Bytes>, redirect_uri: &str, openid: bool) -> Finding {
    let status = response.status();
    let location = response.headers().get(LOCATION);
    let location = location
        .filter(|_| status.is_redirection())
        .and_then(|value| Url::parse(value.to_str().ok()?).ok());
    let back = location.filter(|url| {
        let mut bare = url.clone();
        bare.set_query(None);
        bare.set_fragment(None);
        bare.as_str() == redirect_uri
    });
    let tried = match openid {
        true => "authorization request (prompt=none)",
        false => "authorization request",
    };
    let Some(back) = back else {
        let what = format!(
            "{tried} with the redirect URI {redirect_uri}: answered with status {}",
            status.as_u16()
        );
        return match status.as_u16() {
            400 => Finding::of(
                Verdict::Problem,
                format!("{what} and not sent back"),
                "register that redirect URI at the provider, character for character; its log says more",
            ),
            404 | 410 => Finding::of(
                Verdict::Problem,
                what,
                "there is nothing, or no such client: compare the address and client_id with what is registered there",
            ),
            500..=599 => Finding::of(
                Verdict::Warning,
                what,
                "it is in trouble: look at its log, and try again",
            ),
            _ => Finding::of(
                Verdict::Note,
                format!("{what}: it is there, but does not tell whether that is registered"),
                "sign in once to find out: a provider shows a page of its own where it is not",
            ),
        };
    };
    let error = back
        .query_pairs()
        .find(|(name, _)| name == "error")
        .map(|(_, code)| error_code(&code));
    match error {
        Some(code) if !NEEDS_A_PERSON.contains(&code.as_str()) => Finding::of(
            Verdict::Problem,
            format!("{tried}: {redirect_uri} is registered, but sign-ins are refused: {code:?}"),
            "compare scopes, max_age, extra parameters and what the client may do with the provider's settings; its log says more",
        ),
        _ => Finding::good(format!(
            "{tried}: sent back to {redirect_uri}, which is registered"
        )),
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn a_redirect_uri_is_registered_if_the_provider_sends_people_back_to_it() {
        let ours = "https://app.example.com/.auth/callback/corp";
        let check = |status: u16, location: &str, want: Verdict| {
            let mut response = Response::new(Bytes::new());
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            if !location.is_empty() {
                let value = location.parse().unwrap();
                response.headers_mut().insert(LOCATION, value);
            }
            let found = judge(&response, ours, true);
            assert_eq!(found.verdict, want, "{status} {location}: {found:?}");
            // What comes with it is nobody's business.
            assert!(!found.text.contains("s3cret"), "{found:?}");
        };
        check(
            303,
            &format!("{ours}?error=login_required&state=s3cret"),
            Verdict::Good,
        );
        check(302, &format!("{ours}?code=s3cret"), Verdict::Good);
        check(
            302,
            &format!("{ours}?error=invalid_scope"),
            Verdict::Problem,
        );
        check(400, "", Verdict::Problem);
        check(200, &format!("{ours}?error=login_required"), Verdict::Note);
        for elsewhere in [
            "https://id.example.com/login?x=s3cret",
            "https://app.example.com/.auth/callback/corp2?error=login_required",
            "https://app.example.com.evil.example/.auth/callback/corp",
            "/login",
        ] {
            check(302, elsewhere, Verdict::Note);
        }
        check(403, "", Verdict::Note);
        check(404, "", Verdict::Problem);
        check(503, "", Verdict::Warning);
    }
}
