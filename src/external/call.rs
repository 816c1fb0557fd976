//! The one call to the service that spends a refresh token, and what its answer is made into.
//!
//! Must be called once for a token: who else waits for it is the business of `renew`.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, COOKIE};
use http::{HeaderName, HeaderValue, Method, Request};
use tokio::time::Instant;
use url::form_urlencoded::Serializer;

use super::answer::{self, Answer, NewTokens};
use super::check::CheckError;
use super::memory::{Key, Outcome};
use super::{Caller, External, ExternalEvent, Pair, Refresh, Spender};
use crate::auth::Subject;
use crate::auth::foreign_token::ForeignTokenError;
use crate::outbound::Limits;

/// Largest answer of the service.
const MAX_ANSWER: usize = 64 << 10;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// On whose behalf, owned by the call.
pub(super) struct Behalf {
    client: String,
    spender: Spender,
    request_id: String,
}

impl From<Caller<'_>> for Behalf {
    fn from(caller: Caller<'_>) -> Self {
        Behalf {
            client: caller.client.0.to_string(),
            spender: Spender::new(caller.client, caller.user_agent),
            request_id: caller.request_id.to_owned(),
        }
    }
}

impl External {
    /// Spends a token. Every way out says whether it may be sent again.
    pub(super) async fn spend(&self, token: &str, behalf: &Behalf) -> Outcome {
        let Some(refresh) = &self.settings.refresh else {
            return self.paused(None);
        };
        // What no header can carry was never issued by the service.
        let Some(request) = self.request(refresh, token, behalf) else {
            return Outcome::Refused(Arc::default());
        };
        let limits = Limits {
            time: self.settings.refresh_timeout,
            bytes: MAX_ANSWER,
        };
        let request_id = &*behalf.request_id;
        let answer = match self.outbound.send(request, limits).await {
            Ok(answer) => answer,
            Err(error) if error.may_have_arrived() => {
                tracing::error!(request_id, %error, "a refresh token was sent to the external service, and no answer came; it is not sent again");
                return self.lost();
            }
            Err(error) => {
                tracing::warn!(request_id, %error, "the external service cannot be reached for a refresh");
                return self.paused(None);
            }
        };
        let (status, headers, body) = (answer.status(), answer.headers(), answer.body());
        let names = &self.settings.cookies;
        let answer = match refresh {
            Refresh::Cookies { .. } => {
                answer::of_cookies(status, headers, body, &names.access, &names.refresh)
            }
            Refresh::TokenEndpoint { .. } => answer::of_token_endpoint(status, headers, body),
        };
        match answer {
            Answer::Renewed(tokens) => match self.pair(tokens, refresh, token, behalf).await {
                Some(pair) => {
                    self.observer.observe(ExternalEvent::Renewed);
                    Outcome::Renewed(Arc::new(pair))
                }
                None => self.lost(),
            },
            Answer::Refused(lines) => {
                self.observer.observe(ExternalEvent::Refused);
                Outcome::Refused(lines.into())
            }
            Answer::NotNow(pause, why) => {
                tracing::warn!(request_id, %why, "the external service did not renew");
                self.paused(pause)
            }
            Answer::Lost(why) => {
                tracing::error!(request_id, %why, "a refresh token may have been spent in vain; it is not sent again");
                self.lost()
            }
        }
    }

    pub(super) fn paused(&self, pause: Option<std::time::Duration>) -> Outcome {
        self.observer.observe(ExternalEvent::Unavailable);
        let pause = pause.unwrap_or_default().max(super::renew::PAUSE);
        Outcome::Paused(Instant::now() + pause)
    }

    pub(super) fn lost(&self) -> Outcome {
        self.observer.observe(ExternalEvent::Lost);
        Outcome::Lost {
            since: Instant::now(),
        }
    }

