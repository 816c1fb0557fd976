//! Why a sign-in by a provider came to nothing: one list, with what people are told, what operators read, and the word for
//! audit and metrics. Nothing of it holds a code, a token or a secret.

use super::callback::{ProviderError, Refused};
use super::client_auth::RequestError;
use super::id_token::IdTokenError;
use super::person::PersonError;
use super::seal::CannotSeal;
use super::token_answer::TokenRefusal;
use crate::auth::foreign_token::ForeignTokenError;
use crate::login::pages::Trouble;
use crate::outbound::OutboundError;

/// Why nobody was signed in.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The callback itself cannot be used.
    #[error("the callback was refused: {0}")]
    Callback(Refused),
    /// The provider says that it signed nobody in.
    #[error("the provider says {}", Said(.0))]
    Declined(ProviderError),
    /// It does not take the code.
    #[error("the provider does not take the code: {}", Said(.0))]
    Code(ProviderError),
    /// It does not take the gateway for its client: a mistake in the configuration.
    #[error("the provider does not accept this client: {}; check client_id, client_auth and the secret", Said(.0))]
    Client(ProviderError),
    /// It cannot be reached.
    #[error("the provider cannot be reached: {0}")]
    Unreachable(#[from] OutboundError),
    /// It answers that it cannot answer.
    #[error("the provider's {0} endpoint answered with status {1}")]
    Unavailable(&'static str, u16),
    /// Its metadata or keys could not be had; why was logged when they were fetched.
    #[error("the provider's metadata or keys are not there: they could not be fetched")]
    Undiscovered,
    /// Its metadata lacks what a sign-in needs: names it.
    #[error("the provider's metadata has no {0:?}")]
    Metadata(&'static str),
    /// Its answer is none.
    #[error("the answer of the provider's {0} endpoint cannot be used: {1}")]
    Answer(&'static str, &'static str),
    /// The ID token is not genuine, or not for us.
    #[error("the ID token was refused: {0}")]
    Token(#[from] ForeignTokenError),
    /// The ID token is not the answer to this sign-in.
    #[error("the ID token was refused: {0}")]
    IdToken(#[from] IdTokenError),
    /// Userinfo is about somebody else (OpenID Connect Core section 5.3.2).
    #[error("userinfo is about another subject than the ID token")]
    UserinfoSubject,
    /// The account is nobody here.
    #[error("the account was refused: {0}")]
    Person(#[from] PersonError),
    /// The gateway could not make what it needs.
    #[error("a fault of the gateway: {0}")]
    Request(#[from] RequestError),
    /// The gateway could not seal.
    #[error("a fault of the gateway: {0}")]
    Seal(#[from] CannotSeal),
}

/// The error code alone, quoted: a description may repeat the code, the verifier or the refresh token that was sent.
struct Said<'a>(&'a ProviderError);

impl std::fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0.code)
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Refused::Malformed => "a parameter is missing, broken or there twice",
            Refused::UnknownState => "its state is not one of this gateway",
            Refused::Expired => "it was begun too long ago",
            Refused::NotThisBrowser { .. } => {
                "this browser has not begun it, or has used it already"
            }
            Refused::WrongIssuer => "it does not name the issuer that was asked (iss)",
        })
    }
}

impl Failure {
    /// Of a token endpoint.
    pub fn of_tokens(refusal: TokenRefusal) -> Self {
        match refusal {
            TokenRefusal::Refused(error) if refuses_the_client(&error) => Failure::Client(error),
            TokenRefusal::Refused(error) => Failure::Code(error),
            TokenRefusal::Unavailable(status) => Failure::Unavailable("token", status),
            TokenRefusal::Unusable(why) => Failure::Answer("token", why),
        }
    }

    /// What people are told.
    pub fn trouble(&self) -> Trouble {
        match self {
            Failure::Callback(
                Refused::Malformed | Refused::UnknownState | Refused::WrongIssuer,
            ) => Trouble::Malformed,
            Failure::Callback(Refused::Expired) => Trouble::Expired,
            Failure::Callback(Refused::NotThisBrowser { .. }) => Trouble::NotThisBrowser,
            Failure::Declined(error) if is_passing(error) => Trouble::Unreachable,
            Failure::Declined(_) => Trouble::Declined,
            // A code is spent, too old, or another sign-in's.
            Failure::Code(_) => Trouble::NotThisBrowser,
            Failure::Unreachable(_) | Failure::Unavailable(..) | Failure::Undiscovered => {
                Trouble::Unreachable
            }
            Failure::Answer(..)
            | Failure::Token(_)
            | Failure::IdToken(_)
            | Failure::UserinfoSubject => Trouble::Unusable,
            // Nothing that people or the provider said is at fault: the next sign-in will end the same way until an operator acts.
            Failure::Client(_) | Failure::Metadata(_) | Failure::Request(_) | Failure::Seal(_) => {
                Trouble::OutOfOrder
            }
            Failure::Person(PersonError::NotAllowed(_)) => Trouble::NotAllowed,
            Failure::Person(_) => Trouble::Incomplete,
        }
    }

    /// The provider's own words that people may read, escaped.
    pub fn words(&self) -> Option<String> {
        match self {
            Failure::Declined(error) => Some(match &error.description {
                Some(words) => format!("{words} ({})", error.code),
                None => error.code.clone(),
            }),
            _ => None,
        }
    }

    /// Who it was, by the name that they would have had here; known only where `allow` refused them.
    pub fn user(&self) -> Option<&str> {
        match self {
            Failure::Person(PersonError::NotAllowed(refused)) => Some(&refused.user),
            _ => None,
        }
    }

    /// The word for audit and metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Failure::Callback(Refused::Malformed) => "malformed_callback",
            Failure::Callback(Refused::UnknownState) => "unknown_state",
            Failure::Callback(Refused::Expired) => "expired",
            Failure::Callback(Refused::NotThisBrowser { .. }) => "not_this_browser",
            Failure::Callback(Refused::WrongIssuer) => "wrong_issuer",
            Failure::Declined(_) => "declined",
            Failure::Code(_) => "code_refused",
            Failure::Client(_) => "client_refused",
            Failure::Unreachable(_) | Failure::Unavailable(..) | Failure::Undiscovered => {
                "provider_unavailable"
            }
            Failure::Metadata(_) | Failure::Answer(..) | Failure::UserinfoSubject => {
                "answer_unusable"
            }
            Failure::Token(_) | Failure::IdToken(_) => "id_token_refused",
            Failure::Person(PersonError::NotAllowed(_)) => "not_allowed",
            Failure::Person(_) => "account_unusable",
            Failure::Request(_) | Failure::Seal(_) => "gateway_fault",
        }
    }
}

