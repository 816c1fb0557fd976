//! Which session cookies an answer carries. Must not issue anything: it hands out what the session engine issued, and
//! clears only after a definite refusal.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header};

use super::{Context, IssuedPair};
use crate::auth::decision::{AnonymousReason, RequestKind};
use crate::auth::rotation;

/// What an answer says about the session cookies.
pub(super) enum SessionCookies {
    /// Nothing: the jar stays as it is.
    Untouched,
    /// A new pair.
    Issue(Arc<IssuedPair>),
    /// Both are removed.
    Clear,
    /// What the service of `[external]` said about its cookies when it refused: a deletion, as a rule.
    Service(Arc<[HeaderValue]>),
}

impl SessionCookies {
    /// A session that is definitely over is cleared from the jar, but only by a navigation: its answer leads to the
    /// sign-in page, so it cannot overtake a newer sign-in the way a straggling background request could.
    pub(super) fn or_clear(self, kind: RequestKind, reason: AnonymousReason) -> Self {
        let definite = matches!(
            reason,
            AnonymousReason::RenewalRefused | AnonymousReason::Revoked
        );
        match self.for_kind(kind) {
            // Its own deletion; our names mean nothing there.
            SessionCookies::Service(lines) => SessionCookies::Service(lines),
            _ if definite && kind == RequestKind::Navigation => SessionCookies::Clear,
            other => other,
        }
    }

    /// What the answer to such a request may carry: the deletions of a service follow the same rule.
    pub(super) fn for_kind(self, kind: RequestKind) -> Self {
        match self {
            SessionCookies::Service(_) if kind != RequestKind::Navigation => {
                SessionCookies::Untouched
            }
            other => other,
        }
    }

    /// Writes the `Set-Cookie` lines and makes the answer uncacheable. An answer that leaves later than a third of the
    /// redelivery window after the rotation goes without cookies: it could put a spent token back into the jar.
    pub(super) fn apply(self, context: &Context<'_>, headers: &mut HeaderMap) {
        let names = &context.live.cookie_names;
        let style = &context.live.cookie_style;
        match self {
            SessionCookies::Untouched => return,
            SessionCookies::Clear => {
                headers.append(header::SET_COOKIE, style.delete(&names.access));
                headers.append(header::SET_COOKIE, style.delete(&names.refresh));
            }
            SessionCookies::Service(lines) => {
                for line in lines.iter() {
                    headers.append(header::SET_COOKIE, line.clone());
                }
            }
            SessionCookies::Issue(pair) => {
                let now = context.app.clock.now();
                let window = context.live.redelivery_window;
                if rotation::is_late(pair.generation, pair.issued_at, window, now) {
                    return;
                }
                let access = style.set(
                    &names.access,
                    &pair.access,
                    pair.access_expires_at.since(now),
                );
                let refresh = style.set(
                    &names.refresh,
                    &pair.refresh,
                    pair.refresh_expires_at.since(now),
                );
                // `Sessions::begin` refuses identities whose cookies would not fit; renewals carry the same or fewer
                // claims, and one half of a pair is worse than none.
                let (Ok(access), Ok(refresh)) = (access, refresh) else {
                    tracing::error!(session = %pair.session, "the session's cookies no longer fit a browser; not sent");
                    return;
                };
                headers.append(header::SET_COOKIE, access);
                headers.append(header::SET_COOKIE, refresh);
            }
        }
        never_shared(headers);
    }
}

/// No cache may keep an answer that carries a session cookie, whatever the upstream said.
pub(super) fn never_shared(headers: &mut HeaderMap) {
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("private, no-store"),
    );
    headers.remove(header::EXPIRES);
    headers.remove("surrogate-control");
    headers.remove("cdn-cache-control");
}
