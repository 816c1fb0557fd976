//! `POST /.auth/backchannel-logout/NAME`: a provider's server says who has signed out there (OpenID Connect Back-Channel
//! Logout 1.0). No browser sends this, so there are no cookies and no origin to look at: the token is the proof.

use http::{HeaderValue, Request, Response, StatusCode, header};

use super::super::Context;
use super::super::answer::{self, Asked};
use crate::audit::AuditEvent;
use crate::body::Body;
use crate::error::GatewayError;
use crate::login::backchannel::{Refused, Sender};
use crate::login::form;
use crate::login::problem::retry_after_value;
use crate::session::{By, Ending, Logout, Reason};

/// The path of the endpoint, without the provider's name.
pub(super) const PATH: &str = "/backchannel-logout/";

/// Ends what the token wants ended, durably and on every node, before it says so.
pub(super) async fn end(
    context: &Context<'_>,
    request: Request<Body>,
    name: &str,
    asked: &Asked,
) -> Result<Response<Body>, GatewayError> {
    let provider = context.app.providers.find(name);
    let Some((provider, keys)) = provider.and_then(|it| it.keys().map(|keys| (it, keys))) else {
        return Ok(answer::not_found(context, asked));
    };
    let (parts, body) = request.into_parts();
    let form = match form::read(&parts.headers, body).await {
        Ok(form) => form,
        Err(error) => return Ok(invalid(&error.to_string())),
    };
    let Some(token) = form.field("logout_token") else {
        return Ok(invalid("the form has no logout_token"));
    };
    let sender = Sender {
        provider: name,
        client_id: &provider.settings().client_id,
        keys,
    };
    let backchannel = &context.app.backchannel;
    let claims = match backchannel
        .judge(token, sender, context.client, context.now)
        .await
    {
        Ok(claims) => claims,
        Err(refused) => return Ok(refuse(context, name, refused)),
    };
    let logout = Logout {
        provider: name,
        issuer: keys.issuer(),
        subject: claims.subject.as_deref(),
        session: claims.session.as_deref(),
        issued_at: claims.issued_at,
    };
    let ending = Ending::new(Reason::SignedOutThere, By::Provider)
        .from_request(Some(context.client), Some(context.request_id));
    context
        .app
        .sessions
        .end_at_provider(&logout, ending)
        .await
        .map_err(GatewayError::End)?;
    backchannel.obeyed(name, &claims);
    Ok(said(StatusCode::OK, Body::empty()))
}

fn refuse(context: &Context<'_>, provider: &str, refused: Refused) -> Response<Body> {
    let reason = refused.to_string();
    match refused {
        Refused::Token(_) | Refused::Logout(_) | Refused::Replayed => {
            let reason = &*reason;
            let event = AuditEvent::LogoutRefused { provider, reason };
            context.app.audit.record_for(&event, context.cause());
            invalid(reason)
        }
        // Whoever floods the endpoint does not flood the audit stream too.
        Refused::Throttled { retry_after } => {
            let mut response = said(StatusCode::TOO_MANY_REQUESTS, Body::empty());
            let value = retry_after_value(retry_after);
            response.headers_mut().insert(header::RETRY_AFTER, value);
            response
        }
        Refused::NoKeys => {
            tracing::warn!(provider, %reason, "a back-channel logout could not be judged");
            let mut response = said(StatusCode::SERVICE_UNAVAILABLE, Body::empty());
            let value = HeaderValue::from_static("30");
            response.headers_mut().insert(header::RETRY_AFTER, value);
            response
        }
    }
}

/// 400 in the form of OAuth's errors (section 2.8, RFC 6749 section 5.2).
fn invalid(why: &str) -> Response<Body> {
    let json = serde_json::json!({ "error": "invalid_request", "error_description": why });
    let mut response = said(StatusCode::BAD_REQUEST, Body::from(json.to_string()));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

fn said(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}
