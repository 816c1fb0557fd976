//! Sign-ins that were begun in this browser and have not come back yet: what is in the login cookie. Several at once (tabs),
//! the oldest is dropped, and the whole never outgrows a cookie. Must not know how they are sealed or sent.

use std::time::Duration;

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::seal::{CannotSeal, LoginSeal, Purpose};
use crate::clock::Timestamp;
use crate::headers::cookie::MAX_NAME_VALUE;

/// How long somebody may stay at the provider.
pub const LIFETIME: Duration = Duration::from_secs(3600);
/// Most sign-ins at once.
pub const MOST: usize = 8;
/// What the cookie's name may take of the limit, with its `=`.
const NAME: usize = 64;
/// Longest place to come back to that travels in `state`, for a browser that lost its cookie.
const LONGEST_HINT: usize = 200;

/// One sign-in under way.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Ties it to the `state` of its request.
    #[serde(rename = "i")]
    pub id: String,
    /// The provider's name.
    #[serde(rename = "p")]
    pub provider: String,
    /// `nonce` (OpenID Connect Core section 3.1.2.1).
    #[serde(rename = "n")]
    pub nonce: String,
    /// PKCE's `code_verifier` (RFC 7636 section 4.1).
    #[serde(rename = "v")]
    pub verifier: String,
    /// Where to go afterwards, checked when it was begun and checked again when it is used.
    #[serde(rename = "r")]
    pub return_to: String,
    /// When it was begun.
    #[serde(rename = "t")]
    pub started_at: Timestamp,
}

/// A sign-out that the provider was asked for.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaving {
    /// The `state` of its request.
    #[serde(rename = "i")]
    pub id: String,
    /// The provider's name.
    #[serde(rename = "p")]
    pub provider: String,
    /// When it was begun.
    #[serde(rename = "t")]
    pub started_at: Timestamp,
}

/// Everything that the login cookie holds.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jar {
    /// Oldest first.
    #[serde(rename = "s", default, skip_serializing_if = "Vec::is_empty")]
    pending: Vec<Pending>,
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    leaving: Option<Leaving>,
}

/// What `state` says by itself, whatever became of the cookie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The [`Pending::id`].
    #[serde(rename = "i")]
    pub id: String,
    /// The provider's name.
    #[serde(rename = "p")]
    pub provider: String,
    /// When it was begun.
    #[serde(rename = "t")]
    pub started_at: Timestamp,
    /// Where to go afterwards, if that is short.
    #[serde(rename = "r", default, skip_serializing_if = "String::is_empty")]
    pub return_to: String,
    /// How often this sign-in was begun anew because the browser had lost its cookie.
    #[serde(rename = "a", default, skip_serializing_if = "is_zero")]
    pub again: u8,
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(number: &u8) -> bool {
    *number == 0
}

/// Text of so many random bytes that nobody can guess.
fn random<const N: usize>() -> Result<String, CannotSeal> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| CannotSeal)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

impl Pending {
    /// A new one, with fresh secrets.
    pub fn begin(provider: &str, return_to: &str, now: Timestamp) -> Result<Self, CannotSeal> {
        Ok(Pending {
            id: random::<16>()?,
            provider: provider.to_owned(),
            nonce: random::<16>()?,
            // 43 characters, the least that RFC 7636 section 4.1 allows: 256 bits.
            verifier: random::<32>()?,
            return_to: return_to.to_owned(),
            started_at: now,
        })
    }

    /// Its `state`, to be sealed.
    pub fn state(&self, again: u8) -> State {
        State {
            id: self.id.clone(),
            provider: self.provider.clone(),
            started_at: self.started_at,
            return_to: match self.return_to.len() <= LONGEST_HINT && self.return_to != "/" {
                true => self.return_to.clone(),
                false => String::new(),
            },
            again,
        }
    }
}

impl Leaving {
    /// A new one.
    pub fn begin(provider: &str, now: Timestamp) -> Result<Self, CannotSeal> {
        Ok(Leaving {
            id: random::<16>()?,
            provider: provider.to_owned(),
            started_at: now,
        })
    }
}

