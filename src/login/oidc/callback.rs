//! How a browser comes back from a provider: the parameters are read strictly, tied to a sign-in that this browser began,
//! and the answer's issuer is compared before anything is sent to anybody (RFC 6749 section 4.1.2, RFC 9207).
//!
//! Must not believe anything of the query before its `state` was found in this browser's cookie.

use super::pending::{Jar, Pending, State};
use super::seal::LoginSeal;
use crate::clock::Timestamp;
use crate::login::form;

/// Longest authorization code that is sent on, in bytes.
const MAX_CODE: usize = 2048;
/// How much of a provider's own words is shown or logged, in characters.
const MAX_WORDS: usize = 300;
/// Longest error code that is taken for one, in bytes; registered ones have at most 26.
const MAX_ERROR: usize = 40;
/// Stands for what is no error code.
const NO_CODE: &str = "unreadable_error";
/// How often a sign-in whose cookie was lost is begun anew by itself.
pub const TRIES: u8 = 2;

/// What a callback came to, before anybody was asked.
pub enum Callback {
    /// The code of a sign-in that this browser began.
    Code {
        /// What was begun; it has been taken out of the jar.
        pending: Pending,
        /// To be redeemed.
        code: String,
    },
    /// The provider says that it did not sign anybody in.
    Declined {
        /// What was begun; it has been taken out of the jar.
        pending: Pending,
        /// What it says.
        error: ProviderError,
    },
    /// Nothing of it can be used.
    Refused(Refused),
}

/// Why nothing of a callback can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The query is broken: a parameter twice, a bad encoding, neither code nor error (attacks E10).
    Malformed,
    /// `state` is missing, or none that this gateway made (attacks E01, E02).
    UnknownState,
    /// The sign-in took longer than it may.
    Expired,
    /// `state` is ours, but no sign-in of this browser: begun elsewhere (attacks E04), used already (E03), or its cookie
    /// was lost when several tabs began at once.
    NotThisBrowser {
        /// Its id.
        id: String,
        /// Where that sign-in was to lead to; perhaps empty.
        return_to: String,
        /// How often it was begun anew already.
        again: u8,
    },
    /// The answer comes from another issuer, or does not say from which although this one always does (RFC 9207
    /// section 2.4; attacks E06).
    WrongIssuer,
}

/// What a provider says when it signs nobody in (RFC 6749 section 4.1.2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderError {
    /// The code, such as `access_denied`; made by [`error_code`].
    pub code: String,
    /// Its own words, if any; without control characters, bounded. To be escaped wherever it is shown, and never logged: it may
    /// repeat a code or a token that was sent.
    pub description: Option<String>,
}

/// Which issuer an answer must name.
#[derive(Clone, Copy, Debug)]
pub struct IssuerRule<'a> {
    /// The provider's issuer; `None` for OAuth 2 services that have none.
    pub issuer: Option<&'a str>,
    /// Whether its metadata says `authorization_response_iss_parameter_supported`.
    pub always_named: bool,
}

/// Judges a callback. The sign-in is taken out of `jar` whatever becomes of it: a `state` works once.
pub fn judge(
    query: Option<&str>,
    provider: &str,
    rule: IssuerRule<'_>,
    jar: &mut Jar,
    seal: &LoginSeal,
    now: Timestamp,
) -> Callback {
    match read(query, provider, rule, jar, seal, now) {
        Ok(callback) => callback,
        Err(refused) => Callback::Refused(refused),
    }
}