    fn request(&self, refresh: &Refresh, token: &str, behalf: &Behalf) -> Option<Request<Bytes>> {
        let (url, body) = match refresh {
            Refresh::Cookies { url } => (url, Bytes::new()),
            Refresh::TokenEndpoint {
                url,
                client_id,
                client_secret,
                ..
            } => {
                let mut form = Serializer::new(String::new());
                form.append_pair("grant_type", "refresh_token")
                    .append_pair("refresh_token", token);
                if client_secret.is_none() {
                    form.append_pair("client_id", client_id);
                }
                (url, Bytes::from(form.finish()))
            }
        };
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = url.clone();
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let text = |text: &str| HeaderValue::from_str(text).ok();
        match refresh {
            Refresh::Cookies { .. } => {
                let mut cookie = text(&format!("{}={token}", self.settings.cookies.refresh))?;
                cookie.set_sensitive(true);
                headers.insert(COOKIE, cookie);
            }
            Refresh::TokenEndpoint {
                client_id,
                client_secret,
                ..
            } => {
                let form = HeaderValue::from_static("application/x-www-form-urlencoded");
                headers.insert(CONTENT_TYPE, form);
                if let Some(secret) = client_secret {
                    let mut basic = text(&basic(client_id, secret.expose()))?;
                    basic.set_sensitive(true);
                    headers.insert(AUTHORIZATION, basic);
                }
            }
        }
        // As every request to an upstream has them: frameworks refuse "secure" cookies otherwise, and count by address.
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("https"));
        headers.insert(X_FORWARDED_HOST, text(&self.settings.host)?);
        headers.insert(X_FORWARDED_FOR, text(&behalf.client)?);
        headers.insert(X_REQUEST_ID, text(&behalf.request_id)?);
        Some(request)
    }

    /// Who a new access token says it is. A service that has just changed its keys is waited for: they are fetched only so
    /// often, and the refresh token is spent.
    async fn verified(&self, token: &str) -> Result<Arc<Subject>, CheckError> {
        let until = Instant::now() + self.settings.refresh_timeout;
        loop {
            let found = self.checker.check_patiently(token, self.clock.now()).await;
            let unknown = matches!(
                found,
                Err(CheckError::NoKeys | CheckError::Token(ForeignTokenError::UnknownKey))
            );
            if !unknown || !self.checker.fetches() || Instant::now() >= until {
                return found;
            }
            tokio::time::sleep(super::renew::PAUSE).await;
        }
    }

    /// The new tokens, if they are any good; says in the log what is wrong with them.
    async fn pair(
        &self,
        tokens: NewTokens,
        refresh: &Refresh,
        sent: &str,
        behalf: &Behalf,
    ) -> Option<Pair> {
        let request_id = &*behalf.request_id;
        let subject = match self.verified(&tokens.access).await {
            Ok(subject) => subject,
            Err(error) => {
                tracing::error!(request_id, %error, "the external service's new access token is not accepted here: is [external] configured as the service is?");
                return None;
            }
        };
        let now = self.clock.now();
        let mut lines = tokens.lines;
        if let Refresh::TokenEndpoint {
            style,
            refresh_life,
            ..
        } = refresh
        {
            let names = &self.settings.cookies;
            let life = subject.expires_at().since(now);
            let access = style.set(&names.access, &tokens.access, life);
            let rotated = tokens.refresh.as_deref().map(|token| {
                let life = tokens.refresh_life.unwrap_or(*refresh_life);
                style.set(&names.refresh, token, life)
            });
            match (access, rotated.transpose()) {
                (Ok(access), Ok(rotated)) => {
                    lines.push(access);
                    lines.extend(rotated);
                }
                _ => {
                    tracing::error!(
                        request_id,
                        "the external service's new tokens do not fit into cookies"
                    );
                    return None;
                }
            }
        }
        Some(Pair {
            subject,
            access: tokens.access,
            // The same again is no successor: the service does not rotate.
            refresh: tokens.refresh.filter(|token| token != sent).map(|token| {
                let key = Key::of(&token);
                (token, key)
            }),
            lines,
            spender: behalf.spender,
        })
    }
}

/// RFC 6749 section 2.3.1: both parts are form-encoded before they are joined.
fn basic(client_id: &str, secret: &[u8]) -> String {
    let encoded = |bytes: &[u8]| url::form_urlencoded::byte_serialize(bytes).collect::<String>();
    let pair = format!("{}:{}", encoded(client_id.as_bytes()), encoded(secret));
    format!("Basic {}", STANDARD.encode(pair))
}
