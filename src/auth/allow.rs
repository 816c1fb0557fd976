//! Whom of the signed-in a route admits: names of people and of groups, and whose names they are.
//!
//! Pure. A name means something at the provider that gave it: `alice` of one provider is not `alice` of another, and neither
//! is a group. Must not decide who somebody is, or what happens to whoever is not admitted.

use std::fmt;

use crate::auth::{Identity, Subject};

/// Whom of the signed-in a route admits; all lists empty = everybody. Of groups, users and e-mail addresses any one match
/// suffices; scopes limit bearer tokens beyond that, and let nobody in who has none to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allow {
    /// Members of any of these groups.
    pub groups: Vec<Name>,
    /// These users.
    pub users: Vec<Name>,
    /// These e-mail addresses (compared without ASCII case: folding more would make two mailboxes one).
    pub emails: Vec<String>,
    /// A bearer token must have one of these (RFC 6749 section 3.3, compared exactly).
    pub scopes: Vec<String>,
}

/// The name of a user or of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// Whose name it is, as identities call their provider; `None`: whoever has it, whichever way they signed in.
    pub provider: Option<String>,
    /// The name there, compared exactly.
    pub name: String,
}

impl Name {
    fn is(&self, name: &str, provider: &str) -> bool {
        self.name == name && self.provider.as_deref().is_none_or(|own| own == provider)
    }
}

/// As it is written in the configuration.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(provider) = &self.provider {
            write!(f, "{provider}:")?;
        }
        f.write_str(&self.name)
    }
}

/// Whether a route admits somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Yes.
    Admitted,
    /// No.
    NotAdmitted,
    /// It would, had the bearer token one of the route's scopes.
    InsufficientScope,
}

impl Allow {
    /// Whether somebody is admitted. A token's scopes say what its bearer may do in somebody's name, so they come on top of
    /// who that is; a person's session has none, and is admitted by who it is alone.
    pub fn judge(&self, subject: &Subject) -> Admission {
        let missed = self.names_people() && !self.admits(subject.identity());
        match subject.scopes() {
            _ if missed => Admission::NotAdmitted,
            None if self.scopes_alone().is_some() => Admission::NotAdmitted,
            Some(scopes) if !self.scopes.is_empty() && !self.shares(scopes) => {
                Admission::InsufficientScope
            }
            _ => Admission::Admitted,
        }
    }

    /// The scopes, where nobody is named beside them: no session is admitted then.
    pub fn scopes_alone(&self) -> Option<&[String]> {
        (!self.scopes.is_empty() && !self.names_people()).then_some(&self.scopes)
    }

    fn shares(&self, scopes: &[String]) -> bool {
        scopes.iter().any(|scope| self.scopes.contains(scope))
    }

    fn names_people(&self) -> bool {
        !(self.groups.is_empty() && self.users.is_empty() && self.emails.is_empty())
    }

    /// Whether this identity is one of those that are named.
    fn admits(&self, identity: &Identity) -> bool {
        let provider = identity.provider.as_str();
        let email = identity.email.as_deref();
        let named = |names: &[Name], name: &str| names.iter().any(|one| one.is(name, provider));
        named(&self.users, &identity.user)
            || identity
                .groups
                .iter()
                .any(|group| named(&self.groups, group))
            || self
                .emails
                .iter()
                .any(|allowed| email.is_some_and(|email| email.eq_ignore_ascii_case(allowed)))
    }
}

/// In one line for people, to go behind the rest of a rule; nothing where everybody is admitted.
impl fmt::Display for Allow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_list(f, "groups", &self.groups)?;
        write_list(f, "users", &self.users)?;
        write_list(f, "emails", &self.emails)?;
        write_list(f, "scopes", &self.scopes)
    }
}

