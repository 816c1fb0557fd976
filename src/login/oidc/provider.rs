//! The one that talks to a provider: discovery, codes, userinfo, refresh tokens. Whatever comes back is judged by the pure
//! files beside this one. Must not issue sessions, and never waits for a provider longer than its limits say.

mod who;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit};
use url::Url;

use super::authorize;
use super::callback::IssuerRule;
use super::client_auth::{Client, RequestError, token_request};
use super::failure::Failure;
use super::pending::Pending;
use super::person::Person;
use super::settings::{Kind, Settings};
use super::token_answer::{self, Tokens};
use crate::auth::foreign_keys::Algorithm;
use crate::auth::foreign_token::{self, ForeignTokenError};
use crate::auth::foreign_token::{ForeignClaims, ForeignExpect, ForeignKind, LEEWAY};
use crate::clock::Timestamp;
use crate::issuer::{self, Fetched, Location, Metadata, RemoteKeys};
use crate::outbound::{Limits, Outbound};
use crate::units::Secret;

/// A call that a person waits for.
const PATIENCE: Limits = Limits {
    time: Duration::from_secs(10),
    bytes: 512 << 10,
};
/// How many callbacks of one provider are worked on at once; a silent provider does not hold more than these.
const AT_ONCE: usize = 64;
/// How long a callback waits for its turn.
const TURN: Duration = Duration::from_secs(5);
/// A refresh may not be given up early: an answer that nobody hears may hold the next refresh token.
const REFRESH_PATIENCE: Limits = Limits {
    time: Duration::from_secs(55),
    bytes: 512 << 10,
};
/// Longest life of an ID token that is believed. It is used once, at once, and bound to the sign-in by its nonce: providers
/// that let them live for days are no danger.
const LONGEST_ID_TOKEN: Duration = Duration::from_secs(30 * 86_400);

/// Somebody who has just signed in at a provider, with what a session keeps of it.
#[derive(Debug)]
pub struct SignedIn {
    /// Who they are here.
    pub person: Person,
    /// The provider's identifier; of an OAuth 2 service the address of its token endpoint.
    pub issuer: String,
    /// What the provider calls its own session (`sid`).
    pub session: Option<String>,
    /// Asks again later.
    pub refresh_token: Option<Secret>,
    /// For `id_token_hint`.
    pub id_token: Option<Secret>,
    /// Whether userinfo named groups.
    pub groups_at_userinfo: bool,
}

/// How a sign-in is to be begun.
#[derive(Clone, Copy, Debug)]
pub struct Beginning<'a> {
    /// Ours, as the provider knows it.
    pub redirect_uri: &'a str,
    /// The sealed state.
    pub state: &'a str,
    /// Let the person sign in anew, as somebody else perhaps.
    pub anew: bool,
}

/// A provider, ready to be asked.
pub struct Provider {
    settings: Settings,
    outbound: Outbound,
    /// Metadata and keys; an OAuth 2 service has none.
    keys: Option<Arc<RemoteKeys>>,
    room: Semaphore,
    /// Operators have heard that it gives no refresh token although it was asked for one.
    told_of_no_refresh: AtomicBool,
}

impl Provider {
    /// Ready to be asked; an OpenID provider's metadata and keys are being fetched on `runtime` from now on.
    pub fn start(settings: Settings, outbound: Outbound, runtime: Handle) -> Self {
        let keys = match &settings.kind {
            Kind::OpenId { issuer } => {
                let wanted = issuer::Settings::new(
                    issuer.clone(),
                    Location::Discovered,
                    Algorithm::ASYMMETRIC.to_vec(),
                );
                Some(RemoteKeys::start(wanted, outbound.clone(), runtime))
            }
            Kind::OAuth2(_) => None,
        };
        Provider {
            settings,
            outbound,
            keys,
            room: Semaphore::new(AT_ONCE),
            told_of_no_refresh: AtomicBool::new(false),
        }
    }

    /// What the deployer meant.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The keys that it signs with; an OAuth 2 service has none.
    pub fn keys(&self) -> Option<&Arc<RemoteKeys>> {
        self.keys.as_ref()
    }

    /// Where to send the browser.
    pub async fn begin(
        &self,
        pending: &Pending,
        beginning: Beginning<'_>,
    ) -> Result<String, Failure> {
        let endpoint = match &self.settings.kind {
            Kind::OpenId { .. } => {
                let fetched = self.fetched().await?;
                place(metadata_of(&fetched)?, "authorization_endpoint")?
            }
            Kind::OAuth2(endpoints) => address(&endpoints.authorize)?,
        };
        Ok(authorize::url(
            &endpoint,
            &self.settings,
            pending,
            beginning,
        ))
    }

