//! Renewals that ask a provider: when, how often, and what its answers do. The rotation goes on as if nobody asked.

mod answers;
mod races;
mod when;

use super::nodes::{is_open, stream, until};
use super::talker::{Talker, token};
use super::*;
use crate::auth::provider_session::{Asking, ProviderSession, Sealed};

pub(super) fn there(session: Option<&str>) -> SignedInThere {
    SignedInThere {
        issuer: "https://id.example.com".to_owned(),
        subject: "a-1".to_owned(),
        session: session.map(str::to_owned),
        refresh_token: Some(token(0)),
        id_token: Some(Secret::new("an id token")),
        groups_at_userinfo: false,
    }
}

pub(super) fn alice_there() -> Identity {
    Identity {
        provider: "corp".to_owned(),
        ..alice()
    }
}

/// This many nodes on one store, with one provider.
pub(super) async fn nodes(count: usize) -> Vec<Bench> {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let store = Arc::new(Hand::on(folder.path()));
    store.shared.store(true, Ordering::SeqCst);
    let (clock, talker) = (Clock::manual(START), Arc::<Talker>::default());
    let mut nodes = Vec::new();
    for _ in 0..count {
        let (store, talker) = (Arc::clone(&store), Arc::clone(&talker));
        nodes.push(start_asking(store, Arc::clone(&folder), clock.clone(), talker).await);
    }
    nodes
}

/// Old enough for a check that nobody waits for.
fn in_background() -> Duration {
    CHECK + Duration::from_millis(1)
}

/// Too old to go on without an answer.
fn in_foreground() -> Duration {
    CHECK + GRACE + Duration::from_millis(1)
}

impl Bench {
    pub(super) async fn begin_there(&self) -> Arc<IssuedPair> {
        self.begin_at("there").await
    }
    pub(super) async fn begin_at(&self, session: &str) -> Arc<IssuedPair> {
        self.begin_as(alice_there(), there(Some(session))).await
    }
    pub(super) async fn begin_as(
        &self,
        identity: Identity,
        there: SignedInThere,
    ) -> Arc<IssuedPair> {
        self.sessions
            .begin_at_provider(identity, there, &browser(1), self.now())
            .await
            .unwrap()
    }
    /// Renewed when a check is due in the background, and its provider holds what it was told to answer.
    async fn asked_and_held(&self) -> Arc<IssuedPair> {
        let pair = self.begin_there().await;
        self.clock.advance(in_background());
        self.talker.hold.store(true, Ordering::SeqCst);
        let next = self.issued(&pair).await;
        self.talker.held.notified().await;
        next
    }
    /// Sessions were read this often from now on.
    async fn looked(&self, times: usize) {
        let reads = || self.store.reads.load(Ordering::SeqCst);
        let before = reads();
        until("the record is looked at", async || {
            reads() >= before + times
        })
        .await;
    }
    async fn part(&self, pair: &IssuedPair) -> ProviderSession {
        *self.record(pair).await.provider.unwrap()
    }
    async fn edit(&self, pair: &IssuedPair, change: impl FnOnce(&mut ProviderSession)) {
        let stored = self.store.inner.session(&pair.session).await.unwrap();
        let Stored {
            mut record,
            revision,
        } = stored.unwrap();
        change(record.provider.as_mut().unwrap());
        let replaced = self.store.inner.replace_session(&record, revision).await;
        assert!(matches!(replaced.unwrap(), Replaced::Committed(_)));
    }
    /// The answer of a call that nobody waits for is kept.
    async fn checked(&self, pair: &IssuedPair) {
        until("the answer is kept", async || {
            self.part(pair).await.checked_at == self.now()
        })
        .await;
    }
    fn groups(&self, pair: &IssuedPair) -> Vec<String> {
        match self.check(pair) {
            AccessFinding::Valid(subject) => subject.identity().groups.clone(),
            found => panic!("{found:?}"),
        }
    }
}

async fn bench_record_is_over(bench: &Bench, pair: &IssuedPair) -> bool {
    bench.record(pair).await.revoked_at.is_some()
}