fn write_list(f: &mut fmt::Formatter<'_>, word: &str, names: &[impl fmt::Display]) -> fmt::Result {
    for (index, name) in names.iter().enumerate() {
        match index {
            0 => write!(f, ", {word} {name}")?,
            _ => write!(f, " or {name}")?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::AccessClaims;
    use crate::auth::subject::{ForeignProof, Proof};
    use crate::auth::test_support::{NOW, alice, claims};

    fn list(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    /// `NAME`, or `PROVIDER:NAME`.
    fn names(words: &[&str]) -> Vec<Name> {
        let name = |word: &&str| match word.split_once(':') {
            Some((provider, name)) => Name {
                provider: Some(provider.to_owned()),
                name: name.to_owned(),
            },
            None => Name {
                provider: None,
                name: (*word).to_owned(),
            },
        };
        words.iter().map(name).collect()
    }

    fn by_session(identity: Identity) -> Subject {
        Subject::new(AccessClaims {
            identity,
            ..claims()
        })
    }

    fn by_token(identity: Identity, scopes: &[&str]) -> Subject {
        Subject::of(Proof::Bearer(ForeignProof {
            identity,
            scopes: list(scopes),
            expires_at: NOW,
        }))
    }

    #[test]
    fn any_one_match_admits() {
        let check = |groups: &[&str], users: &[&str], emails: &[&str], want: bool| {
            let allow = Allow {
                groups: names(groups),
                users: names(users),
                emails: list(emails),
                scopes: Vec::new(),
            };
            for subject in [by_session(alice()), by_token(alice(), &["any"])] {
                let admitted = allow.judge(&subject) == Admission::Admitted;
                assert_eq!(admitted, want, "{allow:?}");
            }
        };
        check(&[], &[], &[], true);
        check(&["staff"], &[], &[], true);
        check(&["Staff"], &[], &[], false);
        check(&["admins"], &["alice"], &[], true);
        check(&["admins"], &["Alice"], &[], false);
        check(&[], &[], &["ALICE@example.com"], true);
        check(&[], &[], &["alice@example.org"], false);
        let nameless = Identity {
            email: None,
            groups: Vec::new(),
            ..alice()
        };
        let allow = Allow {
            emails: vec![String::new()],
            ..Allow::default()
        };
        assert_eq!(allow.judge(&by_session(nameless)), Admission::NotAdmitted);
    }

    #[test]
    fn scopes_limit_tokens_and_let_no_session_in_by_themselves() {
        use Admission::{Admitted, InsufficientScope, NotAdmitted};
        let check = |groups: &[&str], scopes: &[&str], brings: &[&str], token, session| {
            let allow = Allow {
                groups: names(groups),
                scopes: list(scopes),
                ..Allow::default()
            };
            assert_eq!(allow.judge(&by_token(alice(), brings)), token, "{allow:?}");
            assert_eq!(allow.judge(&by_session(alice())), session, "{allow:?}");
        };
        check(&[], &[], &[], Admitted, Admitted);
        check(&[], &["read"], &["read"], Admitted, NotAdmitted);
        check(
            &[],
            &["read", "write"],
            &["x", "write"],
            Admitted,
            NotAdmitted,
        );
        check(
            &[],
            &["read"],
            &["Read", "reads"],
            InsufficientScope,
            NotAdmitted,
        );
        check(&[], &["read"], &[], InsufficientScope, NotAdmitted);
        // A token of somebody in the group still needs the scope; a session of the same person does not.
        check(&["staff"], &["read"], &["read"], Admitted, Admitted);
        check(&["staff"], &["read"], &["x"], InsufficientScope, Admitted);
        // The scope makes nobody a member.
        check(&["admins"], &["read"], &["read"], NotAdmitted, NotAdmitted);
    }
    #[test]
    fn a_name_of_one_provider_is_nobodys_of_another() {
        let check = |groups: &[&str], users: &[&str], local: bool, corp: bool| {
            let allow = Allow {
                groups: names(groups),
                users: names(users),
                ..Allow::default()
            };
            for (provider, want) in [("local", local), ("corp", corp)] {
                let identity = Identity {
                    provider: provider.to_owned(),
                    ..alice()
                };
                for subject in [by_session(identity.clone()), by_token(identity, &[])] {
                    let admitted = allow.judge(&subject) == Admission::Admitted;
                    assert_eq!(admitted, want, "{allow:?} {provider}");
                }
            }
        };
        check(&[], &["alice"], true, true);
        check(&[], &["corp:alice"], false, true);
        check(&[], &["local:alice"], true, false);
        check(&[], &["corp:alice", "local:alice"], true, true);
        check(
            &[],
            &["other:alice", "corp:bob", "Corp:alice"],
            false,
            false,
        );
        check(&["staff"], &[], true, true);
        check(&["corp:staff"], &[], false, true);
        check(&["local:dev", "corp:admins"], &[], true, false);
        // Any one match suffices, as ever.
        check(&["corp:staff"], &["local:alice"], true, true);
        check(&["corp:staff"], &["alice"], true, true);
    }

    #[test]
    fn a_rule_reads_as_it_is_written() {
        let allow = Allow {
            groups: names(&["staff", "corp:dev"]),
            users: names(&["local:ana"]),
            emails: list(&["bo@example.com"]),
            scopes: list(&["read"]),
        };
        assert_eq!(
            allow.to_string(),
            ", groups staff or corp:dev, users local:ana, emails bo@example.com, scopes read"
        );
        assert_eq!(Allow::default().to_string(), "");
    }
}
