//! Who can be mistaken for whom: ways of signing in that may know different people by the same name.
//!
//! Inside the gateway a person is their provider and their name there, and so is a group; rules may hold the name alone, and
//! identity headers and `sub` of the assertion do. Must not refuse anything: names may well be the same people's everywhere.

use super::Reader;
use super::upstream::Named;
use crate::auth::claims::ClaimMap;
use crate::auth::route::Route;
use crate::config::External;
use crate::config::file::Section;
use crate::login::local;
use crate::login::oidc::settings::{Kind, Settings};
use crate::upstream::Claim;
use crate::{bearer, external};

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
        let people = |issuer: &str, map: &ClaimMap| Some((issuer.to_owned(), map.user.to_string()));
        let local = self.local.then(|| (None, "[login.local]".to_owned()));
        let providers = self.providers.iter().map(|one| match &one.kind {
            Kind::OpenId { issuer } => (
                people(issuer, &one.claims.map),
                format!("[login.oidc.{}]", one.name),
            ),
            Kind::OAuth2(_) => (None, format!("[login.oauth2.{}]", one.name)),
        });
        let external = self.external.iter().map(|one| {
            let settings = &one.settings;
            (
                people(&settings.issuer, &settings.claims),
                "[external]".to_owned(),
            )
        });
        let bearers = self.bearers.iter().map(|one| {
            (
                people(&one.issuer, &one.claims),
                format!("[[bearer]] {:?}", one.issuer),
            )
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

/// What identities and rules call every way of signing in that the file has, whether or not it is written well.
pub(super) fn names(root: &Section<'_>) -> Vec<String> {
    let mut names = logins(root);
    for table in root.sections("bearer") {
        if let Some(issuer) = table.text("issuer") {
            names.push((*issuer.get_ref()).to_owned());
        }
    }
    names
}

/// Those of them by which people sign in.
pub(super) fn logins(root: &Section<'_>) -> Vec<String> {
    let login = root.section("login");
    let mut names = Vec::new();
    if login.section("local").is_present() {
        names.push(local::PROVIDER.to_owned());
    }
    for kind in ["oidc", "oauth2"] {
        for (name, _) in login.section(kind).named() {
            names.push((*name.get_ref()).to_owned());
        }
    }
    if root.section("external").is_present() {
        names.push(external::PROVIDER.to_owned());
    }
    names
}

/// Says where the same name from two ways is one person, and what to do about it; of a file that can be used.
pub(super) fn one_name_for_two_people(
    reader: &Reader<'_>,
    root: &Section<'_>,
    ways: &Ways<'_>,
    upstreams: &[Named],
    routes: &[Route],
) {
    let apart = ways.told_apart();
    if apart.len() < 2 || reader.problems.has_errors() {
        return;
    }
    let ways = apart.join(", ");
    for key in ["users", "groups"] {
        let alone = root
            .sections("route")
            .iter()
            .zip(routes)
            .find_map(|(table, route)| {
                let names = match key {
                    "users" => &route.allow.users,
                    _ => &route.allow.groups,
                };
                let texts = table.section("allow").texts(key)?;
                let (name, text) = names
                    .iter()
                    .zip(texts)
                    .find(|(name, _)| name.provider.is_none())?;
                Some((name.to_string(), text.span()))
            });
        if let Some((name, span)) = alone {
            let whose: Vec<_> = names(root)
                .iter()
                .map(|provider| format!("\"{provider}:{name}\""))
                .collect();
            reader.problems.warning(
                span,
                format!("`allow.{key}` admits by the name {name:?} whichever way somebody signs in: {ways}"),
                &format!("say whose name it is, or all of them: {}", whose.join(", ")),
            );
        }
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
