//! Which groups of a person anything here can ask for. What is left over need not travel in a cookie.

use std::collections::BTreeSet;

use super::upstream::Named;
use crate::auth::route::Route;
use crate::login::oidc::settings::Settings;
use crate::upstream::Claim;

/// The groups of a provider's people that access rules name, and its own `allow`, which is asked again at renewals, where the
/// provider may be silent about groups. `None`: all, because an upstream is told them.
pub(super) fn useful(
    routes: &[Route],
    upstreams: &[Named],
    provider: &Settings,
) -> Option<BTreeSet<String>> {
    let told = upstreams
        .iter()
        .map(|named| &named.settings)
        .any(|settings| {
            let mapped = settings.headers.0.iter();
            settings.assertion || mapped.into_iter().any(|(_, claim)| *claim == Claim::Groups)
        });
    let asked = routes.iter().flat_map(|route| &route.allow.groups);
    let theirs = asked.filter(|group| {
        let whose = group.provider.as_ref();
        whose.is_none_or(|whose| *whose == provider.name)
    });
    let own = provider.allow.groups.iter().cloned();
    (!told).then(|| theirs.map(|group| group.name.clone()).chain(own).collect())
}
