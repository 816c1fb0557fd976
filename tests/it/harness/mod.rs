//! What the tests are written with: a gateway, an app behind it, clients in front of it, and things that break.
//!
//! Must not decide what is right: that is what the tests say.

pub mod app;
pub mod browser;
pub mod chaos;
pub mod client;
pub mod clock;
pub mod folder;
pub mod forge;
pub mod gateway;
pub mod home;
pub mod hub;
pub mod jose;
pub mod maker;
pub mod node;
pub mod nodes;
pub mod person;
pub mod plain;
pub mod prepared;
pub mod provider;
pub mod python;
pub mod redis;
pub mod rogue;
pub mod wait;
pub mod webdriver;

pub use app::App;
pub use browser::Browser;
pub use client::Ask;
pub use gateway::Gateway;
pub use hub::Hub;
pub use nodes::Nodes;
pub use person::Person;
pub use provider::Provider;
pub use rogue::Rogue;

/// The name under which every test gateway is known to its users.
pub const HOST: &str = "app.test";
/// Its origin.
pub const ORIGIN: &str = "https://app.test";
/// The access cookie.
pub const ACCESS: &str = "__Host-vestibule-access";
/// The refresh cookie.
pub const REFRESH: &str = "__Host-vestibule-refresh";
/// Everybody's password.
pub const PASSWORD: &str = "correct horse battery staple 7!";
