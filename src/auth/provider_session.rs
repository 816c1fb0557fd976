//! What a session keeps of the provider that its person signed in at, and when that provider is to be asked again.
//!
//! Pure: the engine asks [`due`] inside its compare-and-set. Tokens of the provider are kept sealed; nothing in here can
//! open them.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// A session's part that concerns its provider. What the provider calls the session and its person never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderSession {
    /// The provider's identifier (`iss`), for a provider may be configured anew under the same name.
    pub issuer: String,
    /// Who the person is there (`sub`).
    pub subject: String,
    /// What the provider calls its own session (`sid`, OpenID Connect Front-Channel Logout 1.0 section 3), if it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The provider's refresh token; without one the provider is never asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<Sealed>,
    /// The newest ID token, as `id_token_hint` of a logout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id_token: Option<Sealed>,
    /// Whether userinfo has named groups of the person: then they are in none when it names none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub groups_at_userinfo: bool,
    /// When the provider last said that all is well.
    pub checked_at: Timestamp,
    /// Who is asking it now, or until when nobody is to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asking: Option<Asking>,
}

impl ProviderSession {
    /// The part without what only the session's own renewal and logout need: lists of many sessions carry no tokens.
    pub fn without_tokens(self) -> Self {
        ProviderSession {
            refresh_token: None,
            id_token: None,
            ..self
        }
    }

    /// The names under which the provider can speak of this session.
    pub fn names(&self) -> impl Iterator<Item = ProviderName<'_>> {
        let session = self.session.as_deref().map(ProviderName::Session);
        std::iter::once(ProviderName::Subject(&self.subject)).chain(session)
    }
}

/// How a provider names what it wants ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProviderName<'a> {
    /// All sessions of a person (`sub`).
    Subject(&'a str),
    /// What began with one sign-in there (`sid`).
    Session(&'a str),
}

/// Sealed text, as it lies in a record: base64url, different each time even for the same content.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(pub String);

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

/// A lease on asking the provider: one call among all nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asking {
    /// A random number of the call; `None`: nobody is asking, the provider is only left alone for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<u64>,
    /// When the lease is over.
    pub until: Timestamp,
}

impl Asking {
    /// A call may take this long (the engine gives it up before), with room for clocks that differ.
    pub const LEASE: Duration = Duration::from_secs(90);
    /// For so much longer nobody asks in the background: the caller may have an answer that the store could not take yet,
    /// and the provider may have replaced the refresh token that the record still shows.
    pub const UNSAVED: Duration = Duration::from_secs(600);
    /// The longest time for which a provider is left alone after it gave no answer.
    pub const LONGEST_PAUSE: Duration = Duration::from_secs(60);

    /// Whether it keeps others from asking. One that reaches further into the future than any is made was written by a clock
    /// that stood wrong.
    fn holds(&self, spare: Duration, now: Timestamp) -> bool {
        now < self.until.plus(spare) && self.until.since(now) <= Self::LEASE
    }
}

/// How often a provider is asked (`provider_check`, `provider_grace`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckTimes {
    /// A check is good for so long.
    pub check: Duration,
    /// And for so much longer as long as the provider cannot be reached.
    pub grace: Duration,
}

impl Default for CheckTimes {
    fn default() -> Self {
        CheckTimes {
            check: Duration::from_secs(15 * 60),
            grace: Duration::from_secs(24 * 3600),
        }
    }
}

/// What a renewal has to do about the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing: the last check is young, somebody is asking, or there is nothing to ask with.
    Nothing,
    /// Ask, but go on without the answer.
    Background,
    /// No renewal without an answer: ask.
    Foreground,
    /// No renewal without an answer, and somebody is asking already.
    Awaited,
    /// No renewal without an answer, and the provider gave none a moment ago: it is left alone until then.
    Paused(Timestamp),
}

