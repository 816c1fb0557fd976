//! [`GatewayError`] -> answer: the only such mapping. Each error has a phrase for the public and a cause for the log; a
//! 5xx never shows its cause.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use crate::gateway::Refusal;
use crate::login::problem::ProblemType;
use crate::observe::Metrics;
use crate::observe::metrics::Outcome;
use crate::server::RequestBodyError;
use crate::session::{BeginError, RenewalTrouble};
use crate::store::StoreError;
use crate::upstream::UpstreamError;

/// What can break on the request path. Refusals are not errors; they are answers.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The upstream could not be reached, was too slow, or broke off; or the client's body did.
    #[error("upstream {0} gave no answer")]
    Upstream(String, #[source] UpstreamError),
    /// The store could not be asked about a session.
    #[error("a session could not be looked up")]
    Store(#[source] StoreError),
    /// A renewal was needed and nothing definite could be said, mostly for want of the store; the cookies stay as they are.
    #[error("a session could not be renewed")]
    RenewalUnavailable(#[source] Arc<RenewalTrouble>),
    /// A renewal was needed and the provider, which had to be asked first, gave no answer; the cookies stay as they are.
    #[error("a session could not be renewed: its provider does not answer")]
    ProviderSilent {
        /// When to try again.
        retry_after: Duration,
    },
    /// Too many refresh tokens came from one address that came to nothing; the cookies stay as they are.
    #[error("a session was not renewed: its address presented too many tokens in vain")]
    RenewalsThrottled {
        /// When to try again.
        retry_after: Duration,
    },
    /// The end of a session could not be kept.
    #[error("the end of a session is not confirmed")]
    End(#[source] StoreError),
    /// A session could not be begun.
    #[error("a session could not be begun")]
    Begin(#[source] BeginError),
    /// Too many passwords are being hashed.
    #[error("too many sign-ins at once")]
    SignInBusy,
    /// The store could not be asked for an account; what it said was logged by whoever asked.
    #[error("an account could not be read")]
    SignInUnavailable,
    /// The keys of the issuer of a bearer token could not be fetched yet.
    #[error("a bearer token cannot be judged: the keys of its issuer are not to be had")]
    KeysUnavailable,
    /// The pure core asked for a second renewal, which its rules exclude.
    #[error("a second renewal was asked for")]
    RenewalLoop,
}

/// When a client may try again after the store did not answer.
const STORE_RETRY: Duration = Duration::from_secs(2);

/// When a client may try again while the keys of its token's issuer are not to be had.
const KEYS_RETRY: Duration = Duration::from_secs(5);

impl GatewayError {
    /// What the client is told.
    pub fn refusal(&self) -> Refusal {
        match self {
            GatewayError::Upstream(_, error) => upstream_refusal(error),
            GatewayError::Store(_) => unavailable(
                ProblemType::SessionsUnavailable,
                "whether the session is still open could not be asked; try again shortly, its cookies stay as they are",
            ),
            GatewayError::RenewalUnavailable(_) => unavailable(
                ProblemType::StoreUnavailable,
                "try again shortly; nothing is lost, the session's cookies stay as they are",
            ),
            GatewayError::End(_) => unavailable(
                ProblemType::EndUnconfirmed,
                "the session may not be over everywhere; try again shortly",
            ),
            GatewayError::SignInUnavailable => unavailable(
                ProblemType::SignInUnavailable,
                "the account could not be looked up; try again shortly",
            ),
            GatewayError::Begin(_) => unavailable(
                ProblemType::SignInUnavailable,
                "the session could not be begun; try again shortly",
            ),
            GatewayError::SignInBusy => unavailable(
                ProblemType::SignInUnavailable,
                "many people are signing in; try again shortly",
            ),
            GatewayError::ProviderSilent { retry_after } => Refusal {
                status: StatusCode::SERVICE_UNAVAILABLE,
                problem: ProblemType::ProviderUnavailable,
                detail: "the sign-in provider does not answer; try again shortly, the session's cookies stay as they are",
                retry_after: Some((*retry_after).max(Duration::from_secs(1))),
            },
            GatewayError::RenewalsThrottled { retry_after } => Refusal {
                status: StatusCode::TOO_MANY_REQUESTS,
                problem: ProblemType::Status,
                detail: "too many renewals for this address; try again shortly, the session's cookies stay as they are",
                retry_after: Some((*retry_after).max(Duration::from_secs(1))),
            },
            GatewayError::KeysUnavailable => Refusal {
                status: StatusCode::SERVICE_UNAVAILABLE,
                problem: ProblemType::Status,
                detail: "the token cannot be judged now; try again shortly",
                retry_after: Some(KEYS_RETRY),
            },
            GatewayError::RenewalLoop => {
                Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "a fault of the gateway")
            }
        }
    }

    /// What the metrics and the access line call it.
    pub fn outcome(&self) -> Outcome {
        match self {
            // The client's body was too large, or did not come.
            GatewayError::Upstream(_, UpstreamError::RequestBody(_)) => Outcome::Malformed,
            GatewayError::Upstream(..) => Outcome::UpstreamFailed,
            GatewayError::Store(_)
            | GatewayError::RenewalUnavailable(_)
            | GatewayError::End(_)
            | GatewayError::SignInUnavailable
            | GatewayError::SignInBusy
            | GatewayError::ProviderSilent { .. }
            | GatewayError::RenewalsThrottled { .. }
            | GatewayError::Begin(_)
            | GatewayError::KeysUnavailable
            | GatewayError::RenewalLoop => Outcome::Unavailable,
        }
    }

    /// Counts it, where its engine does not do so itself.
    pub fn count(&self, metrics: &Metrics) {
        match self {
            GatewayError::Upstream(name, error) => {
                metrics.upstream_error(name, upstream_word(error))
            }
            GatewayError::Store(_)
            | GatewayError::RenewalUnavailable(_)
            | GatewayError::End(_)
            | GatewayError::SignInUnavailable
            | GatewayError::SignInBusy
            | GatewayError::ProviderSilent { .. }
            | GatewayError::RenewalsThrottled { .. }
            | GatewayError::Begin(_)
            | GatewayError::KeysUnavailable
            | GatewayError::RenewalLoop => {}
        }
    }

    /// Logged once, here where it is handled; the request id ties it to what the client saw.
    pub fn log(&self, request_id: &str) {
        let cause = self.source().map(|cause| Causes(cause).to_string());
        let cause = cause.as_deref().unwrap_or("-");
        match self {
            GatewayError::RenewalLoop => {
                tracing::error!(request_id, error = %self, cause, "request failed")
            }
            _ => tracing::warn!(request_id, error = %self, cause, "request failed"),
        }
    }
}

/// 503, for a while.
fn unavailable(problem: ProblemType, detail: &'static str) -> Refusal {
    Refusal {
        status: StatusCode::SERVICE_UNAVAILABLE,
        problem,
        detail,
        retry_after: Some(STORE_RETRY),
    }
}

fn upstream_refusal(error: &UpstreamError) -> Refusal {
    match error {
        UpstreamError::Connect(_)
        | UpstreamError::Unreachable
        | UpstreamError::Broken(_)
        | UpstreamError::BrokenAnswer => Refusal::new(
            StatusCode::BAD_GATEWAY,
            "the application behind the gateway does not answer",
        ),
        UpstreamError::ConnectTimeout | UpstreamError::ResponseTimeout => Refusal::new(
            StatusCode::GATEWAY_TIMEOUT,
            "the application behind the gateway took too long",
        ),
        UpstreamError::RequestBody(cause) => match cause.downcast_ref::<RequestBodyError>() {
            Some(RequestBodyError::TooLarge) => Refusal::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "the request's body is larger than this gateway accepts",
            ),
            Some(RequestBodyError::Stalled) => Refusal::new(
                StatusCode::REQUEST_TIMEOUT,
                "the request's body stopped arriving",
            ),
            Some(RequestBodyError::Broken(_)) | None => {
                Refusal::new(StatusCode::BAD_REQUEST, "the request's body broke off")
            }
        },
        UpstreamError::Target => Refusal::new(
            StatusCode::BAD_REQUEST,
            "the request target cannot be forwarded as it is",
        ),
        UpstreamError::Unconfigured | UpstreamError::Assertion(_) => {
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "a fault of the gateway")
        }
    }
}

/// A word for the metric's label.
fn upstream_word(error: &UpstreamError) -> &'static str {
    match error {
        UpstreamError::Connect(_) | UpstreamError::Unreachable => "connect",
        UpstreamError::ConnectTimeout => "connect_timeout",
        UpstreamError::ResponseTimeout => "response_timeout",
        UpstreamError::Broken(_) | UpstreamError::BrokenAnswer => "broken",
        UpstreamError::RequestBody(_) => "request_body",
        UpstreamError::Target | UpstreamError::Unconfigured | UpstreamError::Assertion(_) => {
            "internal"
        }
    }
}

/// An error and everything below it, for one log field.
struct Causes<'a>(&'a (dyn Error + 'static));

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(cause) = next {
            write!(f, ": {cause}")?;
            next = cause.source();
        }
        Ok(())
    }
}
