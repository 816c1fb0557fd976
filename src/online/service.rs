//! `[login.oauth2.NAME]`, `[[bearer]]` and `[external]`: what has no metadata to compare with is asked whether it is there.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, Uri};
use url::Url;

use super::calls::{LIMITS, get, issuer_problem, keys, post_nothing, shown};
use super::redirects::{redirect_uri, to_register};
use super::{Finding, Section, Verdict, client, redirects};
use crate::bearer::{self, Keys};
use crate::config;
use crate::external::{KeySource, Refresh};
use crate::issuer::{self, Location};
use crate::login::oidc::client_auth::Client;
use crate::login::oidc::settings::{ClientAuth, Endpoints};
use crate::login::oidc::{Settings, outbound_for};
use crate::outbound::{self, Outbound};

/// Asks an OAuth 2 service.
pub(super) async fn oauth2(
    settings: &Settings,
    endpoints: &Endpoints,
    origins: Arc<Vec<String>>,
) -> Section {
    let about = format!("[login.oauth2.{}]", settings.name);
    let findings = match outbound_for(settings) {
        Err(error) => vec![Finding::of(
            Verdict::Problem,
            error.to_string(),
            "look at ca_file",
        )],
        Ok(outbound) => {
            let client = Client {
                id: &settings.client_id,
                auth: &settings.client_auth,
                audience: &endpoints.token,
            };
            let back = origins
                .first()
                .map(|origin| redirect_uri(origin, &settings.name));
            let back = back.unwrap_or_default();
            let emails = async {
                match &endpoints.emails {
                    Some(emails) => Some(there(&outbound, "emails_url", emails).await),
                    None => None,
                }
            };
            let authorize = async {
                match Url::parse(&endpoints.authorize) {
                    Ok(url) => redirects::tried(&outbound, &url, settings, &origins).await,
                    // The configuration has checked it.
                    Err(_) => Vec::new(),
                }
            };
            let (authorize, client, userinfo, emails) = tokio::join!(
                authorize,
                client::by_code(&outbound, &endpoints.token, client, &back),
                there(&outbound, "userinfo_url", &endpoints.userinfo),
                emails,
            );
            let mut findings = vec![client];
            findings.extend(authorize);
            findings.push(userinfo);
            findings.extend(emails);
            findings
        }
    };
    Section {
        register: to_register(settings, &origins, false, false),
        ..Section::new(about, findings)
    }
}

/// Whether anything answers there. Without a person and a token it answers with some refusal.
async fn there(outbound: &Outbound, key: &str, url: &str) -> Finding {
    let place = url
        .parse::<Uri>()
        .map(|uri| shown(&uri))
        .unwrap_or_default();
    match get(outbound, url).await {
        Ok(response) => answered(&response, key, &place),
        Err(finding) => Finding {
            text: format!("{key}: {}", finding.text),
            ..finding
        },
    }
}

fn answered(response: &Response<Bytes>, key: &str, place: &str) -> Finding {
    let status = response.status();
    let text = format!("{key}: {place} answered with status {}", status.as_u16());
    match status.as_u16() {
        404 | 410 => Finding::of(
            Verdict::Problem,
            text,
            "there is nothing: compare the address with the service's documentation",
        ),
        500..=599 => Finding::of(
            Verdict::Warning,
            text,
            "it is in trouble: look at its log, and try again",
        ),
        _ => Finding::good(format!("{text}: it is there")),
    }
}

/// Asks an issuer of bearer tokens for its keys.
pub(super) async fn bearer(settings: &bearer::Settings) -> Section {
    let about = format!("[[bearer]] {}", settings.issuer);
    let finding = match &settings.keys {
        Keys::Fixed(fixed) => {
            let count = crate::units::count(fixed.len(), "key");
            Finding::good(format!(
                "keys: {count} from the configuration; nobody needs to be asked"
            ))
        }
        Keys::Remote {
            location,
            algorithms,
            ca,
        } => match Outbound::new(outbound::Settings { ca: ca.clone() }) {
            Err(error) => Finding::of(Verdict::Problem, error.to_string(), "look at ca_file"),
            Ok(outbound) => match place(&outbound, &settings.issuer, location).await {
                Ok(place) => keys(&outbound, &place, algorithms).await,
                Err(problem) => problem,
            },
        },
    };
    Section::new(about, vec![finding])
}

