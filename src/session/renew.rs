//! Renewal: one flight per session, generation and client, whose outcome all its waiters share.
//!
//! The flight is a task of its own on the control runtime: a caller that goes away does not stop it, because the store may
//! already hold the new generation. Flights of one session take turns. A revocation during a flight wins. A flight that has
//! to wait for a provider lets others have their turn, and is judged anew, as of then, when the answer is there.
//!
//! A flight judges only for as long as somebody may hear it. One that waited for its turn, or lost against another node's
//! write, longer than any request waits would hold a request of then against a session of now, which its browser has renewed
//! elsewhere meanwhile, and take an honest person for a thief.

use std::sync::Arc;
use std::time::Duration;

use dashmap::Entry;
use tokio::sync::watch;

use super::flight::{Flight, FlightKey, Hearers, Landing, PATIENCE, Progress, Turn};
use super::provider::{self, Consulted, Waited};
use super::{
    By, Ending, IssueError, IssuedPair, Reason, Refreshed, Renewal, RenewalRefusal, RenewalTrouble,
    SessionEvent, Sessions, SourceUnavailable,
};
use crate::auth::refresh_token::RefreshClaims;
use crate::auth::rotation::{self, Refusal, SessionRecord, Verdict};
use crate::auth::{Client, Subject};
use crate::clock::Timestamp;
use crate::store::{Replaced, Stored};

/// How often a flight judges anew because others changed the session.
const TRIES: usize = 16;
/// How often a flight is judged, with a wait for the provider in between.
const ANSWERS: usize = 3;

/// How long a request waits once its flight waits for a provider.
const PROVIDER_PATIENCE: Duration = provider::PATIENCE.saturating_add(PATIENCE);

/// What one look at the session came to.
enum Look {
    Landed(Renewal),
    /// The session changed meanwhile: judge again.
    Again,
    /// No new generation before the provider has answered.
    Wait,
}

impl Sessions {
    /// Renews a session with a refresh token whose MAC was checked.
    pub async fn renew(
        self: &Arc<Self>,
        claims: RefreshClaims,
        client: &Client,
        now: Timestamp,
    ) -> Renewal {
        if self.revocations.concerns_session(&claims.session) {
            return self.refuse(claims, Refusal::Revoked, None);
        }
        let mut flight = self.flight(claims, client, now);
        let progress = &mut flight.progress;
        let moved = progress.wait_for(|progress| !matches!(progress, Progress::Flying));
        match tokio::time::timeout(PATIENCE, moved).await {
            Ok(Ok(progress)) => {
                if let Progress::Landed(outcome) = &*progress {
                    return outcome.clone();
                }
            }
            Ok(Err(_)) | Err(_) => return Renewal::unavailable(RenewalTrouble::Late),
        }
        let landed = progress.wait_for(|progress| matches!(progress, Progress::Landed(_)));
        match tokio::time::timeout(PROVIDER_PATIENCE, landed).await {
            Ok(Ok(progress)) => match &*progress {
                Progress::Landed(outcome) => outcome.clone(),
                Progress::Flying | Progress::Waiting => Renewal::unavailable(RenewalTrouble::Late),
            },
            Ok(Err(_)) | Err(_) => Renewal::unavailable(RenewalTrouble::Late),
        }
    }

    /// The flight that is under way for this, or a new one.
    fn flight(self: &Arc<Self>, claims: RefreshClaims, client: &Client, now: Timestamp) -> Flight {
        let key = FlightKey {
            session: claims.session,
            generation: claims.generation,
            user_agent: client.user_agent.as_str().into(),
            addr: client.addr,
        };
        match self.flights.entry(key.clone()) {
            Entry::Occupied(flight) => {
                let flight = flight.get();
                let patience = match *flight.progress.borrow() {
                    Progress::Waiting => PROVIDER_PATIENCE,
                    Progress::Flying | Progress::Landed(_) => PATIENCE,
                };
                flight.hearers.wait(patience);
                flight.clone()
            }
            Entry::Vacant(place) => {
                let (progress, told) = watch::channel(Progress::Flying);
                let hearers = Arc::new(Hearers::first());
                let flight = Flight {
                    progress: told,
                    hearers: Arc::clone(&hearers),
                };
                place.insert(flight.clone());
                let landing = Landing {
                    sessions: Arc::clone(self),
                    key,
                };
                let client = client.clone();
                self.control.spawn(async move {
                    let sessions = Arc::clone(&landing.sessions);
                    let outcome = sessions
                        .fly(claims, &client, now, &progress, &hearers)
                        .await;
                    // First off the list: whoever comes later is judged anew.
                    drop(landing);
                    let _ = progress.send(Progress::Landed(outcome));
                });
                flight
            }
        }
    }