/// Whether a renewal at `now` is to ask the provider. Both times include their last millisecond; a clock that went backwards
/// counts as "no time has passed".
pub fn due(session: &ProviderSession, times: &CheckTimes, now: Timestamp) -> Due {
    if session.refresh_token.is_none() {
        return Due::Nothing;
    }
    let age = now.since(session.checked_at);
    if age <= times.check {
        return Due::Nothing;
    }
    let asking = session.asking.as_ref();
    if age <= times.check.saturating_add(times.grace) {
        let held = asking.is_some_and(|asking| {
            let spare = match asking.by {
                Some(_) => Asking::UNSAVED,
                None => Duration::ZERO,
            };
            asking.holds(spare, now)
        });
        return match held {
            true => Due::Nothing,
            false => Due::Background,
        };
    }
    match asking.filter(|asking| asking.holds(Duration::ZERO, now)) {
        Some(Asking { by: Some(_), .. }) => Due::Awaited,
        Some(Asking { by: None, until }) => Due::Paused(*until),
        None => Due::Foreground,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHECKED: Timestamp = Timestamp::from_secs(1_700_000_000);
    const TIMES: CheckTimes = CheckTimes {
        check: Duration::from_secs(900),
        grace: Duration::from_secs(3600),
    };

    fn session(asking: Option<Asking>) -> ProviderSession {
        ProviderSession {
            issuer: "https://id.example.com".to_owned(),
            subject: "1234".to_owned(),
            session: None,
            refresh_token: Some(Sealed("sealed".to_owned())),
            id_token: None,
            groups_at_userinfo: false,
            checked_at: CHECKED,
            asking,
        }
    }

    fn after(millis: i64) -> Timestamp {
        Timestamp::from_millis(CHECKED.as_millis() + millis)
    }

    fn asked(asking: Option<Asking>, now: Timestamp) -> Due {
        due(&session(asking), &TIMES, now)
    }

    const CHECK_ENDS: i64 = 900_000;
    const GRACE_ENDS: i64 = 4_500_000;

    #[test]
    fn the_last_check_is_good_for_its_time_then_in_the_background_then_no_longer() {
        let check = |millis, expected| assert_eq!(asked(None, after(millis)), expected, "{millis}");
        check(-5_000_000, Due::Nothing);
        check(0, Due::Nothing);
        check(CHECK_ENDS, Due::Nothing);
        check(CHECK_ENDS + 1, Due::Background);
        check(GRACE_ENDS, Due::Background);
        check(GRACE_ENDS + 1, Due::Foreground);
    }

    #[test]
    fn without_a_refresh_token_nobody_is_ever_asked() {
        let session = ProviderSession {
            refresh_token: None,
            ..session(None)
        };
        for millis in [0, CHECK_ENDS + 1, GRACE_ENDS + 1, i64::from(i32::MAX)] {
            assert_eq!(due(&session, &TIMES, after(millis)), Due::Nothing);
        }
    }

    #[test]
    fn one_call_at_a_time_until_its_lease_is_over() {
        let background = after(CHECK_ENDS + 1000);
        let foreground = after(GRACE_ENDS + 1000);
        let lease = |by, until: Timestamp| Some(Asking { by, until });
        let (ms, lease_ms) = (Duration::from_millis(1), Asking::LEASE);
        let check = |asking, now, expected| assert_eq!(asked(asking, now), expected, "{asking:?}");

        // Somebody is asking.
        let mine = |now: Timestamp| lease(Some(7), now.plus(lease_ms));
        check(mine(background), background, Due::Nothing);
        check(mine(foreground), foreground, Due::Awaited);
        // The lease is over: at once where a request waits, after a while where none does.
        let over = |now: Timestamp| lease(Some(7), now);
        check(over(foreground), foreground, Due::Foreground);
        check(over(foreground.plus(ms)), foreground, Due::Awaited);
        check(over(background), background, Due::Nothing);
        let long_over = background.minus(Asking::UNSAVED);
        check(over(long_over.plus(ms)), background, Due::Nothing);
        check(over(long_over), background, Due::Background);
        // Left alone for a while, and no longer than that.
        let pause = |until| lease(None, until);
        let (then, later) = (foreground.plus(ms), background.plus(ms));
        check(pause(then), foreground, Due::Paused(then));
        check(pause(foreground), foreground, Due::Foreground);
        check(pause(later), background, Due::Nothing);
        check(pause(background), background, Due::Background);
        // By a clock that stood wrong.
        let wrong = |now: Timestamp| lease(Some(7), now.plus(lease_ms).plus(ms));
        check(wrong(foreground), foreground, Due::Foreground);
        check(wrong(background), background, Due::Background);
        // A young check needs nobody.
        check(over(CHECKED), CHECKED, Due::Nothing);
    }

    #[test]
    fn tokens_are_neither_shown_nor_listed() {
        let shown = format!("{:?}", session(None));
        assert!(!shown.contains("\"sealed\""), "{shown}");
        let listed = session(None).without_tokens();
        assert_eq!((listed.refresh_token, listed.id_token), (None, None));
    }
}
