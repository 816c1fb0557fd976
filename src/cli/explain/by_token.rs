//! Whom the explained request is from when a token on stdin says it. Must not know routes.

use std::process::ExitCode;

use super::asker::{Asker, Found, anonymous, several_ways};
use crate::auth::decision::{AccessFinding, AnonymousReason, RefreshFinding, decide};
use crate::auth::subject::Proof;
use crate::cli::foreign::{self, Judged};
use crate::cli::operate::not_done;
use crate::cli::{bad_usage, presented};
use crate::clock::Clock;
use crate::config::Config;
use crate::external::CheckError;

/// Whoever the token on stdin says, judged as by a running gateway; on errors says them.
pub(super) fn asker(config: &Config) -> Result<Asker, ExitCode> {
    if config.bearers.is_empty() && config.external.is_none() {
        return Err(bad_usage(
            "--token judges tokens of others: there is neither [[bearer]] nor [external]",
        ));
    }
    let token = presented::token(config, "vestibule explain METHOD URL --token")?;
    let judged = foreign::judge(config, &token, Clock::System.now());
    let judged = judged.map_err(|error| not_done(&error))?;
    // The same issuer's token may come in either place: where it is good, or else as a bearer token.
    let (good, bad): (Vec<_>, Vec<_>) = judged
        .into_iter()
        .partition(|one| one.in_words(config, &token).0);
    let Some(judged) = good.into_iter().chain(bad).next() else {
        let who = "not signed in: the token is of no issuer that is known here; of a session's own `vestibule token inspect` says more";
        return Ok(Asker::unknown(who.to_owned(), Found::Stranger));
    };
    let (_, words) = judged.in_words(config, &token);
    let found = match judged {
        Judged::Bearer(Ok(subject)) | Judged::External(Ok(subject)) => {
            let by_cookie = matches!(subject.proof(), Proof::External(_));
            let mut asker = Asker::somebody(subject, several_ways(config));
            if by_cookie {
                asker.who.push_str(", by the access cookie of [external]");
            }
            return Ok(asker);
        }
        Judged::Bearer(Err(why)) => match why.refusal() {
            Some(refusal) => anonymous(AnonymousReason::Bearer(refusal)),
            None => Found::Unjudged,
        },
        Judged::External(Err(CheckError::NoKeys)) => Found::Unjudged,
        Judged::External(Err(why)) => {
            let external = config.external.as_ref();
            let renews = external.is_some_and(|external| external.settings.refresh.is_some());
            let refresh = match renews {
                true => RefreshFinding::Foreign,
                false => RefreshFinding::Absent,
            };
            Found::Decided(decide(false, AccessFinding::Bad(why.in_short()), refresh))
        }
    };
    Ok(Asker::unknown(format!("not signed in: {words}"), found))
}
