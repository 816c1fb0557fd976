//! Which groups of a person anything here can ask for. What is left over need not travel in a cookie.

use std::collections::BTreeSet;

use super::upstream::Named;
use crate::auth::route::Route;
use crate::login::oidc::settings::Allow;
use crate::upstream::Claim;

/// The groups of all access rules; `None`: all, because an upstream is told them.
pub(super) fn useful(routes: &[Route], upstreams: &[Named]) -> Option<BTreeSet<String>> {
    let told = upstreams
        .iter()
        .map(|named| &named.settings)
        .any(|settings| {
            let mapped = settings.headers.0.iter();
            settings.assertion || mapped.into_iter().any(|(_, claim)| *claim == Claim::Groups)
        });
    let asked = routes.iter().flat_map(|route| &route.allow.groups);
    (!told).then(|| asked.cloned().collect())
}

/// With those that a provider's `allow` asks for: it asks again at renewals, where the provider may be silent about groups.
pub(super) fn with_those_of(
    allow: &Allow,
    useful: Option<&BTreeSet<String>>,
) -> Option<BTreeSet<String>> {
    let own = allow.groups.iter().cloned();
    useful.map(|useful| useful.iter().cloned().chain(own).collect())
}