/// What is wrong with the client, not with the grant: by RFC 6749 section 5.2, and in GitHub's own word for it.
pub fn refuses_the_client(error: &ProviderError) -> bool {
    matches!(
        error.code.as_str(),
        "invalid_client" | "unauthorized_client" | "incorrect_client_credentials"
    )
}

/// RFC 6749 section 4.1.2.1: the provider would sign somebody in, but not now.
fn is_passing(error: &ProviderError) -> bool {
    matches!(
        error.code.as_str(),
        "server_error" | "temporarily_unavailable"
    )
}

#[cfg(test)]
mod tests {
    use super::super::person;
    use super::*;

    fn said(code: &str) -> ProviderError {
        ProviderError {
            code: code.to_owned(),
            description: Some("its \"words\"".to_owned()),
        }
    }

    #[test]
    fn each_failure_has_a_page_and_a_word() {
        let check = |failure: Failure, trouble, word| {
            assert_eq!(
                (failure.trouble(), failure.word()),
                (trouble, word),
                "{failure}"
            );
        };
        check(
            Failure::Declined(said("access_denied")),
            Trouble::Declined,
            "declined",
        );
        check(
            Failure::Declined(said("server_error")),
            Trouble::Unreachable,
            "declined",
        );
        let tokens = |code| Failure::of_tokens(TokenRefusal::Refused(said(code)));
        check(
            tokens("invalid_grant"),
            Trouble::NotThisBrowser,
            "code_refused",
        );
        check(
            tokens("invalid_client"),
            Trouble::OutOfOrder,
            "client_refused",
        );
        check(
            Failure::of_tokens(TokenRefusal::Unavailable(503)),
            Trouble::Unreachable,
            "provider_unavailable",
        );
        check(
            Failure::of_tokens(TokenRefusal::Unusable("x")),
            Trouble::Unusable,
            "answer_unusable",
        );
        check(
            Failure::Person(PersonError::NotAllowed(person::Refused {
                user: "bob".to_owned(),
                no_groups: None,
            })),
            Trouble::NotAllowed,
            "not_allowed",
        );
        check(
            Failure::Callback(Refused::WrongIssuer),
            Trouble::Malformed,
            "wrong_issuer",
        );
    }

    #[test]
    fn only_what_a_provider_says_to_people_is_shown_to_them() {
        let declined = Failure::Declined(said("access_denied"));
        assert_eq!(
            declined.words().as_deref(),
            Some("its \"words\" (access_denied)")
        );
        assert_eq!(Failure::Client(said("invalid_client")).words(), None);
    }

    #[test]
    fn p03_what_a_provider_describes_is_in_no_log() {
        let sent = "a-code-or-refresh-token";
        let failures: [fn(ProviderError) -> Failure; 3] =
            [Failure::Declined, Failure::Code, Failure::Client];
        for failure in failures {
            let failure = failure(ProviderError {
                code: "invalid_grant".to_owned(),
                description: Some(format!("{sent} is spent")),
            });
            let logged = failure.to_string();
            assert!(logged.contains(r#""invalid_grant""#), "{logged}");
            assert!(!logged.contains(sent), "{logged}");
        }
    }
}
