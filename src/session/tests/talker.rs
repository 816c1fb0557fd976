//! A provider of the tests: it rotates its refresh tokens, ends the grant when a spent one comes again, and answers as it is
//! told to.

use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::{CHECK, GRACE};
use crate::auth::provider_session::CheckTimes;
use crate::session::{
    ProviderAnswer, ProviderEnd, ProviderQuestion, ProviderReply, ProviderTalker,
};
use crate::units::Secret;

#[derive(Default)]
pub(super) struct Talker {
    pub(super) calls: AtomicUsize,
    /// The number of the refresh token that works.
    newest: AtomicUsize,
    /// A spent one came.
    ended: AtomicBool,
    /// The next call is held until `release`; it has spent its token by then.
    pub(super) hold: AtomicBool,
    pub(super) held: Notify,
    pub(super) release: Notify,
    pub(super) gone: AtomicBool,
    /// Groups that the person has by now.
    pub(super) groups: Mutex<Option<Vec<String>>>,
    /// Said instead of a welcome; nothing is rotated then.
    pub(super) says: Mutex<Option<ProviderAnswer>>,
    /// This provider never answers.
    pub(super) hangs: Mutex<Option<&'static str>>,
    /// Its refresh tokens stay good.
    pub(super) keeps_tokens: AtomicBool,
}

/// Those that it talks to.
const PROVIDERS: [&str; 2] = ["corp", "hub"];

/// The refresh token of this number.
pub(super) fn token(number: usize) -> Secret {
    Secret::new(format!("provider-refresh-token-{number}"))
}

impl Talker {
    pub(super) fn asked(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// What it says from now on.
    pub(super) fn say(&self, answer: Option<ProviderAnswer>) {
        *self.says.lock().unwrap() = answer;
    }

    pub(super) fn is_silent(&self) {
        self.say(Some(ProviderAnswer::Unknown {
            reason: "503".to_owned(),
            retry_after: None,
        }));
    }

    pub(super) fn give_groups(&self, groups: &[&str]) {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        *self.groups.lock().unwrap() = Some(groups);
    }

    /// Whether the whole grant was ended because a spent token came.
    pub(super) fn was_poisoned(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    fn redeem(&self, question: &ProviderQuestion<'_>) -> ProviderReply {
        let reply = |refresh_token, answer| ProviderReply {
            refresh_token,
            id_token: None,
            groups_at_userinfo: false,
            answer,
        };
        assert!(PROVIDERS.contains(&question.provider));
        assert_eq!(question.issuer, "https://id.example.com");
        assert_eq!(question.subject, "a-1");
        if let Some(answer) = self.says.lock().unwrap().clone() {
            return reply(None, answer);
        }
        let newest = self.newest.load(Ordering::SeqCst);
        let current = token(newest);
        if self.was_poisoned() || question.refresh_token.expose() != current.expose() {
            self.ended.store(true, Ordering::SeqCst);
            return reply(None, ProviderAnswer::Ended(ProviderEnd::InvalidGrant));
        }
        let mut identity = question.identity.clone();
        if let Some(groups) = self.groups.lock().unwrap().clone() {
            identity.groups = groups;
        }
        let next = match self.keeps_tokens.load(Ordering::SeqCst) {
            true => None,
            false => {
                self.newest.store(newest + 1, Ordering::SeqCst);
                Some(token(newest + 1))
            }
        };
        reply(next, ProviderAnswer::Welcome(Box::new(identity)))
    }
}

impl ProviderTalker for Talker {
    fn times(&self, provider: &str, issuer: &str) -> Option<CheckTimes> {
        let gone = self.gone.load(Ordering::SeqCst);
        let known = PROVIDERS.contains(&provider) && issuer == "https://id.example.com";
        (known && !gone).then_some(CheckTimes {
            check: CHECK,
            grace: GRACE,
        })
    }

    fn refresh<'a>(
        &'a self,
        question: ProviderQuestion<'a>,
    ) -> Pin<Box<dyn Future<Output = ProviderReply> + Send + 'a>> {
        Box::pin(async move {
            self.calls.fetch_add(1, Ordering::SeqCst);
            if *self.hangs.lock().unwrap() == Some(question.provider) {
                return std::future::pending().await;
            }
            let reply = self.redeem(&question);
            if self.hold.swap(false, Ordering::SeqCst) {
                self.held.notify_one();
                self.release.notified().await;
            }
            reply
        })
    }
}