    async fn fly(
        self: &Arc<Self>,
        claims: RefreshClaims,
        client: &Client,
        mut now: Timestamp,
        progress: &watch::Sender<Progress>,
        hearers: &Hearers,
    ) -> Renewal {
        for _ in 0..ANSWERS {
            match self.take_turn(claims, client, now, hearers).await {
                Look::Landed(outcome) => return outcome,
                Look::Again => return Renewal::unavailable(RenewalTrouble::Contended),
                Look::Wait => {}
            }
            hearers.wait(PROVIDER_PATIENCE);
            progress.send_replace(Progress::Waiting);
            match self.wait_for_provider(claims.session).await {
                // Time has passed: windows and lives are measured from here.
                Waited::Judge => now = self.clock.now(),
                Waited::Silent { retry_after } => return Renewal::ProviderSilent { retry_after },
                Waited::Unavailable(trouble) => return Renewal::unavailable(trouble),
            }
        }
        Renewal::unavailable(RenewalTrouble::Late)
    }

    async fn take_turn(
        self: &Arc<Self>,
        claims: RefreshClaims,
        client: &Client,
        now: Timestamp,
        hearers: &Hearers,
    ) -> Look {
        let turn = Turn::of(self, claims.session);
        let _mine = turn.lock.lock().await;
        for _ in 0..TRIES {
            // Not even a look for them: while a store hangs, each look would hold up those who wait behind it, and they would
            // become more and more.
            if hearers.are_gone() {
                return Look::Landed(Renewal::unavailable(RenewalTrouble::Late));
            }
            let stored = match self.load(&claims.session).await {
                Ok(Some(stored)) => stored,
                Ok(None) => return Look::Landed(self.refuse(claims, Refusal::Unknown, None)),
                Err(error) => return Look::Landed(Renewal::unavailable(error)),
            };
            // They were told to come again, and are judged anew when they do.
            if hearers.are_gone() {
                return Look::Landed(Renewal::unavailable(RenewalTrouble::Late));
            }
            if self.revocations.concerns_record(&stored.record) {
                let record = Some(&stored.record);
                return Look::Landed(self.refuse(claims, Refusal::Revoked, record));
            }
            match self.judge(&stored, claims, client, now).await {
                Look::Again => {}
                look => return look,
            }
        }
        Look::Again
    }

    /// Judges the record and carries the verdict out.
    async fn judge(
        self: &Arc<Self>,
        stored: &Stored<SessionRecord>,
        claims: RefreshClaims,
        client: &Client,
        now: Timestamp,
    ) -> Look {
        let (session, generation) = (claims.session, claims.generation);
        let record = &stored.record;
        let windows = &self.settings.windows;
        let verdict = rotation::judge(
            record,
            generation,
            client,
            windows,
            self.measuring(record, now),
        );
        match verdict {
            Verdict::Refuse(refusal) => {
                self.tell_again(record, now).await;
                Look::Landed(self.refuse(claims, refusal, Some(record)))
            }
            Verdict::Serve => {
                let claims = match self.claims(record, generation, now) {
                    Ok(claims) => claims,
                    Err(error) => return Look::Landed(Renewal::unavailable(error)),
                };
                self.observer.observe(&SessionEvent::Served {
                    session,
                    generation,
                });
                Look::Landed(Renewal::Served(Arc::new(Subject::new(claims))))
            }
            Verdict::Redeliver => {
                let (pair, subject) = match self.pair(record, now) {
                    Ok(issued) => issued,
                    Err(error) => return Look::Landed(Renewal::unavailable(error)),
                };
                let generation = pair.generation;
                self.observer.observe(&SessionEvent::Redelivered {
                    session,
                    generation,
                });
                Look::Landed(Renewal::Issued(pair, subject))
            }
            Verdict::Replay => {
                let next = rotation::apply(record, verdict, generation, client, windows, now);
                let marked = match self.replace(&next, stored.revision).await {
                    Ok(Replaced::Committed(_)) => Ok(()),
                    Ok(Replaced::Conflict) => return Look::Again,
                    Ok(Replaced::Missing) => {
                        let record = Some(record);
                        return Look::Landed(self.refuse(claims, Refusal::Unknown, record));
                    }
                    Err(error) => Err(error),
                };
                self.end_stolen(record, generation, Some(client.addr), marked.is_ok())
                    .await;
                Look::Landed(match marked {
                    Ok(()) => refused(RenewalRefusal::Replay, Some(record)),
                    Err(error) => Renewal::unavailable(error),
                })
            }
            Verdict::Rotate | Verdict::Reissue | Verdict::Heal => {
                self.advance(stored, verdict, claims, client, now).await
            }
        }
    }

    /// What to measure the record's windows with: now, unless they began in a time that was taken back since.
    fn measuring(&self, record: &SessionRecord, now: Timestamp) -> Timestamp {
        let lineage = &record.lineage;
        let began = lineage.acknowledged_at.unwrap_or(lineage.issued_at);
        let measuring = self.clock.measuring(began, now);
        // It is still now that says whether the session has ended.
        match now < record.ends_at() && record.ends_at() <= measuring {
            true => now,
            false => measuring,
        }
    }

