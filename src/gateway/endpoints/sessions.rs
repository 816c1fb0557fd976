//! `/.auth/sessions`: a person sees their own sessions and ends any of them. Must not act on anybody else's: a session
//! that is not theirs is answered like one that does not exist.

use std::sync::Arc;

use http::{HeaderMap, Request, Response, StatusCode};

use super::super::answer::{self, Asked, Refusal};
use super::super::session_cookies::SessionCookies;
use super::super::{Context, Trail, identify, renew};
use super::{is_suspect, sign_out};
use crate::auth::decision::{AnonymousReason, Decision, RequestKind};
use crate::auth::rotation::SessionRecord;
use crate::auth::{SessionId, Subject};
use crate::body::Body;
use crate::error::GatewayError;
use crate::login::form;
use crate::login::pages::{self, SessionsNotice};
use crate::login::return_to::login_url_for;
use crate::login::sessions::{self, Own};
use crate::session::{By, Ending, Reason};

/// Where the page is, for redirects and for the way back from signing in.
const PLACE: &str = "/.auth/sessions";

/// What the page's query may say was just done. Anybody can write such a link; it says nothing but that.
const NOTICES: [(&str, SessionsNotice); 3] = [
    ("ended", SessionsNotice::Ended),
    ("gone", SessionsNotice::Gone),
    ("others-ended", SessionsNotice::OthersEnded),
];

/// Somebody whose session is live in the store as well.
struct Present {
    subject: Arc<Subject>,
    session: SessionId,
    /// All of their live sessions, this one among them.
    records: Vec<SessionRecord>,
    cookies: SessionCookies,
}

impl Present {
    /// What ends another of this person's sessions.
    fn ends_another(&self, context: &Context<'_>) -> Ending {
        Ending::new(Reason::Revoked, By::Session(self.session))
            .from_request(Some(context.client), Some(context.request_id))
    }
}

/// `GET /.auth/sessions`.
pub(super) async fn list(
    context: &Context<'_>,
    headers: &HeaderMap,
    query: Option<&str>,
    asked: &Asked,
    trail: &mut Trail,
) -> Result<Response<Body>, GatewayError> {
    let present = match present(context, headers, trail).await? {
        Ok(present) => present,
        Err(reason) => return Ok(nobody(context, asked, reason)),
    };
    let own = Own::new(
        &present.subject.identity().user,
        present.session,
        present.records,
        context.now,
        context.app.sessions.settings().access_ttl,
    );
    let Some(own) = own else {
        return Ok(nobody(context, asked, AnonymousReason::Revoked));
    };
    let mut response = if asked.person() {
        let notice = NOTICES
            .iter()
            .find(|(word, _)| Some(*word) == query)
            .map(|(_, notice)| *notice);
        pages::sessions(&answer::view(context, asked), &own, notice)
    } else {
        sessions::response(&own)
    };
    present.cookies.apply(context, response.headers_mut());
    Ok(response)
}

/// `POST /.auth/sessions/end`: the session that the form names, if it is one of theirs.
pub(super) async fn end_one(
    context: &Context<'_>,
    request: Request<Body>,
    asked: &Asked,
    trail: &mut Trail,
) -> Result<Response<Body>, GatewayError> {
    let (parts, body) = request.into_parts();
    if is_suspect(context, &parts.method, &parts.headers) {
        return Ok(answer::cross_site(context, asked));
    }
    // Before a renewal, whose cookies no refusal of the form should lose.
    let form = match form::read(&parts.headers, body).await {
        Ok(form) => form,
        Err(error) => return Ok(answer::bad_form(context, asked, &error)),
    };
    let Some(named) = form.field("session") else {
        let refusal = Refusal::new(StatusCode::BAD_REQUEST, "the form needs a session");
        return Ok(refusal.answer(&answer::view(context, asked), asked));
    };
    let present = match present(context, &parts.headers, trail).await? {
        Ok(present) => present,
        Err(reason) => return Ok(nobody(context, asked, reason)),
    };
    let theirs = SessionId::parse(named)
        .filter(|session| present.records.iter().any(|record| record.id == *session));
    if theirs == Some(present.session) {
        return end_own(context, &present, asked).await;
    }
    let ended = match theirs {
        Some(session) => context
            .app
            .sessions
            .end(session, present.ends_another(context))
            .await
            .map_err(GatewayError::End)?
            .is_some(),
        None => false,
    };
    let mut response = match (asked.person(), ended) {
        (true, true) => pages::see_other(&format!("{PLACE}?ended")),
        (true, false) => pages::see_other(&format!("{PLACE}?gone")),
        (false, true) => sessions::ended(1),
        (false, false) => Refusal::new(
            StatusCode::NOT_FOUND,
            "there is no live session of yours with that id",
        )
        .answer(&answer::view(context, asked), asked),
    };
    present.cookies.apply(context, response.headers_mut());
    Ok(response)
}

