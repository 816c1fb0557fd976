//! Renewal: one flight per session, generation and client, whose outcome all its waiters share.
//!
//! The flight is a task of its own on the control runtime: a caller that goes away does not stop it, because the store may
//! already hold the new generation. Flights of one session take turns. A revocation during a flight wins.
//!
//! A flight judges only for as long as somebody may hear it. One that waited for its turn, or lost against another node's
//! write, longer than any request waits would hold a request of then against a session of now, which its browser has renewed
//! elsewhere meanwhile, and take an honest person for a thief.

use std::sync::Arc;

use dashmap::Entry;
use tokio::sync::watch;

use super::flight::{Flight, FlightKey, Hearers, Landing, PATIENCE, Turn};
use super::{
    By, Ending, IssueError, IssuedPair, Reason, Refreshed, Renewal, RenewalRefusal, SessionEvent,
    Sessions,
};
use crate::auth::refresh_token::RefreshClaims;
use crate::auth::rotation::{self, Refusal, SessionRecord, Verdict};
use crate::auth::{Client, Subject};
use crate::clock::Timestamp;
use crate::store::{Replaced, Stored};

/// How often a flight judges anew because others changed the session.
const TRIES: usize = 16;

impl Sessions {
    /// Renews a session with a refresh token whose MAC was checked.
    pub async fn renew(
        self: &Arc<Self>,
        claims: RefreshClaims,
        client: &Client,
        now: Timestamp,
    ) -> Renewal {
        if self.revocations.concerns_session(&claims.session) {
            return self.refuse(claims, Refusal::Revoked);
        }
        let mut flight = self.flight(claims, client, now);
        let landed = flight.outcome.wait_for(Option::is_some);
        let landed = tokio::time::timeout(PATIENCE, landed).await;
        match landed {
            Ok(Ok(outcome)) => outcome.clone().unwrap_or(Renewal::Unavailable),
            Ok(Err(_)) | Err(_) => Renewal::Unavailable,
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
                flight.get().hearers.one_more();
                flight.get().clone()
            }
            Entry::Vacant(place) => {
                let (landed, outcome) = watch::channel(None);
                let hearers = Arc::new(Hearers::first());
                let flight = Flight {
                    outcome,
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
                    let outcome = sessions.fly(claims, &client, now, &hearers).await;
                    // First off the list: whoever comes later is judged anew.
                    drop(landing);
                    let _ = landed.send(Some(outcome));
                });
                flight
            }
        }
    }

    async fn fly(
        &self,
        claims: RefreshClaims,
        client: &Client,
        now: Timestamp,
        hearers: &Hearers,
    ) -> Renewal {
        let turn = Turn::of(self, claims.session);
        let _mine = turn.lock.lock().await;
        for _ in 0..TRIES {
            let stored = match self.load(&claims.session).await {
                Ok(Some(stored)) => stored,
                Ok(None) => return self.refuse(claims, Refusal::Unknown),
                Err(_) => return Renewal::Unavailable,
            };
            // They were told to come again, and are judged anew when they do.
            if hearers.are_gone() {
                return Renewal::Unavailable;
            }
            if self.revocations.concerns_record(&stored.record) {
                return self.refuse(claims, Refusal::Revoked);
            }
            if let Some(outcome) = self.judge(&stored, claims, client, now).await {
                return outcome;
            }
        }
        Renewal::Unavailable
    }

    /// Judges the record and carries the verdict out; `None`: the session changed meanwhile, judge again.
    async fn judge(
        &self,
        stored: &Stored<SessionRecord>,
        claims: RefreshClaims,
        client: &Client,
        now: Timestamp,
    ) -> Option<Renewal> {
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
            Verdict::Refuse(refusal) => Some(self.refuse(claims, refusal)),
            Verdict::Serve => {
                let Ok(claims) = self.claims(record, generation, now) else {
                    return Some(Renewal::Unavailable);
                };
                self.observer.observe(&SessionEvent::Served {
                    session,
                    generation,
                });
                Some(Renewal::Served(Arc::new(Subject::new(claims))))
            }
            Verdict::Redeliver => {
                let Ok((pair, subject)) = self.pair(record, now) else {
                    return Some(Renewal::Unavailable);
                };
                let generation = pair.generation;
                self.observer.observe(&SessionEvent::Redelivered {
                    session,
                    generation,
                });
                Some(Renewal::Issued(pair, subject))
            }
            Verdict::Replay => {
                let next = rotation::apply(record, verdict, generation, client, windows, now);
                match self.replace(&next, stored.revision).await {
                    Ok(Replaced::Committed(_)) => {}
                    Ok(Replaced::Conflict) => return None,
                    Ok(Replaced::Missing) => return Some(self.refuse(claims, Refusal::Unknown)),
                    Err(_) => return Some(Renewal::Unavailable),
                }
                self.observer.observe(&SessionEvent::Replay {
                    session,
                    user: record.identity.user.clone(),
                    provider: record.identity.provider.clone(),
                    generation,
                });
                self.revoked_by_replay(record, Some(client.addr));
                // The record is revoked durably; should this fail, the session's last access token lives to its end.
                let _ = self.close(session, self.clock.now()).await;
                Some(Renewal::Refused(RenewalRefusal::Replay))
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
        &self,
        stored: &Stored<SessionRecord>,
        verdict: Verdict,
        claims: RefreshClaims,
        client: &Client,
        now: Timestamp,
    ) -> Option<Renewal> {
        let record = &stored.record;
        let identity = match self.source.refresh(&record.identity).await {
            Ok(Refreshed::Identity(identity)) => *identity,
            Ok(Refreshed::Closed) => {
                let ending = Ending::new(Reason::AccountClosed, By::Gateway)
                    .from_request(Some(client.addr), None);
                return Some(match self.end_now(claims.session, ending).await {
                    Ok(_) => Renewal::Refused(RenewalRefusal::AccountClosed),
                    Err(_) => Renewal::Unavailable,
                });
            }
            Err(_) => return Some(Renewal::Unavailable),
        };
        let windows = &self.settings.windows;
        let mut next = rotation::apply(record, verdict, claims.generation, client, windows, now);
        next.identity = identity;
        let (next, pair, subject) = match self.fitting(next, record, now) {
            Ok(issued) => issued,
            Err(_) => return Some(Renewal::Unavailable),
        };
        match self.replace(&next, stored.revision).await {
            Ok(Replaced::Committed(_)) => {}
            Ok(Replaced::Conflict) => return None,
            Ok(Replaced::Missing) => return Some(self.refuse(claims, Refusal::Unknown)),
            Err(_) => return Some(Renewal::Unavailable),
        }
        // Ended while this was written: the end wins, nobody gets the pair.
        if self.revocations.concerns_record(&next) {
            return Some(self.refuse(claims, Refusal::Revoked));
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
        Some(Renewal::Issued(pair, subject))
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

    fn refuse(&self, claims: RefreshClaims, refusal: Refusal) -> Renewal {
        self.observer.observe(&SessionEvent::Refused {
            session: claims.session,
            generation: claims.generation,
            refusal,
        });
        Renewal::Refused(RenewalRefusal::Rule(refusal))
    }
}
