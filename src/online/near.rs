//! What a gateway mostly has near it: the shared store and the upstreams. Must not write to either.

use std::time::Duration;

use super::{Finding, Section, Verdict};
use crate::store::redis;
use crate::upstream::{self, Settings};

/// Longest time for a connection to an upstream.
const CONNECT: Duration = Duration::from_secs(10);

/// Asks a shared store what it is.
pub(super) async fn store(settings: &redis::Settings) -> Section {
    let place = settings.address.to_string();
    let findings = match redis::look(settings.clone()).await {
        Err(error) => vec![Finding::of(
            Verdict::Problem,
            format!("{place}: {error}"),
            "compare the address, user, password and `store.ca`; is it running, and may this machine reach it?",
        )],
        Ok(found) => judge(&place, found),
    };
    Section::new("[store]".to_owned(), findings)
}

fn judge(place: &str, found: redis::Look) -> Vec<Finding> {
    let found = match found {
        redis::Look::Denied(reason) => {
            return vec![Finding::of(
                Verdict::Problem,
                format!(
                    "{place} answers, and lets its user do nothing with names that begin with vestibule: ({reason})"
                ),
                "set the user's rights there as docs/several-nodes.md says (\"an ACL user\"): ACL SETUSER",
            )];
        }
        redis::Look::Silent => {
            return vec![Finding::of(
                Verdict::Note,
                format!("{place} answers; its user may not ask what it is (INFO)"),
                "compare appendonly and maxmemory-policy by hand, or give the user +info",
            )];
        }
        redis::Look::Told(found) => found,
    };
    let mut findings = vec![Finding::good(format!("{place} answers: {}", found.server))];
    if found.append_only == Some(false) {
        findings.push(Finding::of(
            Verdict::Warning,
            "its data is in memory alone: a restart signs everybody out and forgets what was revoked".to_owned(),
            "set appendonly yes and appendfsync always",
        ));
    }
    if let Some(policy) = found.eviction.filter(|policy| policy != "noeviction") {
        findings.push(Finding::of(
            Verdict::Warning,
            format!("when its memory is full it throws sessions and revocations away (maxmemory-policy {policy})"),
            "set maxmemory-policy noeviction",
        ));
    }
    findings
}

/// Connects to each place of an upstream. An app that is not up yet is no fault of the configuration.
pub(super) async fn upstream(settings: &Settings) -> Section {
    let patience = settings.connect_timeout.min(CONNECT);
    let asked = settings
        .endpoints
        .iter()
        .map(async |endpoint| (endpoint, upstream::reach(endpoint, patience).await));
    let found = futures_util::future::join_all(asked).await;
    let mend = match found.iter().any(|(_, reached)| reached.is_ok()) {
        true => {
            "requests go to the others until it is there: is it running, and is that its address?"
        }
        false => "requests get 502 until it is there: is it running, and is that its address?",
    };
    let findings = found.into_iter().map(|(endpoint, reached)| match reached {
        Ok(()) => Finding::good(format!("{endpoint} takes connections")),
        Err(error) => Finding::of(
            Verdict::Warning,
            format!("{endpoint} cannot be connected to: {error}"),
            mend,
        ),
    });
    Section::new(
        format!("[[upstream]] {}", settings.name),
        findings.collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_upstream_is_away_when_all_of_its_places_are() {
        let folder = tempfile::tempdir().unwrap();
        let there = folder.path().join("there");
        let _listener = tokio::net::UnixListener::bind(&there).unwrap();
        let nowhere = folder.path().join("nowhere");
        let mends = async |places: &[&std::path::Path]| {
            let urls = places.iter().map(|path| format!("unix:{}", path.display()));
            let urls: Vec<_> = urls.collect();
            let file = format!(
                "[server]\norigin = \"https://app.example.com\"\n[tls]\nself_signed = true\n\
                [[upstream]]\nname = \"app\"\nurls = {urls:?}\n\
                [[route]]\nupstream = \"app\"\naccess = \"public\"\n"
            );
            let config = crate::config::parse(&file, "gateway.toml").unwrap();
            let findings = upstream(&config.upstreams[0]).await.findings;
            let mends = findings.into_iter().map(|finding| finding.mend);
            mends
                .map(|mend| mend.map(|mend| mend.split_once(" until").unwrap().0.to_owned()))
                .collect::<Vec<_>>()
        };
        let others = || Some("requests go to the others".to_owned());
        let nobody = || Some("requests get 502".to_owned());
        assert_eq!(mends(&[&nowhere]).await, [nobody()]);
        assert_eq!(mends(&[&nowhere, &there]).await, [others(), None]);
        assert_eq!(mends(&[&nowhere, &nowhere]).await, [nobody(), nobody()]);
    }

    #[test]
    fn a_store_that_forgets_is_a_warning() {
        let look = |append_only, eviction: &str| {
            redis::Look::Told(redis::Told {
                server: "Redis 7.0.15".to_owned(),
                append_only,
                eviction: Some(eviction.to_owned()),
            })
        };
        let warnings = |found| {
            let all = judge("redis://cache:6379", found);
            all.iter()
                .filter(|one| one.verdict == Verdict::Warning)
                .count()
        };
        assert_eq!(warnings(look(Some(true), "noeviction")), 0);
        assert_eq!(warnings(look(Some(false), "noeviction")), 1);
        assert_eq!(warnings(look(None, "allkeys-lru")), 1);
        assert_eq!(warnings(redis::Look::Silent), 0);
    }
}