fn read(
    query: Option<&str>,
    provider: &str,
    rule: IssuerRule<'_>,
    jar: &mut Jar,
    seal: &LoginSeal,
    now: Timestamp,
) -> Result<Callback, Refused> {
    let form = form::parse(query.unwrap_or_default().as_bytes()).map_err(|_| Refused::Malformed)?;
    let state = form
        .field("state")
        .and_then(|text| State::open(text, seal))
        .filter(|state| state.provider == provider)
        .ok_or(Refused::UnknownState)?;
    let pending = jar.take(&state.id, provider);
    if !state.is_fresh(now) {
        return Err(Refused::Expired);
    }
    let pending = pending.ok_or(Refused::NotThisBrowser {
        id: state.id,
        return_to: state.return_to,
        again: state.again,
    })?;
    match (form.field("iss"), rule.issuer) {
        (Some(named), Some(issuer)) if named == issuer => {}
        (None, _) if !rule.always_named => {}
        // A service without an issuer cannot be told from another by one.
        (Some(_), None) => {}
        _ => return Err(Refused::WrongIssuer),
    }
    match (form.field("code"), form.field("error")) {
        (Some(code), None) if is_code(code) => Ok(Callback::Code {
            pending,
            code: code.to_owned(),
        }),
        (None, Some(error)) => Ok(Callback::Declined {
            pending,
            error: ProviderError {
                code: error_code(error),
                description: form
                    .field("error_description")
                    .map(printable)
                    .filter(|text| !text.is_empty()),
            },
        }),
        _ => Err(Refused::Malformed),
    }
}

/// RFC 6749 appendix A.11: visible ASCII and spaces.
fn is_code(code: &str) -> bool {
    (1..=MAX_CODE).contains(&code.len()) && code.bytes().all(|byte| (0x20..=0x7e).contains(&byte))
}

