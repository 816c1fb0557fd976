//! Executes an operator's requests: for the control socket of a running gateway, or for the command line on a store that
//! no gateway uses. Both do the same.

mod answers;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::answers::Failure;
use super::token::{self, Judgement, RefreshInfo};
use super::{Request, Response, Why};
use crate::accounts::{AccountError, Accounts, Changed, NewAccount};
use crate::audit::{Audit, AuditEvent};
use crate::auth::Identity;
use crate::auth::decision::RefreshFinding;
use crate::auth::refresh_token::MasterKeys;
use crate::auth::rotation::SessionRecord;
use crate::clock::Clock;
use crate::login::local::PROVIDER;
use crate::session::{
    self, By, Ending, IdentitySource, OpenError, Reason, Refreshed, Sessions, SourceUnavailable,
};
use crate::store::{self, BackupStream, Store, StoreError};
use crate::units::Secret;

/// What to do about a backup of a store that many nodes share.
pub const SHARED_STORE: &str = "a shared store is backed up by its own means: its snapshots (`redis-cli --rdb FILE`) or \
    append-only files; after an old one was restored, run `vestibule session revoke --all`";

/// Why a store could not be operated on without a gateway.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// The store could not be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its sessions could not be read.
    #[error(transparent)]
    Sessions(#[from] OpenError),
}

/// Who does what operators ask.
pub struct Operator {
    store: Arc<dyn Store>,
    sessions: Arc<Sessions>,
    accounts: Accounts,
    audit: Option<Arc<Audit>>,
    clock: Clock,
    /// By which providers people sign in here, the built-in accounts among them; without a gateway it is not known.
    ways: Vec<String>,
    /// One backup at a time: each holds on to a state of the store, which cannot give back its space meanwhile.
    backing_up: Arc<Semaphore>,
}

impl Operator {
    /// For a running gateway: with its own store and sessions, and the names of all `ways` in which people sign in there.
    pub fn online(
        store: Arc<dyn Store>,
        sessions: Arc<Sessions>,
        audit: Option<Arc<Audit>>,
        clock: Clock,
        ways: Vec<String>,
    ) -> Arc<Self> {
        Arc::new(Operator {
            accounts: Accounts::new(Arc::clone(&store), Arc::clone(&sessions), clock.clone()),
            store,
            sessions,
            audit,
            clock,
            ways,
            backing_up: Arc::new(Semaphore::new(1)),
        })
    }

    /// Without a gateway on this machine: opens the store itself for as long as this lives. Gateways elsewhere that share
    /// it obey as if one of them had been asked.
    pub async fn offline(
        kind: &store::Kind,
        folder: &Path,
        master: &Secret,
        previous: &[Secret],
        settings: session::Settings,
        clock: Clock,
    ) -> Result<Arc<Self>, OfflineError> {
        let store = store::open(kind, folder, master, previous, &clock).await?;
        let sessions = Sessions::open(
            settings,
            Arc::clone(&store),
            MasterKeys::new(master, previous),
            Arc::new(NobodyAsks) as Arc<dyn IdentitySource>,
            clock.clone(),
            Arc::new(()),
            tokio::runtime::Handle::current(),
        )
        .await?;
        Ok(Operator::online(store, sessions, None, clock, Vec::new()))
    }

    #[cfg(test)]
    pub(super) fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    #[cfg(test)]
    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Does what is asked, and notes by whom. What goes wrong is an answer too.
    pub async fn execute(&self, request: Request, by: By) -> Response {
        match self.run(request, by).await {
            Ok(response) => response,
            Err(error) => error.into(),
        }
    }

    /// A backup of the store as it is now, and the right to take it: nobody else may while that is held.
    pub(super) fn backup(&self) -> Result<(BackupStream, OwnedSemaphorePermit), Response> {
        let refused = |why, message: &str| Response::Refused {
            why,
            message: message.to_owned(),
        };
        let turn = Arc::clone(&self.backing_up)
            .try_acquire_owned()
            .map_err(|_| refused(Why::Taken, "another backup is under way; try again later"))?;
        let stream = self
            .store
            .backup(self.clock.now())
            .ok_or_else(|| refused(Why::Unknown, SHARED_STORE))?;
        if let Some(audit) = &self.audit {
            audit.record(&AuditEvent::StoreBackup);
        }
        Ok((stream, turn))
    }

