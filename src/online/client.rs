//! Whether a token endpoint takes the gateway for its client. A made-up code is presented: who refuses the code has accepted
//! the client (RFC 6749 section 5.2). Must not present anything that could be worth something.

use bytes::Bytes;
use http::{Response, StatusCode, Uri};
use url::Url;

use super::calls::{LIMITS, mend, shown};
use super::{Finding, Verdict};
use crate::clock::Clock;
use crate::login::oidc::client_auth::{Client, token_request};
use crate::login::oidc::failure::refuses_the_client;
use crate::login::oidc::settings::ClientAuth;
use crate::login::oidc::token_answer::{self, TokenRefusal};
use crate::outbound::Outbound;

/// Says by itself, in the provider's log, what it is.
pub(super) const MADE_UP: &str = "vestibule-check-a-made-up-value-that-no-provider-gave";
/// Long enough for RFC 7636 section 4.1.
const VERIFIER: &str = "vestibule-check-a-made-up-verifier-for-a-made-up-code";

/// What a token endpoint said of the client.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    /// It refused the code, so it took the client.
    Accepted(String),
    /// It refused the client.
    Refused(String),
    /// It gave tokens for what nobody gave it.
    GaveTokens,
    /// It is no token endpoint, or not for us.
    NotThere(u16),
    /// Neither.
    NoTelling(String),
}

/// How the client authenticates, as OpenID Connect Core section 9 calls it.
pub(super) fn method(auth: &ClientAuth) -> &'static str {
    match auth {
        ClientAuth::SecretBasic(_) => "client_secret_basic",
        ClientAuth::SecretPost(_) => "client_secret_post",
        ClientAuth::PrivateKeyJwt(_) => "private_key_jwt",
        ClientAuth::None => "none",
    }
}

/// The same as `client_auth` writes it.
pub(super) fn as_configured(method: &str) -> &str {
    method.strip_prefix("client_").unwrap_or(method)
}

/// By a made-up code of a made-up sign-in.
pub(super) async fn by_code(
    outbound: &Outbound,
    endpoint: &str,
    client: Client<'_>,
    redirect_uri: &str,
) -> Finding {
    let parameters = [
        ("grant_type", "authorization_code"),
        ("code", MADE_UP),
        ("redirect_uri", redirect_uri),
        ("code_verifier", VERIFIER),
    ];
    tried(outbound, endpoint, client, &parameters, "code").await
}

/// By a made-up refresh token.
pub(super) async fn by_refresh_token(
    outbound: &Outbound,
    endpoint: &str,
    client: Client<'_>,
) -> Finding {
    let parameters = [("grant_type", "refresh_token"), ("refresh_token", MADE_UP)];
    tried(outbound, endpoint, client, &parameters, "refresh token").await
}

async fn tried(
    outbound: &Outbound,
    endpoint: &str,
    client: Client<'_>,
    parameters: &[(&str, &str)],
    presented: &str,
) -> Finding {
    let (Ok(url), Ok(place)) = (Url::parse(endpoint), endpoint.parse::<Uri>()) else {
        return Finding::of(
            Verdict::Problem,
            "client: the token endpoint is no address".to_owned(),
            "write an absolute https URL",
        );
    };
    let request = match token_request(&url, client, parameters, Clock::System.now()) {
        Ok(request) => request,
        Err(error) => {
            return Finding::of(
                Verdict::Problem,
                format!("client: {error}"),
                "look at client_id, client_auth and the secret or key",
            );
        }
    };
    match outbound.send(request, LIMITS).await {
        Ok(response) => told(&judge(&response), client, &shown(&place), presented),
        Err(error) => Finding::of(Verdict::Problem, format!("client: {error}"), mend(&error)),
    }
}

