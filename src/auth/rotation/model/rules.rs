//! The rule under test, and rules that look plausible and are wrong: the model must find each of them out.

use super::super::*;

type Judge = fn(&SessionRecord, Generation, &Client, &Windows, Timestamp) -> Verdict;
type Apply = fn(&SessionRecord, Verdict, Generation, &Client, &Windows, Timestamp) -> SessionRecord;

/// What a store compares before it sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::auth::rotation) enum Compares {
    /// That it is the very write that was read.
    Revisions,
    /// Only that as many writes were made: after a failover another write may have the number of a lost one.
    Numbers,
    /// Nothing.
    Nothing,
}

/// What decides. Everything else in the model is the world.
#[derive(Clone, Copy)]
pub(in crate::auth::rotation) struct Rules {
    pub(in crate::auth::rotation) judge: Judge,
    pub(in crate::auth::rotation) apply: Apply,
    pub(in crate::auth::rotation) sight: fn(&SessionRecord, Generation) -> Sighting,
    pub(in crate::auth::rotation) is_late: fn(Generation, Timestamp, Duration, Timestamp) -> bool,
    pub(in crate::auth::rotation) compares: Compares,
    /// Whether a request is still judged when it was answered already.
    pub(in crate::auth::rotation) judges_for_nobody: bool,
}

/// The rule as it is.
pub(in crate::auth::rotation) const OURS: Rules = Rules {
    judge,
    apply,
    sight,
    is_late,
    compares: Compares::Revisions,
    judges_for_nobody: false,
};

const fn judged(judge: Judge) -> Rules {
    Rules { judge, ..OURS }
}

/// Everybody gets the same successor while it is unacknowledged.
pub(in crate::auth::rotation) const SAME_FOR_EVERYONE: Rules =
    judged(|session, presented, client, windows, now| {
        match judge(session, presented, client, windows, now) {
            Verdict::Serve | Verdict::Reissue if session.lineage.acknowledged_at.is_none() => {
                Verdict::Redeliver
            }
            verdict => verdict,
        }
    });

/// Whoever comes within the window gets the pair again, from wherever.
pub(in crate::auth::rotation) const ANY_CLIENT: Rules =
    judged(|session, presented, _, windows, now| {
        judge(session, presented, &session.lineage.client, windows, now)
    });

/// Every spent token is a replay.
pub(in crate::auth::rotation) const NO_MERCY: Rules =
    judged(|session, presented, client, windows, now| {
        match judge(session, presented, client, windows, now) {
            Verdict::Serve | Verdict::Redeliver | Verdict::Reissue => Verdict::Replay,
            verdict => verdict,
        }
    });

/// A spent token is never a replay.
pub(in crate::auth::rotation) const ALL_MERCY: Rules =
    judged(|session, presented, client, windows, now| {
        match judge(session, presented, client, windows, now) {
            Verdict::Replay => Verdict::Reissue,
            verdict => verdict,
        }
    });

/// An old token is refused without a word, and the session goes on.
pub(in crate::auth::rotation) const SILENT: Rules =
    judged(|session, presented, client, windows, now| {
        match judge(session, presented, client, windows, now) {
            Verdict::Replay => Verdict::Serve,
            verdict => verdict,
        }
    });

/// No grace after the acknowledgement.
pub(in crate::auth::rotation) const NO_GRACE: Rules =
    judged(|session, presented, client, windows, now| {
        let replay_grace = Duration::ZERO;
        let windows = Windows {
            replay_grace,
            ..*windows
        };
        judge(session, presented, client, &windows, now)
    });

/// The grace is counted from the issue.
pub(in crate::auth::rotation) const GRACE_FROM_ISSUE: Rules =
    judged(|session, presented, client, windows, now| {
        let mut session = session.clone();
        let lineage = &mut session.lineage;
        lineage.acknowledged_at = lineage.acknowledged_at.map(|_| lineage.issued_at);
        judge(&session, presented, client, windows, now)
    });

/// The window closes before the answers under way have arrived.
pub(in crate::auth::rotation) const SHORT_WINDOW: Rules =
    judged(|session, presented, client, windows, now| {
        let redelivery = windows.redelivery / 3;
        let windows = Windows {
            redelivery,
            ..*windows
        };
        judge(session, presented, client, &windows, now)
    });

/// A lost answer is never replaced.
pub(in crate::auth::rotation) const NO_REISSUE: Rules =
    judged(|session, presented, client, windows, now| {
        match judge(session, presented, client, windows, now) {
            Verdict::Reissue => Verdict::Serve,
            verdict => verdict,
        }
    });

/// What was abandoned still renews.
pub(in crate::auth::rotation) const NOTHING_ABANDONED: Rules =
    judged(|session, presented, client, windows, now| {
        match judge(session, presented, client, windows, now) {
            Verdict::Replay if session.lineage.parent < Some(presented) => Verdict::Rotate,
            verdict => verdict,
        }
    });

/// A store that forgot its last write logs people out.
pub(in crate::auth::rotation) const NO_HEAL: Rules =
    judged(|session, presented, client, windows, now| {
        match judge(session, presented, client, windows, now) {
            Verdict::Heal => Verdict::Refuse(Refusal::Ahead),
            verdict => verdict,
        }
    });

/// The end of a session is not asked for.
pub(in crate::auth::rotation) const NO_END: Rules =
    judged(|session, presented, client, windows, now| {
        let revoked_at = None;
        let session = SessionRecord {
            revoked_at,
            ..session.clone()
        };
        judge(&session, presented, client, windows, now)
    });

/// Every answer carries its pair, however late.
pub(in crate::auth::rotation) const NEVER_LATE: Rules = Rules {
    is_late: |_, _, _, _| false,
    ..OURS
};

/// Nothing is acknowledged by an access token.
pub(in crate::auth::rotation) const DEAF: Rules = Rules {
    sight: |_, _| Sighting::Nothing,
    ..OURS
};

/// A re-issue makes the unacknowledged generation the parent.
pub(in crate::auth::rotation) const REISSUE_MOVES_PARENT: Rules = Rules {
    apply: |session, verdict, presented, client, windows, now| {
        let verdict = match verdict {
            Verdict::Reissue => Verdict::Rotate,
            verdict => verdict,
        };
        apply(session, verdict, presented, client, windows, now)
    },
    ..OURS
};

/// A rotation does not say when.
pub(in crate::auth::rotation) const OLD_ISSUE: Rules = Rules {
    apply: |session, verdict, presented, client, windows, now| {
        let mut next = apply(session, verdict, presented, client, windows, now);
        next.lineage.issued_at = session.lineage.issued_at;
        next
    },
    ..OURS
};

/// Two nodes write without looking.
pub(in crate::auth::rotation) const BLIND_WRITES: Rules = Rules {
    compares: Compares::Nothing,
    ..OURS
};

/// Two nodes compare numbers that come again after a failover.
pub(in crate::auth::rotation) const NUMBERS: Rules = Rules {
    compares: Compares::Numbers,
    ..OURS
};

/// What a request would have meant is found out, and acted upon, long after it was answered.
pub(in crate::auth::rotation) const JUDGES_FOR_NOBODY: Rules = Rules {
    judges_for_nobody: true,
    ..OURS
};
