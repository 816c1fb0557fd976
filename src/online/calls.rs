//! What every call has in common: its bounds, how an address is shown, and what to do when no answer came. Must not show more
//! of an address than scheme, host, port and path.

use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http::header::CONTENT_TYPE;
use http::{Request, Response};
use rustls::CertificateError;

use super::{Finding, Verdict};
use crate::auth::foreign_keys::{Algorithm, ForeignKeys, MAX_BYTES};
use crate::issuer::{self, IssuerError};
use crate::outbound::{Cause, Limits, Outbound, OutboundError};

/// What one call may cost.
pub(super) const LIMITS: Limits = Limits {
    time: Duration::from_secs(10),
    bytes: MAX_BYTES,
};

/// An address without its query, which may hold anything.
pub(super) fn shown(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or("");
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    format!("{scheme}://{authority}{}", uri.path())
}

/// What to do about a call that brought no answer.
pub(super) fn mend(error: &OutboundError) -> String {
    let text = match &error.cause {
        Cause::Url => "write an absolute https URL",
        Cause::Resolve(_) => {
            "compare the host's name with the configuration; does this machine's DNS know it?"
        }
        Cause::Connect(_) | Cause::Timeout { sent: false, .. } => {
            "is it running, and may this machine reach that host and port (firewall, network)?"
        }
        Cause::NoRoots => "install ca-certificates, or name the authority's PEM file as ca_file",
        Cause::Tls(error) => certificate(error),
        Cause::Timeout { sent: true, .. } => {
            "it took the request and said nothing: look at its log"
        }
        Cause::TooLarge { .. } => "that is no answer to such a question: compare the address",
        Cause::Protocol(_) => {
            "what listens there speaks no HTTP/1.1, or only over TLS: compare scheme and port"
        }
    };
    text.to_owned()
}

/// What is wrong with the certificate of the other side.
fn certificate(error: &std::io::Error) -> &'static str {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(rustls::Error::InvalidCertificate(problem)) => match problem {
            CertificateError::UnknownIssuer => {
                "this machine does not trust who signed its certificate: name that authority's PEM file as ca_file"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "its certificate is for another name: call it by a name that the certificate has"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate is over: renew it there"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate does not hold yet: do the clocks of both machines agree?"
            }
            _ => "its certificate cannot be used: let its operator look at it",
        },
        _ => "what listens there speaks no TLS, or only TLS before 1.2: compare scheme and port",
    }
}

/// Metadata or keys that could not be had.
pub(super) fn issuer_problem(what: &str, error: &IssuerError, missing: &str) -> Finding {
    let mend = match error {
        IssuerError::Call { error, .. } => mend(error),
        IssuerError::Status { status, .. } if (500..=599).contains(status) => {
            "it is in trouble: look at its log, and try again".to_owned()
        }
        IssuerError::Status { .. } => missing.to_owned(),
        IssuerError::Metadata(_) => {
            "let the provider's operator look at that document; nothing else of it can be used"
                .to_owned()
        }
        IssuerError::Keys(_) => {
            "let the provider's operator look at its key set; tokens cannot be checked without"
                .to_owned()
        }
        IssuerError::Place => "write an absolute https URL".to_owned(),
    };
    Finding::of(Verdict::Problem, format!("{what}: {error}"), mend)
}

/// Whether a key set can be used.
pub(super) async fn keys(outbound: &Outbound, place: &Uri, allowed: &[Algorithm]) -> Finding {
    match issuer::keys_at(outbound, place, allowed, LIMITS).await {
        Ok(keys) => described(&keys, &shown(place)),
        Err(error) => issuer_problem(
            "keys",
            &error,
            &format!(
                "{} is not where its keys are: compare the address",
                shown(place)
            ),
        ),
    }
}

fn described(keys: &ForeignKeys, place: &str) -> Finding {
    let mut algorithms: Vec<&str> = keys.describe().map(|(_, one)| one.name()).collect();
    algorithms.sort_unstable();
    algorithms.dedup();
    let count = crate::units::count(keys.len(), "key");
    let mut text = format!(
        "keys: {count} to check tokens with ({}) at {place}",
        algorithms.join(", ")
    );
    let left_out = keys.skipped();
    if let Some((_, why)) = left_out.first() {
        let others = match left_out.len() {
            1 => String::new(),
            more => format!(", and {} more", more - 1),
        };
        text.push_str(&format!("; one was left out because {why}{others}"));
    }
    Finding::good(text)
}

/// A request without a body, as a browser would begin it.
pub(super) async fn get(outbound: &Outbound, url: &str) -> Result<Response<Bytes>, Finding> {
    let request = Request::get(url)
        .header("accept", "text/html, application/json")
        .body(Bytes::new());
    send(outbound, request).await
}

/// A form without anything in it.
pub(super) async fn post_nothing(
    outbound: &Outbound,
    url: &Uri,
) -> Result<Response<Bytes>, Finding> {
    let request = Request::post(url.clone())
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Bytes::new());
    send(outbound, request).await
}

async fn send(
    outbound: &Outbound,
    request: Result<Request<Bytes>, http::Error>,
) -> Result<Response<Bytes>, Finding> {
    let request = request.map_err(|_| {
        Finding::of(
            Verdict::Problem,
            "the address cannot be called".to_owned(),
            "write an absolute https URL",
        )
    })?;
    let sent = outbound.send(request, LIMITS).await;
    sent.map_err(|error| Finding::of(Verdict::Problem, error.to_string(), mend(&error)))
}
