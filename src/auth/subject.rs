//! A verified identity on its way through the gateway, and by what it was proven: a session of ours, a bearer token, or an
//! access token of the service that signs people in in our place.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::auth::{AccessClaims, Identity, SessionId};
use crate::clock::Timestamp;

/// What was verified; shared by every request that carries the same token.
pub struct Subject {
    proof: Proof,
    memo: OnceLock<Arc<dyn Any + Send + Sync>>,
}

/// By what an identity was proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// An access token of ours: there is a session, which can be renewed and ended.
    Session(AccessClaims),
    /// `Authorization: Bearer` of a configured issuer: no session; over when the token is.
    Bearer(ForeignProof),
    /// The access cookie of the service of `[external]`: no session of ours; that service renews and ends.
    External(ForeignProof),
}

/// What a verified token of somebody else says that outlives its check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignProof {
    /// Who.
    pub identity: Identity,
    /// What the token may be used for (RFC 6749 section 3.3), each once.
    pub scopes: Vec<String>,
    /// From when it counts as expired, leeway included.
    pub expires_at: Timestamp,
}

impl Subject {
    /// From an access token of ours.
    pub fn new(claims: AccessClaims) -> Self {
        Self::of(Proof::Session(claims))
    }

    /// From whatever proved it.
    pub fn of(proof: Proof) -> Self {
        Subject {
            proof,
            memo: OnceLock::new(),
        }
    }

    /// By what it was proven.
    pub fn proof(&self) -> &Proof {
        &self.proof
    }

    /// Who.
    pub fn identity(&self) -> &Identity {
        match &self.proof {
            Proof::Session(claims) => &claims.identity,
            Proof::Bearer(proof) | Proof::External(proof) => &proof.identity,
        }
    }

    /// The claims of our own access token, where there is one.
    pub fn access_claims(&self) -> Option<&AccessClaims> {
        match &self.proof {
            Proof::Session(claims) => Some(claims),
            Proof::Bearer(_) | Proof::External(_) => None,
        }
    }

    /// The session, where there is one.
    pub fn session(&self) -> Option<SessionId> {
        self.access_claims().map(|claims| claims.session)
    }

    /// From when this proof no longer counts. A session outlives it, for it can be renewed.
    pub fn expires_at(&self) -> Timestamp {
        match &self.proof {
            Proof::Session(claims) => claims.expires_at,
            Proof::Bearer(proof) | Proof::External(proof) => proof.expires_at,
        }
    }

    /// The scopes of a bearer token; `None` for what a person's browser brings, which no scope limits.
    pub fn scopes(&self) -> Option<&[String]> {
        match &self.proof {
            Proof::Bearer(proof) => Some(&proof.scopes),
            Proof::Session(_) | Proof::External(_) => None,
        }
    }

    /// Whether a browser sends the proof by itself, so that another site can make it do so.
    pub fn travels_by_cookie(&self) -> bool {
        !matches!(self.proof, Proof::Bearer(_))
    }

    /// A slot in which the engine that writes identity headers keeps what it derived from this identity, so that it is
    /// derived once per token and not once per request. The first caller's type wins; others get `None`.
    pub fn memo<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Option<&T> {
        self.memo.get_or_init(|| Arc::new(make())).downcast_ref()
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject")
            .field("proof", &self.proof)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::test_support::{NOW, alice, claims};

    #[test]
    fn only_a_session_can_be_named_and_only_a_bearer_token_has_scopes() {
        let proof = ForeignProof {
            identity: alice(),
            scopes: vec!["read".to_owned()],
            expires_at: NOW,
        };
        let session = Subject::new(claims());
        let bearer = Subject::of(Proof::Bearer(proof.clone()));
        let external = Subject::of(Proof::External(proof));
        assert_eq!(session.session(), Some(claims().session));
        assert_eq!(session.expires_at(), claims().expires_at);
        assert_eq!(
            (session.scopes(), session.travels_by_cookie()),
            (None, true)
        );
        assert_eq!((bearer.session(), bearer.expires_at()), (None, NOW));
        assert_eq!(bearer.scopes(), Some(&["read".to_owned()][..]));
        assert!(!bearer.travels_by_cookie());
        assert_eq!((external.session(), external.scopes()), (None, None));
        assert!(external.travels_by_cookie());
        for subject in [session, bearer, external] {
            assert_eq!(subject.identity(), &alice());
        }
    }
}