    async fn run(&self, request: Request, by: By) -> Result<Response, Failure> {
        let accounts = &self.accounts;
        let revoked = || Ending::new(Reason::Revoked, by);
        Ok(match request {
            Request::Ping => Response::Pong {
                version: env!("CARGO_PKG_VERSION").to_owned(),
            },
            Request::UserAdd {
                name,
                email,
                display_name,
                groups,
                password_hash,
            } => {
                accounts
                    .add(NewAccount {
                        name: name.clone(),
                        email,
                        display_name,
                        groups,
                        password_hash,
                    })
                    .await?;
                let added = Changed {
                    name,
                    ..Changed::default()
                };
                self.changed(&added, "added", by);
                Response::Done
            }
            Request::UserList => Response::Users {
                users: accounts.list().await?.into_iter().map(Into::into).collect(),
            },
            Request::UserPassword {
                name,
                password_hash,
            } => {
                let changed = accounts.set_password(&name, &password_hash, by).await?;
                self.changed(&changed, "password", by);
                Response::Ended {
                    sessions: changed.sessions,
                }
            }
            Request::UserChange { name, change } => {
                let changed = accounts.revise(&name, &change).await?;
                if !changed.fields.is_empty() {
                    self.changed(&changed, "changed", by);
                }
                Response::Done
            }
            Request::UserBlock { name } => {
                let changed = accounts.block(&name, by).await?;
                if !changed.fields.is_empty() {
                    self.changed(&changed, "blocked", by);
                }
                Response::Ended {
                    sessions: changed.sessions,
                }
            }
            Request::UserUnblock { name } => {
                let changed = accounts.unblock(&name).await?;
                if !changed.fields.is_empty() {
                    self.changed(&changed, "unblocked", by);
                }
                Response::Done
            }
            Request::UserRemove { name } => {
                let changed = accounts.remove(&name, by).await?;
                self.changed(&changed, "removed", by);
                Response::Ended {
                    sessions: changed.sessions,
                }
            }
            Request::SessionList { user } => {
                let mut live = self.sessions.live(self.clock.now()).await?;
                if let Some(user) = user {
                    let written = self.written(&user).await?;
                    live.retain(|record| is_of(record, &user, &written));
                }
                Response::Sessions {
                    sessions: live.into_iter().map(Into::into).collect(),
                }
            }
            Request::SessionRevoke { session } => {
                let ended = self
                    .sessions
                    .end(session, revoked())
                    .await
                    .map_err(|error| self.unconfirmed(error))?;
                if ended.is_none() {
                    return Err(Failure::NoSession);
                }
                Response::Ended { sessions: 1 }
            }
            Request::SessionRevokeUser { user, provider } => {
                self.revoke_user(&user, provider, &revoked()).await?
            }
            Request::SessionRevokeAll => Response::Ended {
                sessions: self
                    .sessions
                    .end_all(revoked())
                    .await
                    .map_err(|error| self.unconfirmed(error))?,
            },
            Request::KeysList => Response::Keys {
                keys: self.sessions.key_list().await,
            },
            Request::KeysRotate => Response::KeyRotated {
                kid: self.sessions.rotate_keys(by, self.clock.now()).await?,
            },
            // Its answer is not one line: the control socket takes it from `backup`.
            Request::StoreBackup => return Err(Failure::Socket),
            Request::TokenCheck { token } => Response::Token {
                judgement: self.judge(&token.0).await?,
            },
        })
    }

    async fn judge(&self, token: &str) -> Result<Judgement, Failure> {
        let now = self.clock.now();
        if token.contains('.') {
            let (judgement, session) =
                token::judge_jwt(token, &self.sessions.keys(), self.sessions.expect(), now);
            return Ok(match session {
                Some(session) => {
                    token::with_session(judgement, self.sessions.is_live(session, now).await?)
                }
                None => judgement,
            });
        }
        match self.sessions.open_refresh(token.as_bytes()) {
            RefreshFinding::Sealed(claims) => {
                let stored = self.store.session(&claims.session).await?;
                let refresh = RefreshInfo {
                    session: claims.session,
                    generation: claims.generation,
                    issued_at: claims.issued_at,
                };
                let record = stored.as_ref().map(|stored| &stored.record);
                let ended = record.is_some_and(|record| self.sessions.has_ended(record));
                Ok(token::judge_refresh(refresh, record, ended, now))
            }
            RefreshFinding::Absent | RefreshFinding::Forged | RefreshFinding::Foreign => {
                Ok(Judgement::invalid(
                    "it has the form of a refresh token, but no master key of this gateway sealed it"
                        .to_owned(),
                ))
            }
        }
    }

