//! The page with a person's own sessions: what they recognise each by, and a button to end it. Plain forms, no script.

use std::time::Duration;

use askama::Template;
use http::{Response, StatusCode};

use super::texts::{self, Texts};
use super::{Frame, View, answer};
use crate::body::Body;
use crate::clock::Timestamp;
use crate::login::device::Device;
use crate::login::language::Language;
use crate::login::me::rfc3339;
use crate::login::sessions::{Entry, Own};

/// What was just done on the page, said at its top.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionsNotice {
    /// One session was ended.
    Ended,
    /// That session was over already.
    Gone,
    /// All others were ended.
    OthersEnded,
}

#[derive(Template)]
#[template(path = "sessions.html")]
struct SessionsPage<'a> {
    frame: Frame<'a>,
    user: &'a str,
    notice: Option<&'static str>,
    cards: Vec<Card>,
    more: Option<String>,
    others: bool,
}

/// One session on the page.
struct Card {
    id: String,
    current: bool,
    title: String,
    address: String,
    seen: Moment,
    started: Moment,
}

/// A moment for programs and for people: absolute in UTC, because no page knows its reader's time zone, and how long ago.
struct Moment {
    machine: String,
    ago: String,
    date: String,
}

/// `GET /.auth/sessions`.
pub fn sessions(view: &View<'_>, own: &Own, notice: Option<SessionsNotice>) -> Response<Body> {
    let text = Texts::of(view.language);
    let html = SessionsPage {
        frame: Frame::new(view, text.sessions),
        user: &own.user,
        notice: notice.map(|notice| match notice {
            SessionsNotice::Ended => text.session_ended,
            SessionsNotice::Gone => text.session_gone,
            SessionsNotice::OthersEnded => text.others_ended,
        }),
        cards: own
            .entries
            .iter()
            .map(|entry| Card::of(entry, own, view.language))
            .collect(),
        more: (own.more > 0).then(|| texts::more_sessions(view.language, own.more)),
        others: own.entries.len() > 1,
    };
    answer(StatusCode::OK, view.language, &html, std::iter::empty())
}

impl Card {
    fn of(entry: &Entry, own: &Own, language: Language) -> Self {
        let since_seen = own.now.since(entry.last_seen_at);
        let seen = if entry.current {
            Texts::of(language).now.to_owned()
        } else if since_seen < own.precision {
            texts::within(language, since_seen)
        } else {
            texts::ago(language, since_seen)
        };
        let since_start = own.now.since(entry.started_at);
        let seen_at = if entry.current {
            own.now
        } else {
            entry.last_seen_at
        };
        Card {
            id: entry.session.to_string(),
            current: entry.current,
            title: title(&entry.device, language),
            address: entry.address.to_string(),
            seen: Moment::of(seen_at, seen),
            started: Moment::of(entry.started_at, started(language, since_start)),
        }
    }
}

/// "Firefox on Android".
fn title(device: &Device, language: Language) -> String {
    let browser = match device.browser.as_str() {
        "" => Texts::of(language).unknown_browser,
        name => name,
    };
    match device.system {
        Some(system) => texts::on(language, browser, system),
        None => browser.to_owned(),
    }
}

fn started(language: Language, since: Duration) -> String {
    if since < Duration::from_secs(60) {
        texts::within(language, since)
    } else {
        texts::ago(language, since)
    }
}

impl Moment {
    fn of(at: Timestamp, ago: String) -> Self {
        let date = jiff::Timestamp::from_second(at.as_secs())
            .map(|at| at.strftime("%Y-%m-%d %H:%M UTC").to_string())
            .unwrap_or_default();
        Moment {
            machine: rfc3339(at),
            ago,
            date,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{VIEW, html};
    use super::*;
    use crate::login::sessions::tests::{own, record};

    const PHONE: &str = "Mozilla/5.0 (Android 14; Mobile; rv:144.0) Gecko/144.0 Firefox/144.0";

    fn page(language: Language, own: &Own) -> String {
        let view = View { language, ..VIEW };
        html(sessions(&view, own, None))
    }

    #[test]
    fn each_session_is_told_apart_and_only_others_can_be_ended_here() {
        let own = own(1, vec![record(1, "curl/8", 200), record(2, PHONE, 7300)]).unwrap();
        let english = page(Language::English, &own);
        let (mine, other) = english.split_once("</li>").unwrap();
        assert!(mine.contains("This browser") && mine.contains("href=\"/.auth/logout\""));
        assert!(!mine.contains("<form"), "{mine}");
        for wanted in [
            "<h2 id=\"s2\">Firefox on Android</h2>",
            "192.0.2.2",
            "2 hours ago",
            "2027-01-15 05:58 UTC",
            "datetime=\"2027-01-15T05:58:20Z\"",
            "action=\"/.auth/sessions/end\"",
            "name=\"session\" value=\"AgICAgICAgICAgICAgICAg\"",
            "aria-describedby=\"s2\"",
            "action=\"/.auth/sessions/end-others\"",
        ] {
            assert!(other.contains(wanted), "{wanted} in {other}");
        }
        let korean = page(Language::Korean, &own);
        for wanted in ["이 브라우저", "Firefox(Android)", "2시간 전"] {
            assert!(korean.contains(wanted), "{wanted} in {korean}");
        }
    }

    #[test]
    fn a_lone_session_offers_nothing_to_end() {
        let own = own(1, vec![record(1, PHONE, 0)]).unwrap();
        assert!(!page(Language::English, &own).contains("<form"));
    }

    #[test]
    fn what_a_browser_calls_itself_is_escaped() {
        let own = own(1, vec![record(1, "<script>x", 0), record(2, "", 0)]).unwrap();
        let page = page(Language::English, &own);
        assert!(page.contains("&#60;script&#62;x") && page.contains("Unknown browser"));
    }
}
