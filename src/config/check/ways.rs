//! Who can be mistaken for whom: ways of signing in that may know different people by the same name.
//!
//! Inside the gateway a person is their provider and their name there; rules on users, identity headers and `sub` of the
//! assertion hold the name alone. Must not refuse anything: names may well be the same people's everywhere.

use super::Reader;
use super::upstream::Named;
use crate::bearer;
use crate::config::External;
use crate::config::file::Section;
use crate::login::oidc::settings::{Kind, Settings};
use crate::upstream::Claim;

/// Every way of signing in that is configured.
pub(super) struct Ways<'a> {
    pub(super) local: bool,
    pub(super) providers: &'a [Settings],
    pub(super) bearers: &'a [bearer::Settings],
    pub(super) external: Option<&'a External>,
}

impl Ways<'_> {
    /// As the file calls them; of those that name the same people (one issuer, one claim) the first.
    fn told_apart(&self) -> Vec<String> {
        let local = self.local.then(|| (None, "[login.local]".to_owned()));
        let providers = self.providers.iter().map(|one| match &one.kind {
            Kind::OpenId { issuer } => {
                let people = (issuer.clone(), one.claims.map.user.to_string());
                (Some(people), format!("[login.oidc.{}]", one.name))
            }
            Kind::OAuth2(_) => (None, format!("[login.oauth2.{}]", one.name)),
        });
        let external = self.external.iter().map(|one| {
            let people = (
                one.settings.issuer.clone(),
                one.settings.claims.user.to_string(),
            );
            (Some(people), "[external]".to_owned())
        });
        let bearers = self.bearers.iter().map(|one| {
            let people = (one.issuer.clone(), one.claims.user.to_string());
            (Some(people), format!("[[bearer]] {:?}", one.issuer))
        });
        let mut seen = Vec::new();
        let mut names = Vec::new();
        for (people, name) in local
            .into_iter()
            .chain(providers)
            .chain(external)
            .chain(bearers)
        {
            if people.is_some() && seen.contains(&people) {
                continue;
            }
            seen.push(people);
            names.push(name);
        }
        names
    }
}

/// Says where the same name from two ways is one person, and what to do about it; of a file that can be used.
pub(super) fn one_name_for_two_people(
    reader: &Reader<'_>,
    root: &Section<'_>,
    ways: &Ways<'_>,
    upstreams: &[Named],
) {
    let names = ways.told_apart();
    if names.len() < 2 || reader.problems.has_errors() {
        return;
    }
    let ways = names.join(", ");
    let rules = root.sections("route");
    let users = rules.iter().find_map(|table| {
        let users = table.section("allow").texts("users")?;
        users.first().map(toml::Spanned::span)
    });
    if let Some(span) = users {
        reader.problems.warning(
            span,
            format!("`allow.users` admits whoever has this name, whichever way they sign in: {ways}"),
            "if a name can be two people's: use `allow.emails`, limit who comes in with the provider's own `allow`, or take a claim for `claims.user` that no two share",
        );
    }
    let told_nothing_else = upstreams.iter().find(|named| {
        let mut headers = named.settings.headers.0.iter();
        let user =
            headers.any(|(_, claim)| matches!(claim, Claim::User | Claim::PreferredUsername));
        user && !named.settings.assertion
    });
    if let Some(named) = told_nothing_else {
        reader.problems.warning(
            named.span.clone(),
            format!(
                "to the upstream {:?} the same name from two ways of signing in is one person: {ways}",
                named.settings.name
            ),
            "if a name can be two people's: set `assertion = true` and let the app tell people apart by the pair of `provider` and `sub` in it, or take a claim for `claims.user` that no two share",
        );
    }
}
