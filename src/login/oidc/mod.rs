//! Sign-in by somebody else: OpenID providers (OpenID Connect Core 1.0) and plain OAuth 2 services (RFC 6749) that can say
//! who somebody is. Must not issue sessions or write cookies: it says who somebody is, or why not.
//!
//! Everything but [`provider`] and `renewal` is pure. In the order of a sign-in: [`settings`] is what the deployer meant; [`pending`] and
//! [`seal`] keep what was begun in one bounded cookie; [`authorize`] sends the browser away; [`callback`] judges how it
//! came back; [`client_auth`] and [`token_answer`] are what is said to the token endpoint and what it says; [`id_token`] and
//! [`person`] judge who that is, [`continued`] who it still is at a renewal; [`failure`] is every reason why nobody was signed in;
//! [`leaving`] is the way out. `admission` and `spent` count what came back.

mod admission;
pub mod authorize;
pub mod callback;
pub mod client_auth;
pub mod continued;
pub mod failure;
pub mod id_token;
pub mod leaving;
pub mod pending;
pub mod person;
pub mod provider;
mod renewal;
pub mod seal;
pub mod settings;
mod spent;
pub mod token_answer;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::auth::ClientAddr;
use crate::clock::{Clock, Timestamp};
use crate::outbound::{self, Outbound};
use crate::units::Secret;

pub use admission::Admission;
pub use failure::Failure;
pub use provider::{Beginning, Provider, SignedIn};
pub use seal::LoginSeal;
pub use settings::{Kind, Settings};
use spent::Spent;

/// Why providers cannot be asked at all.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A certificate authority of a `ca_file`, or TLS itself.
    #[error("the provider {0:?}: {1}")]
    Outbound(String, #[source] outbound::SetupError),
    /// No key to seal pending sign-ins.
    #[error(transparent)]
    Seal(#[from] seal::CannotSeal),
}

/// Every provider, and what was begun with them.
pub struct Providers {
    all: Vec<Arc<Provider>>,
    /// Seals what browsers keep meanwhile.
    pub seal: LoginSeal,
    spent: Spent,
    doorway: admission::Doorway,
    clock: Clock,
}

impl Providers {
    /// Starts all of them; their metadata and keys are fetched on `runtime`.
    pub fn start(
        settings: Vec<Settings>,
        master: &Secret,
        previous: &[Secret],
        clock: Clock,
        runtime: &Handle,
    ) -> Result<Self, SetupError> {
        let all = settings
            .into_iter()
            .map(|settings| {
                let outbound = outbound_for(&settings)?;
                Ok(Arc::new(Provider::start(
                    settings,
                    outbound,
                    runtime.clone(),
                )))
            })
            .collect::<Result<_, SetupError>>()?;
        Ok(Providers {
            all,
            seal: LoginSeal::new(master, previous)?,
            spent: Spent::default(),
            doorway: admission::Doorway::default(),
            clock,
        })
    }

    /// By its configured name.
    pub fn find(&self, name: &str) -> Option<&Arc<Provider>> {
        self.all
            .iter()
            .find(|provider| provider.settings().name == name)
    }

    /// All, in the order of the configuration.
    pub fn all(&self) -> &[Arc<Provider>] {
        &self.all
    }

    /// Whether a callback from this address may be looked at, or in how long it may.
    pub fn admit(&self, addr: ClientAddr, now: Timestamp) -> Result<Admission<'_>, Duration> {
        self.doorway.admit(addr, now)
    }

    /// Marks a sign-in as used; `false` when this node has seen it used before. The cookie says so too, but whoever has a
    /// copy of an older one must not use it twice.
    pub fn spend(&self, id: &str) -> bool {
        self.spent.add(id)
    }

    /// Whether this node has seen it used.
    pub fn is_spent(&self, id: &str) -> bool {
        self.spent.has(id)
    }
}

/// What a provider is called with.
pub fn outbound_for(settings: &Settings) -> Result<Outbound, SetupError> {
    let ca = settings.ca.clone();
    Outbound::new(outbound::Settings { ca })
        .map_err(|error| SetupError::Outbound(settings.name.clone(), error))
}