/// An error code in the characters of RFC 6749 section 5.2, and short; anything else is [`NO_CODE`].
pub fn error_code(text: &str) -> String {
    let fits = |byte| matches!(byte, 0x20..=0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    match (1..=MAX_ERROR).contains(&text.len()) && text.bytes().all(fits) {
        true => text.to_owned(),
        false => NO_CODE.to_owned(),
    }
}

/// Somebody else's words as one short line.
pub fn printable(words: &str) -> String {
    let mut text = String::new();
    for word in words
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
    {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(word);
    }
    match text.char_indices().nth(MAX_WORDS) {
        Some((cut, _)) => format!("{}…", text.get(..cut).unwrap_or_default()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::pending::LIFETIME;
    use super::super::seal::tests::seal;
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
    const ISSUER: &str = "https://id.example.com";
    const SOMETIMES: IssuerRule<'_> = IssuerRule {
        issuer: Some(ISSUER),
        always_named: false,
    };
    const ALWAYS: IssuerRule<'_> = IssuerRule {
        issuer: Some(ISSUER),
        always_named: true,
    };

    fn encoded(text: &str) -> String {
        percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
    }

    /// A jar with one sign-in, and its state.
    fn begun() -> (Jar, String) {
        let pending = Pending::begin("corp", "/place", NOW).unwrap();
        let state = pending.state(0).seal(&seal()).unwrap();
        let mut jar = Jar::default();
        jar.add(pending);
        (jar, state)
    }

    fn word(callback: &Callback) -> String {
        match callback {
            Callback::Code { pending, code } => format!("code {code} to {}", pending.return_to),
            Callback::Declined { error, .. } => format!(
                "declined {}: {}",
                error.code,
                error.description.as_deref().unwrap_or("-")
            ),
            Callback::Refused(refused) => format!("{refused:?}"),
        }
    }

    #[test]
    fn what_comes_back_is_judged() {
        let check = |query: &str, rule, want: &str| {
            let (mut jar, state) = begun();
            let query = query.replace("STATE", &state);
            let found = judge(Some(&query), "corp", rule, &mut jar, &seal(), NOW);
            assert_eq!(word(&found), want, "{query}");
        };
        let iss = encoded(ISSUER);
        check("state=STATE&code=c0de", SOMETIMES, "code c0de to /place");
        check(
            &format!("state=STATE&code=c0de&iss={iss}&session_state=x"),
            SOMETIMES,
            "code c0de to /place",
        );
        check(
            &format!("state=STATE&code=c0de&iss={iss}"),
            ALWAYS,
            "code c0de to /place",
        );
        // E06
        check("state=STATE&code=c0de", ALWAYS, "WrongIssuer");
        for other in [
            "https://evil",
            "https://id.example.com/",
            "HTTPS://id.example.com",
            "",
        ] {
            let query = format!("state=STATE&code=c0de&iss={}", encoded(other));
            check(&query, SOMETIMES, "WrongIssuer");
            check(
                &query.replace("code=c0de", "error=x"),
                ALWAYS,
                "WrongIssuer",
            );
        }
        // E01, E02
        check("code=c0de", SOMETIMES, "UnknownState");
        check("state=&code=c0de", SOMETIMES, "UnknownState");
        check(
            "state=AAAAAAAAAAAAAAAAAAAAAA&code=c0de",
            SOMETIMES,
            "UnknownState",
        );
        check("state=STATEA&code=c0de", SOMETIMES, "UnknownState");
        // E10
        check("state=STATE&state=STATE&code=a", SOMETIMES, "Malformed");
        check("state=STATE&code=a&code=b", SOMETIMES, "Malformed");
        check("state=STATE&code=a&%63ode=a", SOMETIMES, "Malformed");
        check("state=STATE&code=%zz", SOMETIMES, "Malformed");
        check("state=STATE", SOMETIMES, "Malformed");
        check("state=STATE&code=a&error=b", SOMETIMES, "Malformed");
        check("state=STATE&code=", SOMETIMES, "Malformed");
        check("state=STATE&code=a%0Ab", SOMETIMES, "Malformed");
        check("state=STATE&code=%C3%A9", SOMETIMES, "Malformed");
        check(
            &format!("state=STATE&code={}", "x".repeat(2049)),
            SOMETIMES,
            "Malformed",
        );
        // What the provider says.
        check(
            "state=STATE&error=access_denied&error_description=No%0D%0Away%00%20%20you",
            SOMETIMES,
            "declined access_denied: No way you",
        );
        check("state=STATE&error=x", SOMETIMES, "declined x: -");
        // E11: nothing of it is believed without a state.
        check("error=%3Cscript%3E", SOMETIMES, "UnknownState");
    }

    #[test]
    fn a_service_without_issuer_needs_none() {
        let rule = IssuerRule {
            issuer: None,
            always_named: false,
        };
        for query in [
            "state=STATE&code=c",
            "state=STATE&code=c&iss=https%3A%2F%2Fx",
        ] {
            let (mut jar, state) = begun();
            let query = query.replace("STATE", &state);
            let found = judge(Some(&query), "corp", rule, &mut jar, &seal(), NOW);
            assert_eq!(word(&found), "code c to /place");
        }
    }

    #[test]
    fn e03_a_state_works_once_and_in_its_browser_only() {
        let (mut jar, state) = begun();
        let query = format!("state={state}&code=c");
        let ask =
            |jar: &mut Jar, now| word(&judge(Some(&query), "corp", SOMETIMES, jar, &seal(), now));
        // E04: another browser.
        let elsewhere = ask(&mut Jar::default(), NOW);
        assert!(elsewhere.starts_with("NotThisBrowser"), "{elsewhere}");
        assert_eq!(ask(&mut jar, NOW), "code c to /place");
        assert!(ask(&mut jar, NOW).starts_with("NotThisBrowser"));
        let end = NOW.plus(LIFETIME);
        let (mut late, _) = begun();
        assert_eq!(ask(&mut late, end), "Expired");
        let last = end.minus(Duration::from_millis(1));
        assert!(ask(&mut late, last).starts_with("NotThisBrowser"));
    }

    #[test]
    fn a_state_of_one_provider_is_none_of_another() {
        let (mut jar, state) = begun();
        let query = format!("state={state}&code=c");
        let found = judge(Some(&query), "other", SOMETIMES, &mut jar, &seal(), NOW);
        assert_eq!(word(&found), "UnknownState");
        assert_eq!(jar.len(), 1, "the sign-in itself goes on");
    }

    #[test]
    fn even_a_refused_answer_spends_its_state() {
        for rest in ["code=c&iss=https%3A%2F%2Fevil", "code=", "error=x"] {
            let (mut jar, state) = begun();
            let query = format!("state={state}&{rest}");
            let _ = judge(Some(&query), "corp", SOMETIMES, &mut jar, &seal(), NOW);
            assert!(jar.is_empty(), "{rest}");
        }
    }

    #[test]
    fn words_of_others_are_one_short_line() {
        assert_eq!(printable("  a\u{0}\n b\u{85}c "), "a b c");
        assert_eq!(printable(&"x".repeat(301)).chars().count(), 301);
        assert_eq!(printable(&"é".repeat(300)), "é".repeat(300));
    }
}