impl State {
    /// As it travels.
    pub fn seal(&self, seal: &LoginSeal) -> Result<String, CannotSeal> {
        let json = serde_json::to_vec(self).map_err(|_| CannotSeal)?;
        seal.seal(Purpose::State, &json)
    }

    /// What came back; `None` for anything that this gateway did not make.
    pub fn open(text: &str, seal: &LoginSeal) -> Option<Self> {
        let json = seal.open(Purpose::State, text).ok()?;
        serde_json::from_slice(&json).ok()
    }

    /// Whether it is not older than a sign-in may take.
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        is_fresh(self.started_at, now)
    }
}

fn is_fresh(started_at: Timestamp, now: Timestamp) -> bool {
    now < started_at.plus(LIFETIME)
}

impl Jar {
    /// Reads a cookie; one that is not ours, or whose time is over, is an empty one.
    pub fn open(cookie: Option<&str>, seal: &LoginSeal, now: Timestamp) -> Self {
        let mut jar: Jar = cookie
            .and_then(|text| seal.open(Purpose::Cookie, text).ok())
            .and_then(|json| serde_json::from_slice(&json).ok())
            .unwrap_or_default();
        jar.pending
            .retain(|pending| is_fresh(pending.started_at, now));
        jar.leaving = jar
            .leaving
            .filter(|leaving| is_fresh(leaving.started_at, now));
        jar
    }

    /// Adds a sign-in; the oldest go when there are too many or too long ones.
    pub fn add(&mut self, pending: Pending) {
        self.pending.push(pending);
        while self.pending.len() > MOST || (self.pending.len() > 1 && !self.fits()) {
            self.pending.remove(0);
        }
    }

    /// Remembers that the provider was asked to sign somebody out; one at a time.
    pub fn leave(&mut self, leaving: Leaving) {
        self.leaving = Some(leaving);
        while !self.pending.is_empty() && !self.fits() {
            self.pending.remove(0);
        }
    }

    /// Takes a sign-in out: it can be used once.
    pub fn take(&mut self, id: &str, provider: &str) -> Option<Pending> {
        let at = self
            .pending
            .iter()
            .position(|pending| pending.id == id && pending.provider == provider)?;
        Some(self.pending.remove(at))
    }

    /// Takes the sign-out out, if this is its `state`.
    pub fn take_leaving(&mut self, id: &str) -> Option<Leaving> {
        match &self.leaving {
            Some(leaving) if leaving.id == id => self.leaving.take(),
            _ => None,
        }
    }

    /// Whether there is nothing to keep.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.leaving.is_none()
    }

    /// How many sign-ins are under way.
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// The cookie's value.
    pub fn seal(&self, seal: &LoginSeal) -> Result<String, CannotSeal> {
        let json = serde_json::to_vec(self).map_err(|_| CannotSeal)?;
        seal.seal(Purpose::Cookie, &json)
    }

    fn fits(&self) -> bool {
        serde_json::to_vec(self)
            .is_ok_and(|json| LoginSeal::sealed_len(json.len()) + NAME <= MAX_NAME_VALUE)
    }
}

#[cfg(test)]
mod tests {
    use super::super::seal::tests::seal;
    use super::*;
    use crate::login::return_to;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn begun(provider: &str, rd: &str, now: Timestamp) -> Pending {
        Pending::begin(provider, rd, now).unwrap()
    }

    fn reopened(jar: &Jar, now: Timestamp) -> Jar {
        Jar::open(Some(&jar.seal(&seal()).unwrap()), &seal(), now)
    }

    #[test]
    fn e09_two_tabs_each_find_their_own_and_each_once() {
        let mut jar = Jar::default();
        let (one, two) = (begun("corp", "/a", NOW), begun("corp", "/b", NOW));
        jar.add(one.clone());
        jar.add(two.clone());
        let mut jar = reopened(&jar, NOW);
        assert!(jar.take(&two.id, "corp") == Some(two.clone()));
        let mut jar = reopened(&jar, NOW);
        assert!(jar.take(&two.id, "corp").is_none(), "used once");
        assert!(jar.take(&one.id, "corp") == Some(one));
        assert!(jar.is_empty());
    }

