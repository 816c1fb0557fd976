//! Who the tokens of a provider are about: the ID token, and userinfo where it is asked. Must not decide what becomes of a sign-in
//! or a session.

use std::borrow::Cow;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::{Response, StatusCode};
use url::Url;

use super::super::client_auth::bearer_request;
use super::super::continued::{self, NoGroups};
use super::super::failure::Failure;
use super::super::id_token::{self, Expect};
use super::super::person;
use super::super::settings::{Endpoints, Settings};
use super::super::token_answer::{Tokens, is_json, is_unavailable};
use super::{PATIENCE, Provider, SignedIn, address, metadata_of, place};
use crate::auth::Identity;
use crate::auth::claims::ClaimSet;
use crate::auth::foreign_token::ForeignClaims;
use crate::clock::Timestamp;
use crate::issuer::Metadata;
use crate::session::ProviderQuestion;
use crate::units::Secret;

impl Provider {
    /// Who the answer to a refresh token is about; `None` when it says nothing of the person.
    pub(in crate::login::oidc) async fn refreshed(
        &self,
        tokens: Tokens,
        question: ProviderQuestion<'_>,
        now: Timestamp,
    ) -> Result<Option<Refreshed>, Failure> {
        let (subject, before) = (question.subject, question.identity);
        let fetched = self.fetched().await?;
        let metadata = metadata_of(&fetched)?;
        let settings = &self.settings;
        if tokens.id_token.is_some() {
            let (claims, _) = self.genuine(&tokens, (None, Some(subject)), now).await?;
            if !continued::is_only_proof(settings, &claims.set, before) {
                let userinfo = self.missing(metadata, &tokens, &claims, subject).await?;
                let said = Said::of(&claims.set, userinfo.as_ref());
                let (all, sources) = (&said.all, &said.sources);
                let identity =
                    continued::read(settings, all, sources, before, NoGroups::Gone, now)?;
                let groups_at_userinfo = self.names_groups(userinfo.as_ref());
                return Ok(Some(Refreshed {
                    identity,
                    groups_at_userinfo,
                }));
            }
        }
        let Ok(endpoint) = place(metadata, "userinfo_endpoint") else {
            return Ok(None);
        };
        let userinfo = self.userinfo(&endpoint, &tokens, subject).await?;
        let sources = [&userinfo];
        let silence = match question.groups_at_userinfo {
            true => NoGroups::Gone,
            false => NoGroups::Silence,
        };
        // What cannot be read may be an end: it is no welcome.
        let identity = continued::read(settings, &userinfo, &sources, before, silence, now)?;
        Ok(Some(Refreshed {
            identity,
            groups_at_userinfo: self.names_groups(Some(&userinfo)),
        }))
    }

    /// Who the tokens of a sign-in are about.
    pub(super) async fn openid(
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
        if tokens.refresh_token.is_none() {
            self.tell_of_no_refresh();
        }
        Ok(SignedIn {
            person,
            issuer: claims.issuer.clone(),
            session: claims.set.text("sid").map(str::to_owned),
            refresh_token: tokens.refresh_token,
            id_token: tokens.id_token,
            groups_at_userinfo: self.names_groups(userinfo.as_ref()),
        })
    }

    /// Renewals cannot ask this provider then, which nobody would notice; told once, for it is mostly so for everybody.
    fn tell_of_no_refresh(&self) {
        if self.settings.asks_for_refresh()
            && !self.told_of_no_refresh.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                provider = self.settings.name,
                "a sign-in brought no refresh token although offline_access was asked for: renewals cannot ask this \
                 provider about it; many give one with `prompt = \"consent\"` only"
            );
        }
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

    fn names_groups(&self, userinfo: Option<&ClaimSet>) -> bool {
        userinfo.is_some_and(|userinfo| userinfo.has_at(&self.settings.claims.map.groups))
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

    pub(super) async fn oauth2(
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
            groups_at_userinfo: false,
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

/// Who somebody is by now.
pub(in crate::login::oidc) struct Refreshed {
    /// Who they are.
    pub(in crate::login::oidc) identity: Identity,
    /// Whether userinfo named groups.
    pub(in crate::login::oidc) groups_at_userinfo: bool,
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