    /// At the given provider, or at every one at which this user has sessions.
    async fn revoke_user(
        &self,
        user: &str,
        provider: Option<String>,
        ending: &Ending,
    ) -> Result<Response, Failure> {
        let whose = match provider {
            Some(provider) => Ok(BTreeSet::from([(provider, user.to_owned())])),
            None => self.all_of(user).await,
        };
        let whose = match whose {
            Ok(whose) => whose,
            Err(failure) => return Err(self.end_everywhere(user, ending, failure).await),
        };
        let ends = whose
            .iter()
            .map(|(provider, user)| self.sessions.end_user(provider, user, ending.clone()));
        let mut sessions = 0;
        for ended in futures_util::future::join_all(ends).await {
            sessions += ended.map_err(|error| self.unconfirmed(error))?;
        }
        Ok(Response::Ended { sessions })
    }

    /// The store cannot say where somebody signed in: this node obeys all the same, wherever that was.
    async fn end_everywhere(&self, user: &str, ending: &Ending, failure: Failure) -> Failure {
        let ends = self
            .ways
            .iter()
            .map(|way| self.sessions.end_user(way, user, ending.clone()));
        futures_util::future::join_all(ends).await;
        match failure {
            Failure::Store(error) | Failure::Account(AccountError::Store(error))
                if !self.ways.is_empty() =>
            {
                Failure::UnconfirmedName(error)
            }
            other => other,
        }
    }

    /// Under which names somebody of this name has sessions, and at which providers.
    async fn all_of(&self, user: &str) -> Result<BTreeSet<(String, String)>, Failure> {
        let written = self.written(user).await?;
        let sessions = self.store.sessions(None, self.clock.now()).await?;
        let mut whose: BTreeSet<_> = sessions
            .into_iter()
            .filter(|record| is_of(record, user, &written))
            .map(|record| (record.identity.provider, record.identity.user))
            .collect();
        whose.insert((PROVIDER.to_owned(), written));
        Ok(whose)
    }

    /// A built-in account's sessions carry its name as it was first written, whatever the case that an operator types.
    async fn written(&self, user: &str) -> Result<String, Failure> {
        match self.accounts.written_name(user).await {
            Ok(name) => Ok(name),
            Err(AccountError::Unknown) => Ok(user.to_owned()),
            Err(error) => Err(error.into()),
        }
    }

    /// An end that the store did not confirm: a running gateway lives by it already.
    fn unconfirmed(&self, error: StoreError) -> Failure {
        match self.audit {
            Some(_) => Failure::Unconfirmed(error),
            None => Failure::Store(error),
        }
    }

    fn changed(&self, changed: &Changed, change: &'static str, by: By) {
        if let Some(audit) = &self.audit {
            // What a change is called says it already, but for one of several parts.
            let fields = match change {
                "changed" => changed.fields.as_slice(),
                _ => &[],
            };
            audit.record(&AuditEvent::AccountChanged {
                user: &changed.name,
                change,
                fields,
                groups_added: &changed.groups_added,
                groups_removed: &changed.groups_removed,
                by: &by.to_string(),
            });
        }
    }
}

/// Whether a session is of this user at any provider, or of the built-in account whose name is written like this.
fn is_of(record: &SessionRecord, user: &str, written: &str) -> bool {
    let identity = &record.identity;
    identity.user == user || (identity.provider == PROVIDER && identity.user == written)
}

/// Without a gateway nothing is renewed.
struct NobodyAsks;

impl IdentitySource for NobodyAsks {
    fn refresh<'a>(
        &'a self,
        _: &'a Identity,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Refreshed, SourceUnavailable>> + Send + 'a>>
    {
        Box::pin(std::future::ready(Err(SourceUnavailable)))
    }

    /// And nobody signs in: a session that is begun all the same has been judged by whoever begins it.
    fn confirm<'a>(
        &'a self,
        identity: &'a Identity,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Refreshed, SourceUnavailable>> + Send + 'a>>
    {
        let identity = Box::new(identity.clone());
        Box::pin(std::future::ready(Ok(Refreshed::Identity(identity))))
    }
}
