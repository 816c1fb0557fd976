//! The audit stream: who signed in, what was refused, what ended and why. One line per event, never filtered, dropped last.
//!
//! No event has a field that a token, cookie, code or password would fit into: only names, addresses, ids, numbers and words
//! of the gateway.

use std::net::IpAddr;
use std::sync::Arc;

use crate::auth::{ClientAddr, Generation, SessionId};
use crate::clock::{Clock, Timestamp};
use crate::observe::Format;
use crate::observe::line::Line;
use crate::observe::metrics::Stream;
use crate::observe::writer::Lines;

/// The request that an event belongs to, when it belongs to one (a revocation by command does not).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cause<'a> {
    /// Where it came from.
    pub client: Option<ClientAddr>,
    /// Its id, as in the access line.
    pub request_id: Option<&'a str>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuditEvent<'a> {
    /// Somebody signed in.
    SignIn {
        /// Who.
        user: &'a str,
        /// By which provider.
        provider: &'a str,
        /// The new session.
        session: SessionId,
    },
    /// A sign-in was refused.
    SignInRefused {
        /// The account that was tried, or whom a provider named; `None` when there is none of that name, which may have been
        /// a password, and when nobody was named.
        user: Option<&'a str>,
        /// By which provider.
        provider: &'a str,
        /// Why: a word of the gateway.
        reason: &'static str,
    },
    /// Somebody signed out.
    SignedOut {
        /// Who, when known.
        user: Option<&'a str>,
        /// The ended session.
        session: SessionId,
    },
    /// A provider's server sent a logout token that was refused; no session ended.
    LogoutRefused {
        /// Which provider was named.
        provider: &'a str,
        /// Why: words of the gateway.
        reason: &'a str,
    },
    /// A renewal was refused.
    RotationRefused {
        /// Whose, when known.
        user: Option<&'a str>,
        /// Which session.
        session: SessionId,
        /// Why: a word of the gateway.
        reason: &'static str,
    },
    /// A renewal by the service of `[external]` came to a sign-in anew.
    ExternalRefused {
        /// Why: a word of the gateway.
        reason: &'static str,
    },
    /// A spent refresh token was presented again: two parties hold the session, and it was revoked.
    Replay {
        /// Whose.
        user: &'a str,
        /// The provider that knows them.
        provider: &'a str,
        /// Which session.
        session: SessionId,
        /// The generation presented.
        generation: Generation,
    },
    /// Sessions were ended before their time.
    Revoked {
        /// Whose, unless all.
        user: Option<&'a str>,
        /// Which session, unless several.
        session: Option<SessionId>,
        /// How many that were live.
        sessions: usize,
        /// Why: a word of the gateway.
        reason: &'static str,
        /// At whose request: a word of the gateway, perhaps with the id of a session.
        by: &'a str,
    },
    /// A new signing key is in use.
    KeyRotated {
        /// Its id, which is public.
        key: &'a str,
        /// At whose request: a word of the gateway.
        by: &'a str,
    },
    /// The wall clock was stepped, or the gateway's time set back because of it.
    ClockStepped {
        /// `forward`, `backward` or `set_back`.
        change: &'static str,
        /// By how much.
        milliseconds: u64,
    },
    /// A configuration came into force.
    ConfigurationLoaded {
        /// From which file.
        file: &'a str,
    },
    /// A local account was made, changed or removed.
    AccountChanged {
        /// Which, as its name was first written.
        user: &'a str,
        /// How: `added`, `changed`, `password`, `blocked`, `unblocked`, `removed`.
        change: &'static str,
        /// Which parts are others now, by name; what they hold is not told.
        fields: &'a [&'static str],
        /// The groups that it is in since.
        groups_added: &'a [String],
        /// The groups that it was in before.
        groups_removed: &'a [String],
        /// By whom: a word of the gateway.
        by: &'a str,
    },
    /// The whole store was read out for a backup, by command.
    StoreBackup,
    /// A cookie of ours came twice with different values: somebody on a sibling domain may be planting one.
    CookieConflict,
}

