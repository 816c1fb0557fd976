//! The one that talks to a provider: discovery, codes, userinfo, refresh tokens. Whatever comes back is judged by the pure
//! files beside this one. Must not issue sessions, and never waits for a provider longer than its limits say.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit};
use url::Url;

use super::authorize;
use super::callback::IssuerRule;
use super::client_auth::{Client, RequestError, bearer_request, token_request};
use super::continued;
use super::failure::Failure;
use super::id_token::{self, Expect};
use super::pending::Pending;
use super::person::{self, Person, PersonError};
use super::settings::{Endpoints, Kind, Settings};
use super::token_answer::{self, Tokens, is_json, is_unavailable};
use crate::auth::Identity;
use crate::auth::claims::ClaimSet;
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

    /// Who the answer to a refresh token is about; `None` when it says nothing of the person.
    pub(super) async fn refreshed(
        &self,
        tokens: Tokens,
        subject: &str,
        before: &Identity,
        now: Timestamp,
    ) -> Result<Option<Identity>, Failure> {
        let fetched = self.fetched().await?;
        let metadata = metadata_of(&fetched)?;
        let settings = &self.settings;
        if tokens.id_token.is_some() {
            let (claims, _) = self.genuine(&tokens, (None, Some(subject)), now).await?;
            if !continued::is_only_proof(settings, &claims.set, before) {
                let userinfo = self.missing(metadata, &tokens, &claims, subject).await?;
                let said = Said::of(&claims.set, userinfo.as_ref());
                let person = person::read_again(settings, &said.all, &said.sources, before, now)?;
                return Ok(Some(person.identity));
            }
        }
        let Ok(endpoint) = place(metadata, "userinfo_endpoint") else {
            return Ok(None);
        };
        let userinfo = self.userinfo(&endpoint, &tokens, subject).await?;
        match continued::read(settings, &userinfo, before, now) {
            Ok(identity) => Ok(Some(identity)),
            // What cannot be carried says nothing.
            Err(PersonError::Claim(_) | PersonError::UnverifiedUser) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Where browsers sign out at the provider, as far as that is known now: a sign-out waits for nobody.
    pub fn end_session_endpoint(&self) -> Option<Url> {
        let fetched = self.keys.as_ref()?.current()?;
        place(fetched.metadata.as_ref()?, "end_session_endpoint").ok()
    }

    /// Who the tokens of a sign-in are about.
    async fn openid(
        &self,
        metadata: &Metadata,
        tokens: Tokens,
        nonce: &str,
        now: Timestamp,
    ) -> Result<SignedIn, Failure> {
        let (claims, subject) = self.genuine(&tokens, (Some(nonce), None), now).await?;
        let userinfo = self.missing(metadata, &tokens, &claims, &subject).await?;
        let said = Said::of(&claims.set, userinfo.as_ref());
        let person = person::read(&self.settings, &said.all, &said.sources, now)?;
        Ok(SignedIn {
            person,
            issuer: claims.issuer.clone(),
            session: claims.set.text("sid").map(str::to_owned),
            refresh_token: tokens.refresh_token,
            id_token: tokens.id_token,
        })
    }

    /// The claims of the ID token, once it is known to be the answer to this sign-in (its nonce) or about this person, and their
    /// `sub`.
    async fn genuine(
        &self,
        tokens: &Tokens,
        expected: (Option<&str>, Option<&str>),
        now: Timestamp,
    ) -> Result<(ForeignClaims, String), Failure> {
        let (nonce, subject) = expected;
        let Some(id_token) = &tokens.id_token else {
            return Err(Failure::Answer("token", "it has no id_token"));
        };
        let text = std::str::from_utf8(id_token.expose())
            .map_err(|_| Failure::Answer("token", "its id_token is no text"))?;
        let claims = self.verified(text, now).await?;
        let expect = Expect {
            client_id: &self.settings.client_id,
            nonce,
            subject,
            max_age: self.settings.max_age.filter(|_| nonce.is_some()),
            access_token: &tokens.access_token,
        };
        let subject = id_token::check(&claims, text, expect, now)?;
        Ok((claims, subject))
    }

    /// What userinfo says, where the ID token does not say everything.
    async fn missing(
        &self,
        metadata: &Metadata,
        tokens: &Tokens,
        claims: &ForeignClaims,
        subject: &str,
    ) -> Result<Option<ClaimSet>, Failure> {
        match place(metadata, "userinfo_endpoint") {
            Ok(endpoint) if self.lacks(&claims.set) => {
                self.userinfo(&endpoint, tokens, subject).await.map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Userinfo of this person (OpenID Connect Core section 5.3.2).
    async fn userinfo(
        &self,
        endpoint: &Url,
        tokens: &Tokens,
        subject: &str,
    ) -> Result<ClaimSet, Failure> {
        let access_token = &tokens.access_token;
        let userinfo = self.json(endpoint, access_token, "userinfo").await?;
        match userinfo.text("sub") == Some(subject) {
            true => Ok(userinfo),
            false => Err(Failure::UserinfoSubject),
        }
    }

    /// Whether something of the identity is not in these claims, so that userinfo must be asked.
    fn lacks(&self, claims: &ClaimSet) -> bool {
        let map = &self.settings.claims.map;
        let paths = [
            &map.user,
            &map.email,
            &self.settings.claims.email_verified,
            &map.name,
            &map.preferred_username,
            &map.groups,
        ];
        paths.into_iter().any(|path| !claims.has_at(path))
    }

    async fn oauth2(
        &self,
        endpoints: &Endpoints,
        tokens: Tokens,
        now: Timestamp,
    ) -> Result<SignedIn, Failure> {
        let userinfo = address(&endpoints.userinfo)?;
        let mut settings = Cow::Borrowed(&self.settings);
        let mut claims = self
            .json(&userinfo, &tokens.access_token, "userinfo")
            .await?;
        if let Some(emails) = &endpoints.emails {
            let emails = address(emails)?;
            let answer = self.call(&emails, &tokens.access_token, "emails").await?;
            let paths = &self.settings.claims;
            // The list alone says which address is verified; the one that people show to others is not looked at.
            let listed = person::with_verified_email(&claims, answer.body(), paths);
            let (with_address, paths) = listed.ok_or(Failure::Answer(
                "emails",
                "it is no list of e-mail addresses",
            ))?;
            claims = with_address;
            settings = Cow::Owned(Settings {
                claims: paths,
                ..self.settings.clone()
            });
        }
        let person = person::read(&settings, &claims, &[&claims], now)?;
        Ok(SignedIn {
            person,
            issuer: endpoints.token.clone(),
            session: None,
            // Such services let tokens live for ever or not at all; there is nothing that a renewal could ask.
            refresh_token: None,
            id_token: None,
        })
    }

    async fn json(
        &self,
        endpoint: &Url,
        access_token: &Secret,
        which: &'static str,
    ) -> Result<ClaimSet, Failure> {
        let response = self.call(endpoint, access_token, which).await?;
        ClaimSet::from_json(response.body()).ok_or(Failure::Answer(
            which,
            "it is not a JSON object in strict form",
        ))
    }

    async fn call(
        &self,
        endpoint: &Url,
        access_token: &Secret,
        which: &'static str,
    ) -> Result<Response<Bytes>, Failure> {
        let request = bearer_request(endpoint, access_token)?;
        let response = self.outbound.send(request, PATIENCE).await?;
        if is_unavailable(response.status()) {
            return Err(Failure::Unavailable(which, response.status().as_u16()));
        }
        if response.status() != StatusCode::OK {
            return Err(Failure::Answer(which, "its status is not 200"));
        }
        match is_json(&response) {
            true => Ok(response),
            false => Err(Failure::Answer(which, "it is not application/json")),
        }
    }
}

/// What was said of somebody: all of it, and by whom.
struct Said<'a> {
    all: Cow<'a, ClaimSet>,
    sources: Vec<&'a ClaimSet>,
}

impl<'a> Said<'a> {
    fn of(id_token: &'a ClaimSet, userinfo: Option<&'a ClaimSet>) -> Self {
        Said {
            all: match userinfo {
                Some(userinfo) => Cow::Owned(id_token.clone().completed_by(userinfo)),
                None => Cow::Borrowed(id_token),
            },
            sources: std::iter::once(id_token).chain(userinfo).collect(),
        }
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