    /// Leave to work on a callback, while it is kept; `None` when too many are being worked on.
    pub async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        let turn = tokio::time::timeout(TURN, self.room.acquire()).await;
        turn.ok()?.ok()
    }

    /// Who signed in: redeems the code, once.
    pub async fn finish(
        &self,
        pending: &Pending,
        code: &str,
        redirect_uri: &str,
        now: Timestamp,
    ) -> Result<SignedIn, Failure> {
        let parameters = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect_uri),
            ("code_verifier", pending.verifier.as_str()),
        ];
        match &self.settings.kind {
            Kind::OpenId { issuer } => {
                let fetched = self.fetched().await?;
                let metadata = metadata_of(&fetched)?;
                let token_endpoint = place(metadata, "token_endpoint")?;
                let tokens = self
                    .tokens(
                        &token_endpoint,
                        self.client(issuer),
                        &parameters,
                        PATIENCE,
                        now,
                    )
                    .await?;
                self.openid(metadata, tokens, &pending.nonce, now).await
            }
            Kind::OAuth2(endpoints) => {
                let token_url = address(&endpoints.token)?;
                let client = self.client(&endpoints.token);
                let tokens = self
                    .tokens(&token_url, client, &parameters, PATIENCE, now)
                    .await?;
                self.oauth2(endpoints, tokens, now).await
            }
        }
    }

    /// What an answer to an authorization request must say of its issuer.
    pub async fn issuer_rule(&self) -> Result<IssuerRule<'_>, Failure> {
        Ok(match &self.settings.kind {
            Kind::OpenId { issuer } => {
                let fetched = self.fetched().await?;
                let says = "authorization_response_iss_parameter_supported";
                IssuerRule {
                    issuer: Some(issuer),
                    always_named: metadata_of(&fetched)?.members().flag(says) == Some(true),
                }
            }
            Kind::OAuth2(_) => IssuerRule {
                issuer: None,
                always_named: false,
            },
        })
    }

    /// Metadata and keys, as fetched last; waits for the first fetch.
    async fn fetched(&self) -> Result<Arc<Fetched>, Failure> {
        let keys = self.keys.as_ref().ok_or(Failure::Undiscovered)?;
        keys.ready().await.ok_or(Failure::Undiscovered)
    }

    /// The claims of an ID token that is genuine, for us, and not over.
    async fn verified(&self, token: &str, now: Timestamp) -> Result<ForeignClaims, Failure> {
        let fetched = self.fetched().await?;
        let keys = self.keys.as_ref().ok_or(Failure::Undiscovered)?;
        let expect = ForeignExpect {
            issuer: keys.issuer().to_owned(),
            audiences: vec![self.settings.client_id.clone()],
            kind: ForeignKind::IdToken,
            max_lifetime: LONGEST_ID_TOKEN,
            leeway: LEEWAY,
        };
        match foreign_token::verify(token, &fetched.keys, &expect, now) {
            Err(ForeignTokenError::UnknownKey) => {
                // The provider, which has just sent this token, may have changed its keys a moment ago.
                let newer = keys.own_unknown_key(fetched.keys.generation()).await;
                let newer = newer.ok_or(ForeignTokenError::UnknownKey)?;
                Ok(foreign_token::verify(token, &newer.keys, &expect, now)?)
            }
            judged => Ok(judged?),
        }
    }

    fn client<'a>(&'a self, audience: &'a str) -> Client<'a> {
        Client {
            id: &self.settings.client_id,
            auth: &self.settings.client_auth,
            audience,
        }
    }

    async fn tokens(
        &self,
        endpoint: &Url,
        client: Client<'_>,
        parameters: &[(&str, &str)],
        limits: Limits,
        now: Timestamp,
    ) -> Result<Tokens, Failure> {
        let request = token_request(endpoint, client, parameters, now)?;
        let response = self.outbound.send(request, limits).await?;
        token_answer::read(&response).map_err(Failure::of_tokens)
    }

    /// Asks for new tokens; the answer is judged by the caller. Never sent twice.
    pub(super) async fn ask_again(
        &self,
        refresh_token: &Secret,
        now: Timestamp,
    ) -> Result<Response<Bytes>, Failure> {
        let Kind::OpenId { issuer } = &self.settings.kind else {
            return Err(Failure::Undiscovered);
        };
        let refresh_token =
            std::str::from_utf8(refresh_token.expose()).map_err(|_| RequestError::Malformed)?;
        let parameters = [
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh_token),
        ];
        let fetched = self.fetched().await?;
        let endpoint = place(metadata_of(&fetched)?, "token_endpoint")?;
        let request = token_request(&endpoint, self.client(issuer), &parameters, now)?;
        Ok(self.outbound.send(request, REFRESH_PATIENCE).await?)
    }

    /// Where browsers sign out at the provider, as far as that is known now: a sign-out waits for nobody.
    pub fn end_session_endpoint(&self) -> Option<Url> {
        let fetched = self.keys.as_ref()?.current()?;
        place(fetched.metadata.as_ref()?, "end_session_endpoint").ok()
    }
}

/// Metadata is always there when keys were discovered.
fn metadata_of(fetched: &Fetched) -> Result<&Metadata, Failure> {
    fetched.metadata.as_ref().ok_or(Failure::Undiscovered)
}

fn place(metadata: &Metadata, name: &'static str) -> Result<Url, Failure> {
    metadata
        .place(name)
        .and_then(|uri| Url::parse(&uri.to_string()).ok())
        .ok_or(Failure::Metadata(name))
}

/// An address that the configuration has checked.
fn address(text: &str) -> Result<Url, RequestError> {
    Url::parse(text).map_err(|_| RequestError::Malformed)
}