/// Writes audit lines. One per process; clones share the writer.
#[derive(Clone)]
pub struct Audit {
    lines: Arc<Lines>,
    format: Format,
    clock: Clock,
}

impl Audit {
    /// Over the process's writer.
    pub fn new(lines: Arc<Lines>, format: Format, clock: Clock) -> Self {
        Audit {
            lines,
            format,
            clock,
        }
    }

    /// Writes one event that no request caused.
    pub fn record(&self, event: &AuditEvent<'_>) {
        self.record_for(event, Cause::default());
    }

    /// Writes one event and the request that caused it.
    pub fn record_for(&self, event: &AuditEvent<'_>, cause: Cause<'_>) {
        let mut buffer = Vec::with_capacity(256);
        append(&mut buffer, self.format, self.clock.now(), event, cause);
        self.lines.push(Stream::Audit, &buffer);
    }
}

fn append(
    buffer: &mut Vec<u8>,
    format: Format,
    time: Timestamp,
    event: &AuditEvent<'_>,
    cause: Cause<'_>,
) {
    let mut line = Line::begin(buffer, format, time, "audit");
    match event {
        AuditEvent::SignIn {
            user,
            provider,
            session,
        } => {
            line.text("event", "sign_in")
                .text("user", user)
                .text("provider", provider)
                .display("session", session);
        }
        AuditEvent::SignInRefused {
            user,
            provider,
            reason,
        } => {
            line.text("event", "sign_in_refused")
                .maybe("user", *user)
                .text("provider", provider)
                .text("reason", reason);
        }
        AuditEvent::SignedOut { user, session } => {
            line.text("event", "signed_out")
                .maybe("user", *user)
                .display("session", session);
        }
        AuditEvent::LogoutRefused { provider, reason } => {
            line.text("event", "logout_refused")
                .text("provider", provider)
                .text("reason", reason);
        }
        AuditEvent::RotationRefused {
            user,
            session,
            reason,
        } => {
            line.text("event", "rotation_refused")
                .maybe("user", *user)
                .display("session", session)
                .text("reason", reason);
        }
        AuditEvent::ExternalRefused { reason } => {
            line.text("event", "external_refused")
                .text("reason", reason);
        }
        AuditEvent::Replay {
            user,
            provider,
            session,
            generation,
        } => {
            line.text("event", "replay")
                .text("user", user)
                .text("provider", provider)
                .display("session", session)
                .number("generation", u64::from(generation.0));
        }
        AuditEvent::Revoked {
            user,
            session,
            sessions,
            reason,
            by,
        } => {
            line.text("event", "revoked").maybe("user", *user);
            if let Some(session) = session {
                line.display("session", session);
            }
            line.number("sessions", u64::try_from(*sessions).unwrap_or(u64::MAX))
                .text("reason", reason)
                .text("by", by);
        }
        AuditEvent::KeyRotated { key, by } => {
            line.text("event", "key_rotated")
                .text("key", key)
                .text("by", by);
        }
        AuditEvent::ClockStepped {
            change,
            milliseconds,
        } => {
            line.text("event", "clock_stepped")
                .text("change", change)
                .number("milliseconds", *milliseconds);
        }
        AuditEvent::ConfigurationLoaded { file } => {
            line.text("event", "configuration_loaded")
                .text("file", file);
        }
        AuditEvent::AccountChanged {
            user,
            change,
            fields,
            groups_added,
            groups_removed,
            by,
        } => {
            // No group has a comma in it.
            let list = |words: String| (!words.is_empty()).then_some(words);
            line.text("event", "account_changed")
                .text("user", user)
                .text("change", change)
                .maybe("fields", list(fields.join(",")).as_deref())
                .maybe("groups_added", list(groups_added.join(",")).as_deref())
                .maybe("groups_removed", list(groups_removed.join(",")).as_deref())
                .text("by", by);
        }
        AuditEvent::StoreBackup => {
            line.text("event", "store_backup");
        }
        AuditEvent::CookieConflict => {
            line.text("event", "cookie_conflict");
        }
    }
    if let Some(ClientAddr(addr)) = cause.client {
        let addr: IpAddr = addr;
        line.display("client", addr);
    }
    line.maybe("request_id", cause.request_id);
    line.end();
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn written(event: &AuditEvent<'_>, cause: Cause<'_>) -> String {
        let mut buffer = Vec::new();
        append(&mut buffer, Format::Json, Timestamp::EPOCH, event, cause);
        String::from_utf8(buffer).unwrap()
    }

    #[test]
    fn an_event_says_who_what_and_from_where() {
        let line = written(
            &AuditEvent::SignIn {
                user: "alice",
                provider: "local",
                session: SessionId::from_bytes([0; 16]),
            },
            Cause {
                client: Some(ClientAddr(IpAddr::V4(Ipv4Addr::LOCALHOST))),
                request_id: Some("r1"),
            },
        );
        assert_eq!(
            line,
            "{\"timestamp\":\"1970-01-01T00:00:00.000Z\",\"target\":\"audit\",\"event\":\"sign_in\",\"user\":\"alice\",\
             \"provider\":\"local\",\"session\":\"AAAAAAAAAAAAAAAAAAAAAA\",\"client\":\"127.0.0.1\",\"request_id\":\"r1\"}\n"
        );
    }

    #[test]
    fn a_forged_name_cannot_begin_a_line_of_its_own() {
        let line = written(
            &AuditEvent::SignInRefused {
                user: Some("x\"}\n{\"target\":\"audit\",\"event\":\"sign_in\",\"user\":\"admin"),
                provider: "local",
                reason: "wrong",
            },
            Cause::default(),
        );
        assert_eq!(line.matches('\n').count(), 1);
        let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(parsed["event"], "sign_in_refused");
    }

    #[test]
    fn each_kind_of_event_is_valid_json_with_its_name() {
        let session = SessionId::from_bytes([1; 16]);
        let events = [
            (
                "signed_out",
                AuditEvent::SignedOut {
                    user: None,
                    session,
                },
            ),
            (
                "logout_refused",
                AuditEvent::LogoutRefused {
                    provider: "corp",
                    reason: "the token was used before",
                },
            ),
            (
                "rotation_refused",
                AuditEvent::RotationRefused {
                    user: Some("a"),
                    session,
                    reason: "expired",
                },
            ),
            (
                "external_refused",
                AuditEvent::ExternalRefused { reason: "refused" },
            ),
            (
                "replay",
                AuditEvent::Replay {
                    user: "a",
                    provider: "local",
                    session,
                    generation: Generation(3),
                },
            ),
            (
                "revoked",
                AuditEvent::Revoked {
                    user: None,
                    session: None,
                    sessions: 2,
                    reason: "revoked",
                    by: "command line",
                },
            ),
            (
                "key_rotated",
                AuditEvent::KeyRotated {
                    key: "k1",
                    by: "command line",
                },
            ),
            (
                "clock_stepped",
                AuditEvent::ClockStepped {
                    change: "forward",
                    milliseconds: 3_600_000,
                },
            ),
            (
                "configuration_loaded",
                AuditEvent::ConfigurationLoaded {
                    file: "gateway.toml",
                },
            ),
            (
                "account_changed",
                AuditEvent::AccountChanged {
                    user: "a",
                    change: "added",
                    fields: &[],
                    groups_added: &[],
                    groups_removed: &[],
                    by: "command line",
                },
            ),
            ("cookie_conflict", AuditEvent::CookieConflict),
        ];
        for (name, event) in events {
            let parsed: serde_json::Value =
                serde_json::from_str(&written(&event, Cause::default())).unwrap();
            assert_eq!(parsed["event"], name);
            assert_eq!(parsed["target"], "audit");
        }
    }
}