    /// Issues a new generation.
    async fn advance(
        self: &Arc<Self>,
        stored: &Stored<SessionRecord>,
        verdict: Verdict,
        claims: RefreshClaims,
        client: &Client,
        now: Timestamp,
    ) -> Look {
        let record = &stored.record;
        let identity = match self.vouched_for(record).await {
            Ok(Refreshed::Identity(identity)) => *identity,
            Ok(Refreshed::Closed) => {
                let (reason, refusal) = (Reason::AccountClosed, RenewalRefusal::AccountClosed);
                return self.close_account(record, client, reason, refusal).await;
            }
            Err(error) => return Look::Landed(Renewal::unavailable(error)),
        };
        let asking = match self.consult(record, now) {
            Consulted::Good => None,
            Consulted::Asking(asking, permit) => Some((asking, permit)),
            Consulted::Wait => return Look::Wait,
            Consulted::Gone => {
                let (reason, refusal) = (Reason::ProviderGone, RenewalRefusal::ProviderGone);
                return self.close_account(record, client, reason, refusal).await;
            }
        };
        let windows = &self.settings.windows;
        let mut next = rotation::apply(record, verdict, claims.generation, client, windows, now);
        next.identity = identity;
        if let (Some(there), Some((asking, _))) = (&mut next.provider, &asking) {
            there.asking = Some(*asking);
        }
        let (next, pair, subject) = match self.fitting(next, record, now) {
            Ok(issued) => issued,
            Err(error) => return Look::Landed(Renewal::unavailable(error)),
        };
        match self.replace(&next, stored.revision).await {
            Ok(Replaced::Committed(_)) => {}
            Ok(Replaced::Conflict) => return Look::Again,
            Ok(Replaced::Missing) => {
                return Look::Landed(self.refuse(claims, Refusal::Unknown, Some(record)));
            }
            Err(error) => return Look::Landed(Renewal::unavailable(error)),
        }
        // Ended while this was written: the end wins, nobody gets the pair.
        if self.revocations.concerns_record(&next) {
            return Look::Landed(self.refuse(claims, Refusal::Revoked, Some(record)));
        }
        let (session, generation) = (next.id, next.lineage.newest);
        self.observer.observe(&match verdict {
            Verdict::Reissue => SessionEvent::Reissued {
                session,
                generation,
            },
            Verdict::Heal => SessionEvent::Healed {
                session,
                generation,
            },
            _ => SessionEvent::Rotated {
                session,
                generation,
            },
        });
        if let Some((_, permit)) = asking {
            // Nobody waits for this one.
            drop(self.ask_provider(next, permit));
        }
        Look::Landed(Renewal::Issued(pair, subject))
    }

    /// Who the person is by now; what a provider said is in the record already.
    async fn vouched_for(&self, record: &SessionRecord) -> Result<Refreshed, SourceUnavailable> {
        match record.provider {
            Some(_) => Ok(Refreshed::Identity(Box::new(record.identity.clone()))),
            None => self.accounts.refresh(&record.identity).await,
        }
    }

    /// Ends a session for whose person nobody vouches any more.
    async fn close_account(
        self: &Arc<Self>,
        record: &SessionRecord,
        client: &Client,
        reason: Reason,
        refusal: RenewalRefusal,
    ) -> Look {
        let ending = Ending::new(reason, By::Gateway).from_request(Some(client.addr), None);
        Look::Landed(match self.end(record.id, ending).await {
            Ok(_) => refused(refusal, Some(record)),
            Err(error) => Renewal::unavailable(error),
        })
    }

    /// The pair; with the identity of before if the refreshed one has outgrown its cookie. That is refused at sign-in,
    /// never at a renewal.
    fn fitting(
        &self,
        next: SessionRecord,
        before: &SessionRecord,
        now: Timestamp,
    ) -> Result<(SessionRecord, Arc<IssuedPair>, Arc<Subject>), IssueError> {
        match self.pair(&next, now) {
            Err(IssueError::TooLarge | IssueError::Key(_)) if next.identity != before.identity => {
                let next = SessionRecord {
                    identity: before.identity.clone(),
                    ..next
                };
                let (pair, subject) = self.pair(&next, now)?;
                Ok((next, pair, subject))
            }
            Err(error) => Err(error),
            Ok((pair, subject)) => Ok((next, pair, subject)),
        }
    }

    fn refuse(
        &self,
        claims: RefreshClaims,
        refusal: Refusal,
        record: Option<&SessionRecord>,
    ) -> Renewal {
        self.observer.observe(&SessionEvent::Refused {
            session: claims.session,
            generation: claims.generation,
            refusal,
        });
        refused(RenewalRefusal::Rule(refusal), record)
    }
}

fn refused(refusal: RenewalRefusal, record: Option<&SessionRecord>) -> Renewal {
    Renewal::Refused {
        refusal,
        user: record.map(|record| record.identity.user.as_str().into()),
    }
}
