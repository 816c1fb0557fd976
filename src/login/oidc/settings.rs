//! What a deployer meant by `[login.oidc.NAME]` and `[login.oauth2.NAME]`. Must not talk to anybody.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use rustls_pki_types::CertificateDer;

use super::client_auth::ClientKey;
use crate::auth::claims::{ClaimMap, ClaimPath};
use crate::units::Secret;

/// A provider that people sign in with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// NAME: in URLs, in the identity, in metrics.
    pub name: String,
    /// What the button says.
    pub display_name: String,
    /// Which protocol it speaks, and where.
    pub kind: Kind,
    /// `client_id`: how the provider knows this gateway.
    pub client_id: String,
    /// How the gateway proves to be that client.
    pub client_auth: ClientAuth,
    /// What is asked for, in the order of the file.
    pub scopes: Vec<String>,
    /// Whom of its people it may bring in.
    pub allow: Allow,
    /// Where in its answers an identity is found.
    pub claims: ClaimPaths,
    /// Whether its e-mail addresses count as verified although it does not say so.
    pub trust_email: bool,
    /// `prompt` of OpenID Connect Core section 3.1.2.1. With `offline_access` it wants `consent` (section 11).
    pub prompt: Option<String>,
    /// `max_age` of the same section: how long ago somebody may have signed in at the provider.
    pub max_age: Option<Duration>,
    /// Further parameters of the authorization request. They come from the configuration alone.
    pub extra: Vec<(String, String)>,
    /// A renewal asks the provider when the last answer is older than this.
    pub provider_check: Duration,
    /// How much older the last answer may become while the provider cannot be asked.
    pub provider_grace: Duration,
    /// Where people go after the provider has signed them out.
    pub logout_return: Option<String>,
    /// Authorities that may sign its certificates, beside the system's.
    pub ca: Vec<CertificateDer<'static>>,
    /// The groups that a session keeps: those that something here can ask for. `None`: all.
    pub useful_groups: Option<BTreeSet<String>>,
}

impl Settings {
    /// Whether this is who calls itself so; an OAuth 2 service is known by the address of its token endpoint.
    pub fn is_issuer(&self, issuer: &str) -> bool {
        match &self.kind {
            Kind::OpenId { issuer: ours } => ours == issuer,
            Kind::OAuth2(endpoints) => endpoints.token == issuer,
        }
    }

    /// Whether its scopes ask for a refresh token (OpenID Connect Core section 11).
    pub fn asks_for_refresh(&self) -> bool {
        self.scopes.iter().any(|scope| scope == "offline_access")
    }
}

/// Which protocol a provider speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// OpenID Connect; everything else is discovered.
    OpenId {
        /// Exactly as the provider writes it.
        issuer: String,
    },
    /// OAuth 2 and an endpoint that says who the token belongs to.
    OAuth2(Endpoints),
}

/// Where an OAuth 2 service is; nothing of it can be discovered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// Where browsers are sent.
    pub authorize: String,
    /// Where codes become tokens.
    pub token: String,
    /// Who a token belongs to: JSON.
    pub userinfo: String,
    /// Their e-mail addresses: a JSON list of `email`, `primary`, `verified`, as GitHub gives it.
    pub emails: Option<String>,
}

/// How the gateway proves to be the client (OpenID Connect Core section 9).
#[derive(Clone)]
pub enum ClientAuth {
    /// `client_secret_basic`.
    SecretBasic(Secret),
    /// `client_secret_post`.
    SecretPost(Secret),
    /// `private_key_jwt` (RFC 7523).
    PrivateKeyJwt(ClientKey),
    /// A public client: PKCE alone.
    None,
}

impl fmt::Debug for ClientAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ClientAuth::SecretBasic(_) => "SecretBasic",
            ClientAuth::SecretPost(_) => "SecretPost",
            ClientAuth::PrivateKeyJwt(_) => "PrivateKeyJwt",
            ClientAuth::None => "None",
        })
    }
}

/// Whom a provider may bring in; empty lists say nothing. Everybody, when all are empty; else whoever matches any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allow {
    /// Domains of verified e-mail addresses, lower case; subdomains are other domains.
    pub email_domains: Vec<String>,
    /// Members of these groups.
    pub groups: Vec<String>,
    /// These users, by the user of their identity.
    pub users: Vec<String>,
    /// These verified e-mail addresses, whatever the case.
    pub emails: Vec<String>,
}

/// Where in a provider's answers an identity is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimPaths {
    /// What never changes and is never given to somebody else; of an OpenID provider always `sub`.
    pub subject: ClaimPath,
    /// Whether the e-mail address is verified.
    pub email_verified: ClaimPath,
    /// The parts of the identity.
    pub map: ClaimMap,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An OpenID provider called `corp`.
    pub(crate) fn openid() -> Settings {
        Settings {
            name: "corp".to_owned(),
            display_name: "Corp".to_owned(),
            kind: Kind::OpenId {
                issuer: "https://id.example.com".to_owned(),
            },
            client_id: "vestibule".to_owned(),
            client_auth: ClientAuth::SecretBasic(Secret::new(*b"s3cret")),
            scopes: vec!["openid".to_owned(), "email".to_owned()],
            allow: Allow::default(),
            claims: ClaimPaths {
                subject: ClaimPath::parse("sub").unwrap(),
                email_verified: ClaimPath::parse("email_verified").unwrap(),
                map: ClaimMap {
                    trust_email: true,
                    ..ClaimMap::default()
                },
            },
            trust_email: false,
            prompt: None,
            max_age: None,
            extra: Vec::new(),
            provider_check: Duration::from_secs(900),
            provider_grace: Duration::from_secs(86_400),
            logout_return: None,
            ca: Vec::new(),
            useful_groups: None,
        }
    }

    /// An OAuth 2 service called `hub`.
    pub(crate) fn oauth2() -> Settings {
        Settings {
            name: "hub".to_owned(),
            kind: Kind::OAuth2(Endpoints {
                authorize: "https://hub.example.com/authorize".to_owned(),
                token: "https://hub.example.com/token".to_owned(),
                userinfo: "https://api.hub.example.com/user".to_owned(),
                emails: None,
            }),
            claims: ClaimPaths {
                subject: ClaimPath::parse("id").unwrap(),
                map: ClaimMap {
                    user: ClaimPath::parse("id").unwrap(),
                    ..ClaimMap::default()
                },
                ..openid().claims
            },
            ..openid()
        }
    }

    #[test]
    fn a_secret_is_never_printed() {
        assert!(!format!("{:?}", openid()).contains("s3cret"));
    }
}
