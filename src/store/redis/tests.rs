//! The store on real servers: the contract of every store, and what only a server can do to it.

#[path = "../../../tests/it/harness/redis.rs"]
mod server;

#[path = "../../../tests/it/harness/python.rs"]
mod python;

mod contract;
mod failing;
mod feed;

use std::sync::Arc;

use super::{Address, Redis, Settings, names};
use crate::clock::Clock;
use crate::store::StoreError;
use crate::store::conformance::NOW;
use crate::units::Secret;

fn settings(url: &str) -> Settings {
    Settings {
        address: Address::parse(url).unwrap(),
        user: None,
        password: None,
        sentinel_password: None,
        ca: None,
        replicas: 0,
    }
}

async fn open_with(settings: Settings) -> Result<Arc<Redis>, StoreError> {
    let clock = Clock::manual(NOW);
    Redis::open(settings, &Secret::new([7; 32]), &[], clock)
        .await
        .map(Arc::new)
}

async fn open(url: &str) -> Arc<Redis> {
    open_with(settings(url)).await.unwrap()
}
