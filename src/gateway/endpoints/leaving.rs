//! Signing out at the provider too, once the session here is over. Must not hold up the end of the session here, nor lead
//! anywhere that the configuration does not name.

use http::{HeaderMap, Response};

use super::super::Context;
use super::super::answer::{self, Asked};
use super::providers::{keep, opened, return_origin};
use super::sign_out::SIGNED_OUT_PAGE;
use crate::auth::SessionId;
use crate::body::Body;
use crate::login::form;
use crate::login::oidc::leaving::{self, Goodbye};
use crate::login::oidc::pending::{Jar, Leaving};
use crate::login::pages;

/// The way to a provider's own sign-out.
pub(super) struct Onward {
    provider: String,
    location: String,
    jar: Jar,
}

impl Onward {
    /// The page that leads there.
    pub(super) fn page(&self, context: &Context<'_>, asked: &Asked) -> Response<Body> {
        let view = answer::view(context, asked);
        let mut response = pages::leaving(&view, &self.provider, &self.location);
        keep(context, &self.jar, response.headers_mut());
        response
    }
}

/// Where this session's provider signs people out, if it has one that does. Asked before the session ends; a store that does not
/// answer now will not end it either.
pub(super) async fn to_provider(
    context: &Context<'_>,
    headers: &HeaderMap,
    session: SessionId,
) -> Option<Onward> {
    let began = context.app.sessions.began_there(session).await.ok()??;
    let provider = context.app.providers.find(&began.provider)?;
    let settings = provider.settings();
    // Configured anew under the same name, it is another provider: it knows nothing of this session.
    if !settings.is_issuer(&began.issuer) {
        return None;
    }
    let endpoint = provider.end_session_endpoint()?;
    let note = Leaving::begin(&settings.name, context.now).ok()?;
    let goodbye = Goodbye {
        client_id: &settings.client_id,
        id_token: began.id_token.as_ref(),
        return_uri: &format!("{}/.auth/logout", return_origin(context)),
        state: &note.id,
    };
    let location = leaving::url(&endpoint, goodbye);
    let mut jar = opened(context, headers);
    jar.leave(note);
    Some(Onward {
        provider: settings.display_name.clone(),
        location,
        jar,
    })
}

/// `GET /.auth/logout?state=…`: back from there. `None` when the query is no state that this browser was sent away with: then it
/// is an ordinary visit.
pub(super) fn came_back(
    context: &Context<'_>,
    headers: &HeaderMap,
    query: Option<&str>,
    asked: &Asked,
) -> Option<Response<Body>> {
    let form = form::parse(query?.as_bytes()).ok()?;
    let mut jar = opened(context, headers);
    let leaving = jar.take_leaving(form.field("state")?)?;
    let provider = context.app.providers.find(&leaving.provider);
    let place = provider.and_then(|provider| provider.settings().logout_return.as_deref());
    let mut response = match asked.person() {
        true => pages::see_other(place.unwrap_or(SIGNED_OUT_PAGE)),
        false => answer::no_content(),
    };
    keep(context, &jar, response.headers_mut());
    Some(response)
}
