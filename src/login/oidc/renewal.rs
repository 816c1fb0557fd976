//! Asks a provider whether a person is still welcome (RFC 6749 section 6, OpenID Connect Core section 12). Must not decide what
//! becomes of the session: the session engine lives by the answer.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http::header::RETRY_AFTER;

use super::id_token::IdTokenError;
use super::person::PersonError;
use super::provider::Provider;
use super::token_answer::{self, TokenRefusal, Tokens};
use super::{Failure, Providers};
use crate::auth::Identity;
use crate::auth::provider_session::CheckTimes;
use crate::clock::{Clock, Timestamp};
use crate::session::{
    ProviderAnswer, ProviderEnd, ProviderQuestion, ProviderReply, ProviderTalker,
};

impl ProviderTalker for Providers {
    fn times(&self, provider: &str, issuer: &str) -> Option<CheckTimes> {
        let provider = self.find(provider)?;
        let settings = provider.settings();
        settings.is_issuer(issuer).then_some(CheckTimes {
            check: settings.provider_check,
            grace: settings.provider_grace,
        })
    }

    fn refresh<'a>(
        &'a self,
        question: ProviderQuestion<'a>,
    ) -> Pin<Box<dyn Future<Output = ProviderReply> + Send + 'a>> {
        Box::pin(async move {
            match self.find(question.provider) {
                Some(provider) => asked(provider, question, &self.clock).await,
                None => without_tokens(unknown("it is not configured")),
            }
        })
    }
}

async fn asked(
    provider: &Provider,
    question: ProviderQuestion<'_>,
    clock: &Clock,
) -> ProviderReply {
    let response = match provider
        .ask_again(question.refresh_token, clock.now())
        .await
    {
        Ok(response) => response,
        Err(failure) => return without_tokens(unknown(&failure.to_string())),
    };
    let tokens = match token_answer::read(&response) {
        Ok(tokens) => tokens,
        Err(refusal) => return without_tokens(refused(refusal, &response)),
    };
    let kept = (tokens.refresh_token.clone(), tokens.id_token.clone());
    let (answer, groups_at_userinfo) = about(provider, tokens, question, clock.now()).await;
    ProviderReply {
        refresh_token: kept.0,
        // One that was refused is no hint of anything.
        id_token: kept
            .1
            .filter(|_| matches!(answer, ProviderAnswer::Welcome(_))),
        groups_at_userinfo,
        answer,
    }
}

/// Only `invalid_grant` speaks of the session; whatever else a provider says is about the gateway or itself (attacks I09).
fn refused(refusal: TokenRefusal, response: &Response<Bytes>) -> ProviderAnswer {
    match &refusal {
        TokenRefusal::Refused(error) if error.code == "invalid_grant" => {
            ProviderAnswer::Ended(ProviderEnd::InvalidGrant)
        }
        _ => ProviderAnswer::Unknown {
            reason: Failure::of_tokens(refusal).to_string(),
            retry_after: retry_after(response),
        },
    }
}

/// The answer, and whether userinfo named groups in it.
async fn about(
    provider: &Provider,
    tokens: Tokens,
    question: ProviderQuestion<'_>,
    now: Timestamp,
) -> (ProviderAnswer, bool) {
    let failure = match provider.refreshed(tokens, question, now).await {
        Ok(Some(now)) => {
            let identity = taken_over(question, now.identity);
            return (
                ProviderAnswer::Welcome(Box::new(identity)),
                now.groups_at_userinfo,
            );
        }
        Ok(None) => {
            let identity = question.identity.clone();
            return (ProviderAnswer::Welcome(Box::new(identity)), false);
        }
        Err(failure) => failure,
    };
    let answer = match failure {
        // Both are refused at a sign-in, and the provider has left no doubt.
        Failure::Person(PersonError::NotAllowed(_) | PersonError::UnverifiedUser) => {
            ProviderAnswer::Ended(ProviderEnd::NotAllowed)
        }
        Failure::IdToken(IdTokenError::Subject) | Failure::UserinfoSubject => {
            ProviderAnswer::Ended(ProviderEnd::SomebodyElse)
        }
        failure => unknown(&failure.to_string()),
    };
    (answer, false)
}

/// What the provider says now. When and how somebody signed in does not change, and neither does the name by which sessions are
/// found: another name holds from the next sign-in on.
fn taken_over(question: ProviderQuestion<'_>, now: Identity) -> Identity {
    let before = question.identity;
    Identity {
        user: before.user.clone(),
        provider: before.provider.clone(),
        auth_time: before.auth_time,
        amr: before.amr.clone(),
        ..now
    }
}

fn unknown(reason: &str) -> ProviderAnswer {
    ProviderAnswer::Unknown {
        reason: reason.to_owned(),
        retry_after: None,
    }
}

fn without_tokens(answer: ProviderAnswer) -> ProviderReply {
    ProviderReply {
        refresh_token: None,
        id_token: None,
        groups_at_userinfo: false,
        answer,
    }
}

/// In seconds (RFC 9110 section 10.2.3); a date is not read.
fn retry_after(response: &Response<Bytes>) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use http::header::CONTENT_TYPE;

    use super::*;

    #[test]
    fn i09_only_invalid_grant_ends_a_session() {
        let check = |status: u16, body: &str, ends: bool, wait: Option<u64>| {
            let mut response = Response::new(Bytes::from(body.to_owned()));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, "application/json".parse().unwrap());
            if let Some(wait) = wait {
                headers.insert(RETRY_AFTER, wait.into());
            }
            let refusal = token_answer::read(&response).unwrap_err();
            match refused(refusal, &response) {
                ProviderAnswer::Ended(ProviderEnd::InvalidGrant) => assert!(ends, "{body}"),
                ProviderAnswer::Unknown { retry_after, .. } => {
                    assert!(!ends, "{status} {body}");
                    assert_eq!(retry_after, wait.map(Duration::from_secs));
                }
                other => panic!("{other:?}"),
            }
        };
        check(400, r#"{"error":"invalid_grant"}"#, true, None);
        check(500, r#"{"error":"invalid_grant"}"#, false, None);
        check(429, "{}", false, Some(7));
        check(503, "", false, None);
        for other in [
            "invalid_client",
            "invalid_request",
            "server_error",
            "unauthorized_client",
        ] {
            check(400, &format!(r#"{{"error":"{other}"}}"#), false, None);
        }
        check(400, "{}", false, None);
        check(302, r#"{"error":"invalid_grant"}"#, false, None);
    }
}