async fn place(outbound: &Outbound, issuer: &str, location: &Location) -> Result<Uri, Finding> {
    let missing =
        "compare `issuer` with the tokens' iss, or say where the keys are (jwks_url, jwks_file)";
    let problem = |error| issuer_problem("discovery", &error, missing);
    match location {
        Location::Url(url) => Ok(url.clone()),
        Location::Discovered => {
            let metadata = issuer::discover(outbound, issuer, LIMITS).await;
            let place = metadata.map_err(problem)?.place("jwks_uri");
            place.ok_or_else(|| problem(issuer::IssuerError::Place))
        }
    }
}

/// Asks the service whose tokens people bring.
pub(super) async fn external(external: &config::External) -> Section {
    let findings = match Outbound::new(external.outbound.clone()) {
        Err(error) => vec![Finding::of(
            Verdict::Problem,
            error.to_string(),
            "look at ca_file",
        )],
        Ok(outbound) => {
            let keys = async {
                match &external.settings.keys {
                    KeySource::Fixed(_) => None,
                    KeySource::Url { url, algorithms } => {
                        Some(keys(&outbound, url, algorithms).await)
                    }
                }
            };
            let refresh = async {
                match &external.settings.refresh {
                    None => None,
                    Some(refresh) => Some(renewing(&outbound, refresh).await),
                }
            };
            let (keys, refresh) = tokio::join!(keys, refresh);
            let nothing = || {
                Finding::good(
                    "nobody needs to be asked: keys from the configuration, no renewal".to_owned(),
                )
            };
            let mut findings: Vec<Finding> = keys.into_iter().chain(refresh).collect();
            if findings.is_empty() {
                findings.push(nothing());
            }
            findings
        }
    };
    Section::new("[external]".to_owned(), findings)
}

/// Whether tokens can be renewed, without presenting one.
async fn renewing(outbound: &Outbound, refresh: &Refresh) -> Finding {
    match refresh {
        Refresh::Cookies { url } => match post_nothing(outbound, url).await {
            Ok(response) => without_a_cookie(&response, &shown(url)),
            Err(finding) => Finding {
                text: format!("refresh_url: {}", finding.text),
                ..finding
            },
        },
        Refresh::TokenEndpoint {
            url,
            client_id,
            client_secret,
            ..
        } => {
            let auth = match client_secret {
                Some(secret) => ClientAuth::SecretBasic(secret.clone()),
                None => ClientAuth::None,
            };
            let client = Client {
                id: client_id,
                auth: &auth,
                audience: "",
            };
            client::by_refresh_token(outbound, &url.to_string(), client).await
        }
    }
}

fn without_a_cookie(response: &Response<Bytes>, place: &str) -> Finding {
    let status = response.status();
    let text = format!(
        "refresh_url: {place} answered a POST without a cookie with status {}",
        status.as_u16()
    );
    match status.as_u16() {
        404 | 405 | 410 => Finding::of(
            Verdict::Problem,
            text,
            "tokens are not renewed there: compare the address",
        ),
        // A page for everything that has no other answers so; what renews tokens has nothing to say without one.
        200..=299 => Finding::of(
            Verdict::Warning,
            format!("{text}, as if nothing had been missing"),
            "are tokens renewed there? It should refuse that with a 4xx: compare the address",
        ),
        300..=399 => Finding::of(
            Verdict::Warning,
            format!("{text}; no redirect is followed"),
            "name the address where it leads",
        ),
        500..=599 => Finding::of(
            Verdict::Warning,
            text,
            "look at its log: a request without the cookie should be refused with a 4xx",
        ),
        _ => Finding::good(format!("{text}: it is there")),
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn what_refuses_is_there_and_what_is_not_there_is_a_problem() {
        let with = |status: u16| {
            let mut response = Response::new(Bytes::new());
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response
        };
        let check = |status, place: Verdict, refresh: Verdict| {
            let response = with(status);
            let found = answered(&response, "userinfo_url", "https://x/y").verdict;
            assert_eq!(found, place, "{status}");
            assert_eq!(
                without_a_cookie(&response, "https://x/y").verdict,
                refresh,
                "{status}"
            );
        };
        for refusal in [400, 401, 403] {
            check(refusal, Verdict::Good, Verdict::Good);
        }
        check(404, Verdict::Problem, Verdict::Problem);
        check(405, Verdict::Good, Verdict::Problem);
        check(302, Verdict::Good, Verdict::Warning);
        check(200, Verdict::Good, Verdict::Warning);
        check(503, Verdict::Warning, Verdict::Warning);
    }
}