/// What an answer to something made up says of the client. Beside the standard's words those of GitHub, and 401, which some
/// give with words of their own.
fn judge(response: &Response<Bytes>) -> Said {
    let status = response.status();
    match token_answer::read(response) {
        Ok(_) => Said::GaveTokens,
        Err(TokenRefusal::Refused(error)) if refuses_the_client(&error) => {
            Said::Refused(format!("{:?}", error.code))
        }
        Err(TokenRefusal::Refused(error)) => match error.code.as_str() {
            "invalid_grant" | "bad_verification_code" => Said::Accepted(error.code),
            code if status == StatusCode::UNAUTHORIZED => Said::Refused(format!("{code:?}")),
            code => Said::NoTelling(format!("{code:?}")),
        },
        Err(_) if status == StatusCode::UNAUTHORIZED => Said::Refused("status 401".to_owned()),
        Err(_) if matches!(status.as_u16(), 404 | 405 | 410) => Said::NotThere(status.as_u16()),
        Err(TokenRefusal::Unavailable(status)) => Said::NoTelling(format!("status {status}")),
        Err(TokenRefusal::Unusable(why)) => {
            Said::NoTelling(format!("status {}, and {why}", status.as_u16()))
        }
    }
}

fn told(said: &Said, client: Client<'_>, place: &str, presented: &str) -> Finding {
    let (id, by) = (client.id, as_configured(method(client.auth)));
    match said {
        Said::Accepted(code) => Finding::good(format!(
            "client: {id:?} is accepted ({by}): only the made-up {presented} was refused ({code:?})"
        )),
        Said::Refused(code) => Finding::of(
            Verdict::Problem,
            format!("client: {id:?} is not accepted ({by}) at {place}: it said {code}"),
            "compare client_id, client_auth and the secret or key with what is registered there (a secret file: to the last \
             character), and that the client may sign people in there (authorization code)",
        ),
        Said::GaveTokens => Finding::of(
            Verdict::Problem,
            format!("client: {place} gave tokens for a {presented} that it never issued"),
            "do not use this provider before its operator has explained that",
        ),
        Said::NotThere(status) => Finding::of(
            Verdict::Problem,
            format!(
                "client: {place} answered with status {status}: there is no token endpoint, or no client {id:?}"
            ),
            "compare the address and client_id with what is registered there",
        ),
        Said::NoTelling(what) => Finding::of(
            Verdict::Warning,
            format!(
                "client: could not tell whether {id:?} is accepted ({by}): asked with a made-up {presented}, {place} said {what}"
            ),
            "sign in once to find out; the log says what the provider answered",
        ),
    }
}

#[cfg(test)]
mod tests {
    use http::header::CONTENT_TYPE;

    use super::*;

    #[test]
    fn only_definite_answers_are_taken_for_one() {
        let check = |status: u16, body: &str, want: Said| {
            let mut response = Response::new(Bytes::from(body.to_owned()));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, "application/json".parse().unwrap());
            assert_eq!(judge(&response), want, "{status} {body}");
        };
        let error = |code: &str| format!(r#"{{"error":"{code}"}}"#);
        let accepted = |code: &str| Said::Accepted(code.to_owned());
        let refused = |code: &str| Said::Refused(code.to_owned());
        let unclear = |what: &str| Said::NoTelling(what.to_owned());
        check(400, &error("invalid_grant"), accepted("invalid_grant"));
        // GitHub's, with the status it gives.
        let bad_code = "bad_verification_code";
        check(200, &error(bad_code), accepted(bad_code));
        let wrong = "incorrect_client_credentials";
        check(200, &error(wrong), refused(&format!("{wrong:?}")));
        for code in ["invalid_client", "unauthorized_client"] {
            check(401, &error(code), refused(&format!("{code:?}")));
            check(400, &error(code), refused(&format!("{code:?}")));
        }
        // Keycloak and others have their own words for 401.
        check(401, &error("access_denied"), refused("\"access_denied\""));
        check(401, "", refused("status 401"));
        check(
            400,
            &error("invalid_request"),
            unclear("\"invalid_request\""),
        );
        check(503, &error("invalid_grant"), unclear("status 503"));
        check(404, "{}", Said::NotThere(404));
        check(
            302,
            "",
            unclear("status 302, and it leads elsewhere; no redirect is followed"),
        );
        let tokens = r#"{"access_token":"a","token_type":"Bearer"}"#;
        check(200, tokens, Said::GaveTokens);
    }
}