    #[test]
    fn a_sign_in_of_one_provider_is_none_of_another() {
        let mut jar = Jar::default();
        let one = begun("corp", "/", NOW);
        jar.add(one.clone());
        assert!(jar.take(&one.id, "other").is_none());
        assert_eq!(jar.len(), 1);
    }

    #[test]
    fn the_oldest_is_dropped_and_the_cookie_never_outgrows_its_limit() {
        let longest = format!("/{}", "x".repeat(return_to::MAX - 1));
        for rd in ["/", "/some/place?of=usual&length=x", &longest] {
            let mut jar = Jar::default();
            let mut last = None;
            for _ in 0..40 {
                let pending = begun("a-provider-with-a-long-name-indeed", rd, NOW);
                last = Some(pending.clone());
                jar.add(pending);
                jar.leave(Leaving::begin("corp", NOW).unwrap());
                assert!(jar.seal(&seal()).unwrap().len() + NAME <= MAX_NAME_VALUE);
                assert!(jar.len() <= MOST);
            }
            assert!(rd.len() > 100 || jar.len() == MOST);
            let last = last.unwrap();
            assert!(jar.take(&last.id, &last.provider).is_some(), "the newest");
        }
    }

    #[test]
    fn its_time_is_over_at_the_last_millisecond() {
        let mut jar = Jar::default();
        jar.add(begun("corp", "/", NOW));
        jar.leave(Leaving::begin("corp", NOW).unwrap());
        let end = NOW.plus(LIFETIME);
        let before = end.minus(Duration::from_millis(1));
        assert_eq!(reopened(&jar, before).len(), 1);
        assert!(reopened(&jar, end).is_empty());
        let state = begun("corp", "/", NOW).state(0);
        assert!(state.is_fresh(before) && !state.is_fresh(end));
    }

    #[test]
    fn what_is_not_ours_is_an_empty_jar() {
        for cookie in [None, Some(""), Some("AAAA"), Some("\u{fffd}")] {
            assert!(Jar::open(cookie, &seal(), NOW).is_empty());
        }
        // A state is no cookie.
        let state = begun("corp", "/", NOW).state(0).seal(&seal()).unwrap();
        assert!(Jar::open(Some(&state), &seal(), NOW).is_empty());
    }

    #[test]
    fn a_state_comes_back_and_stays_short() {
        let pending = begun("corp", "/a?b=c", NOW);
        let state = pending.state(1);
        let text = state.seal(&seal()).unwrap();
        assert_eq!(State::open(&text, &seal()), Some(state));
        assert!(State::open(&pending.id, &seal()).is_none());
        let long = begun("corp", &format!("/{}", "x".repeat(2000)), NOW).state(2);
        assert_eq!(long.return_to, "");
        let limit = begun("corp", &format!("/{}", "x".repeat(199)), NOW).state(2);
        assert_eq!(limit.return_to.len(), 200);
        assert!(limit.seal(&seal()).unwrap().len() < 500);
    }

    #[test]
    fn a_sign_out_is_remembered_once() {
        let mut jar = Jar::default();
        let leaving = Leaving::begin("corp", NOW).unwrap();
        jar.leave(leaving.clone());
        let mut jar = reopened(&jar, NOW);
        assert!(jar.take_leaving("other").is_none());
        assert!(jar.take_leaving(&leaving.id) == Some(leaving.clone()));
        assert!(jar.take_leaving(&leaving.id).is_none());
    }

    #[test]
    fn secrets_are_long_and_never_the_same() {
        let (one, two) = (begun("corp", "/", NOW), begun("corp", "/", NOW));
        assert_eq!(one.verifier.len(), 43);
        assert!(one.id != two.id && one.nonce != two.nonce && one.verifier != two.verifier);
        assert!(one.id.len() == 22 && one.nonce.len() == 22);
    }
}