/// `POST /.auth/sessions/end-others`: all of theirs but this one.
pub(super) async fn end_others(
    context: &Context<'_>,
    request: Request<Body>,
    asked: &Asked,
    trail: &mut Trail,
) -> Result<Response<Body>, GatewayError> {
    let (parts, _) = request.into_parts();
    if is_suspect(context, &parts.method, &parts.headers) {
        return Ok(answer::cross_site(context, asked));
    }
    let present = match present(context, &parts.headers, trail).await? {
        Ok(present) => present,
        Err(reason) => return Ok(nobody(context, asked, reason)),
    };
    let ended = context
        .app
        .sessions
        .end_others(
            present.subject.identity(),
            present.session,
            present.ends_another(context),
            context.now,
        )
        .await
        .map_err(GatewayError::End)?;
    let mut response = if asked.person() {
        pages::see_other(&format!("{PLACE}?others-ended"))
    } else {
        sessions::ended(ended)
    };
    present.cookies.apply(context, response.headers_mut());
    Ok(response)
}

/// Ending one's own session is signing out.
async fn end_own(
    context: &Context<'_>,
    present: &Present,
    asked: &Asked,
) -> Result<Response<Body>, GatewayError> {
    let user = &present.subject.identity().user;
    sign_out::end(context, present.session, Some(user)).await?;
    let mut response = if asked.person() {
        pages::see_other(sign_out::SIGNED_OUT_PAGE)
    } else {
        sessions::ended(1)
    };
    SessionCookies::Clear.apply(context, response.headers_mut());
    Ok(response)
}

/// Who is asking, renewed if need be. The store has the last word: what it does not list as live is nobody's session.
async fn present(
    context: &Context<'_>,
    headers: &HeaderMap,
    trail: &mut Trail,
) -> Result<Result<Present, AnonymousReason>, GatewayError> {
    let (decision, cookies) = match identify(context, headers) {
        Decision::NeedsRenewal(claims) => renew(context, claims, headers, trail).await?,
        decided => (decided, SessionCookies::Untouched),
    };
    let subject = match decision {
        Decision::SignedIn(subject) => subject,
        Decision::Anonymous(reason) => return Ok(Err(reason)),
        // After a renewal no decision asks for another one.
        Decision::NeedsRenewal(_) => return Err(GatewayError::RenewalLoop),
    };
    let records = context
        .app
        .sessions
        .of_person(subject.identity(), context.now)
        .await
        .map_err(GatewayError::Store)?;
    // Whoever has no session of ours has none to look at.
    let own = subject
        .session()
        .filter(|session| records.iter().any(|record| record.id == *session));
    let Some(session) = own else {
        return Ok(Err(AnonymousReason::Revoked));
    };
    trail.subject = Some(Arc::clone(&subject));
    Ok(Ok(Present {
        subject,
        session,
        records,
        cookies,
    }))
}

/// To the sign-in page and back to the list, or a 401 that says where to sign in.
fn nobody(context: &Context<'_>, asked: &Asked, reason: AnonymousReason) -> Response<Body> {
    if !asked.person() {
        return answer::unauthorized(context, asked, PLACE);
    }
    let mut response = pages::see_other(&login_url_for(PLACE));
    // A person's form is a navigation too: its answer leads to the sign-in page.
    SessionCookies::Untouched
        .or_clear(RequestKind::Navigation, reason)
        .apply(context, response.headers_mut());
    response
}
