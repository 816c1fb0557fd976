//! Claims of others -> [`Identity`]: which claim is the user, the e-mail address, the groups, by configured paths.
//!
//! Pure, and strict about types and characters: a claim that cannot be carried whole and unambiguous in a header or a token
//! is refused with its name, never cut or cleaned. Must not know which provider it serves.

use std::fmt;

use crate::auth::Identity;
use crate::auth::access_token::{MAX_DATE, is_clean};
use crate::auth::strict_json::{Json, JsonError, MAX_FOREIGN_DEPTH, Object};
use crate::clock::Timestamp;

/// Longest text that is taken from a claim, in bytes.
pub const MAX_TEXT: usize = 1024;
/// Most groups of one person.
pub const MAX_GROUPS: usize = 1000;
/// Longest configured path, in bytes.
const MAX_PATH: usize = 256;

/// A set of claims: of a verified token, or of a userinfo answer. That it is true is for its maker to know.
#[derive(Clone, Debug)]
pub struct ClaimSet(Object);

impl ClaimSet {
    pub(crate) fn new(object: Object) -> Self {
        ClaimSet(object)
    }

    /// Reads a JSON object that is no token (OpenID Connect Core section 5.3.2, or a user API): strict, without duplicate
    /// members. `None` for anything else.
    pub fn from_json(bytes: &[u8]) -> Option<Self> {
        let read: Result<Object, JsonError> = Object::parse_within(bytes, MAX_FOREIGN_DEPTH);
        read.ok().map(ClaimSet)
    }

    /// These claims, and of `other` those that are missing here: an ID token and the userinfo answer about the same person.
    pub fn completed_by(mut self, other: &ClaimSet) -> Self {
        self.0.complete(other.0.clone());
        self
    }

    /// Whether there is a claim at a path.
    pub fn has_at(&self, path: &ClaimPath) -> bool {
        self.at(path).is_some()
    }

    /// Whether what is at a path can be carried as a text; nothing, null and an empty text can.
    pub fn is_carried_at(&self, path: &ClaimPath) -> bool {
        text(self, path, "").is_ok()
    }

    /// A text at a path, or a whole number written as one.
    pub fn text_at(&self, path: &ClaimPath) -> Option<String> {
        match self.at(path)? {
            Json::Text(text) if !text.is_empty() => Some(text.clone()),
            Json::Integer(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// What a path says: `true` or `false`, as such or, as some providers write it, as a text.
    pub fn flag_at(&self, path: &ClaimPath) -> Option<bool> {
        match self.at(path)? {
            Json::Bool(value) => Some(*value),
            Json::Text(text) if text.eq_ignore_ascii_case("true") => Some(true),
            _ => Some(false),
        }
    }

    /// Whether there is a claim of this name at the top.
    pub fn has(&self, name: &str) -> bool {
        self.0.has(name)
    }

    /// A claim at the top that is a text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.text(name)
    }

    /// A claim at the top that is `true` or `false`.
    pub fn flag(&self, name: &str) -> Option<bool> {
        match self.0.get(name)? {
            Json::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// A claim at the top that is a whole number.
    pub fn integer(&self, name: &str) -> Option<i64> {
        match self.0.get(name)? {
            Json::Integer(value) => Some(*value),
            _ => None,
        }
    }

    /// A claim at the top that is a list of nothing but texts.
    pub fn texts(&self, name: &str) -> Option<Vec<&str>> {
        match self.0.get(name)? {
            Json::Array(items) => items
                .iter()
                .map(|item| match item {
                    Json::Text(text) => Some(text.as_str()),
                    _ => None,
                })
                .collect(),
            _ => None,
        }
    }

    /// The names of the members of a claim at the top that is an object (`events` of a logout token).
    pub fn members(&self, name: &str) -> Option<Vec<&str>> {
        match self.0.get(name)? {
            Json::Object(object) => Some(object.members().map(|(name, _)| name).collect()),
            _ => None,
        }
    }

    /// The value at a path.
    pub(crate) fn at(&self, path: &ClaimPath) -> Option<&Json> {
        let mut object = &self.0;
        let mut rest = path.0.as_str();
        'descend: loop {
            for (at, _) in rest.match_indices('.') {
                let (name, tail) = (rest.get(..at)?, rest.get(at + 1..)?);
                if let Some(Json::Object(inner)) = object.get(name) {
                    (object, rest) = (inner, tail);
                    continue 'descend;
                }
            }
            return object.get(rest);
        }
    }
}

/// Where a claim is: names separated by dots. A name that itself contains dots (`https://example.com/roles`) is found too:
/// what leads into an object is followed first, and what is left is taken as one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimPath(String);

/// Why a path is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not the name of a claim: write it as in the token, with dots for claims within claims (\"realm_access.roles\")"
)]
pub struct NotAPath;

impl ClaimPath {
    /// Reads `"groups"`, `"realm_access.roles"`, `"https://example.com/roles"`.
    pub fn parse(text: &str) -> Result<Self, NotAPath> {
        let good = !text.is_empty()
            && text.len() <= MAX_PATH
            && is_clean(text)
            && !text.starts_with('.')
            && !text.ends_with('.');
        good.then(|| ClaimPath(text.to_owned())).ok_or(NotAPath)
    }
}

impl fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which claim is what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimMap {
    /// Who; must be there. A text, or a whole number (as some user APIs number people).
    pub user: ClaimPath,
    /// E-mail address; taken only when `email_verified` says that it is one, see [`ClaimMap::trust_email`].
    pub email: ClaimPath,
    /// Display name.
    pub name: ClaimPath,
    /// What the person likes to be called by programs.
    pub preferred_username: ClaimPath,
    /// A list of texts, or one text for one group.
    pub groups: ClaimPath,
    /// Whether an address is also taken where there is no `email_verified`. What is there and is not true denies it always.
    pub trust_email: bool,
}

/// The names of OpenID Connect Core section 5.1, and `groups`.
impl Default for ClaimMap {
    fn default() -> Self {
        let path = |name: &str| ClaimPath(name.to_owned());
        ClaimMap {
            user: path("sub"),
            email: path("email"),
            name: path("name"),
            preferred_username: path("preferred_username"),
            groups: path("groups"),
            trust_email: false,
        }
    }
}

/// What is wrong with a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimProblem {
    /// Not there, or null, or empty.
    #[error("is missing")]
    Missing,
    /// An e-mail address that anybody may have typed.
    #[error("is an e-mail address that is not said to be verified (email_verified; trust_email)")]
    Unverified,
    /// Neither a text nor what else may stand there.
    #[error("has the wrong type")]
    Type,
    /// Control characters: could not be a header, and could end a line of a log.
    #[error("contains control characters")]
    Characters,
    /// More than [`MAX_TEXT`] bytes.
    #[error("is longer than {MAX_TEXT} bytes")]
    TooLong,
    /// More than [`MAX_GROUPS`].
    #[error("lists more than {MAX_GROUPS} groups")]
    TooMany,
}

/// Which claim cannot be used, and why; names the configured path, never the value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the claim {path:?} (for {purpose}) {problem}")]
pub struct ClaimError {
    /// The key of the `claims` table: `user`, `email` …
    pub purpose: &'static str,
    /// Where it was looked for.
    pub path: String,
    /// What is wrong.
    pub problem: ClaimProblem,
}

impl ClaimMap {
    /// Who the claims are about. `provider` is the configured name of whoever made them; `otherwise` is the time of
    /// authentication where the claims have no `auth_time`. An address that is not verified is left out, and is no user.
    pub fn identity(
        &self,
        claims: &ClaimSet,
        provider: &str,
        otherwise: Timestamp,
    ) -> Result<Identity, ClaimError> {
        let user = match claims.at(&self.user) {
            Some(Json::Integer(number)) => number.to_string(),
            _ => text(claims, &self.user, "user")?
                .ok_or_else(|| problem(&self.user, "user", ClaimProblem::Missing))?,
        };
        let said = claims.flag_at(&ClaimPath("email_verified".to_owned()));
        let verified = said.unwrap_or(self.trust_email);
        if !verified && self.user == self.email {
            return Err(problem(&self.user, "user", ClaimProblem::Unverified));
        }
        let email = text(claims, &self.email, "email")?.filter(|_| verified);
        let auth_time = match claims.0.get("auth_time") {
            Some(Json::Integer(secs) | Json::Fraction(secs)) if (0..=MAX_DATE).contains(secs) => {
                Timestamp::from_secs(*secs)
            }
            _ => otherwise,
        };
        let amr = claims.texts("amr").unwrap_or_default();
        Ok(Identity {
            user,
            email,
            name: text(claims, &self.name, "name")?,
            preferred_username: text(claims, &self.preferred_username, "preferred_username")?,
            groups: groups(claims, &self.groups)?,
            provider: provider.to_owned(),
            auth_time,
            amr: amr
                .into_iter()
                .filter(|method| is_clean(method) && method.len() <= 32)
                .take(16)
                .map(str::to_owned)
                .collect(),
        })
    }
}

fn problem(path: &ClaimPath, purpose: &'static str, problem: ClaimProblem) -> ClaimError {
    ClaimError {
        purpose,
        path: path.0.clone(),
        problem,
    }
}

/// A text that can be carried, or none where there is none.
fn text(
    claims: &ClaimSet,
    path: &ClaimPath,
    purpose: &'static str,
) -> Result<Option<String>, ClaimError> {
    match claims.at(path) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::Text(text)) if text.is_empty() => Ok(None),
        Some(Json::Text(text)) => match carried(text) {
            Ok(()) => Ok(Some(text.clone())),
            Err(why) => Err(problem(path, purpose, why)),
        },
        Some(_) => Err(problem(path, purpose, ClaimProblem::Type)),
    }
}

/// Whether a text can be in a header and a token whole.
fn carried(text: &str) -> Result<(), ClaimProblem> {
    if text.len() > MAX_TEXT {
        return Err(ClaimProblem::TooLong);
    }
    match is_clean(text) {
        true => Ok(()),
        false => Err(ClaimProblem::Characters),
    }
}

/// Groups in their order, each once; empty ones are none.
fn groups(claims: &ClaimSet, path: &ClaimPath) -> Result<Vec<String>, ClaimError> {
    let wrong = |why| problem(path, "groups", why);
    let items = match claims.at(path) {
        None | Some(Json::Null) => return Ok(Vec::new()),
        Some(Json::Array(items)) => items.as_slice(),
        Some(one @ Json::Text(_)) => std::slice::from_ref(one),
        Some(_) => return Err(wrong(ClaimProblem::Type)),
    };
    if items.len() > MAX_GROUPS {
        return Err(wrong(ClaimProblem::TooMany));
    }
    let mut groups: Vec<String> = Vec::with_capacity(items.len());
    for item in items {
        let Json::Text(group) = item else {
            return Err(wrong(ClaimProblem::Type));
        };
        carried(group).map_err(wrong)?;
        if !group.is_empty() && !groups.contains(group) {
            groups.push(group.clone());
        }
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::test_support::NOW;

    fn set(json: &str) -> ClaimSet {
        ClaimSet::from_json(json.as_bytes()).unwrap()
    }

    fn map(user: &str, groups: &str) -> ClaimMap {
        ClaimMap {
            user: ClaimPath::parse(user).unwrap(),
            groups: ClaimPath::parse(groups).unwrap(),
            ..ClaimMap::default()
        }
    }

    #[test]
    fn claims_are_completed_and_never_replaced() {
        let both =
            set(r#"{"sub":"1","a":null}"#).completed_by(&set(r#"{"sub":"2","a":"x","b":7}"#));
        let at = |name: &str| both.text_at(&ClaimPath::parse(name).unwrap());
        assert_eq!(at("sub").as_deref(), Some("1"));
        assert_eq!(at("a"), None);
        assert_eq!(at("b").as_deref(), Some("7"));
    }

    #[test]
    fn flags_are_read_as_providers_write_them() {
        let claims = set(r#"{"a":true,"b":"True","c":"yes","d":1,"e":false,"f":null}"#);
        let flag = |name: &str| claims.flag_at(&ClaimPath::parse(name).unwrap());
        assert_eq!((flag("a"), flag("b")), (Some(true), Some(true)));
        for name in ["c", "d", "e", "f"] {
            assert_eq!(flag(name), Some(false), "{name}");
        }
        assert_eq!(flag("g"), None);
    }

    #[test]
    fn standard_claims_make_an_identity() {
        let claims = set(
            r#"{"sub":"248289","email":"a@example.com","email_verified":true,"name":"Ada 에이다",
            "preferred_username":"ada","groups":["staff","dev","staff",""],"auth_time":1700000000,"amr":["pwd","otp"]}"#,
        );
        let identity = ClaimMap::default().identity(&claims, "corp", NOW).unwrap();
        assert_eq!(
            identity,
            Identity {
                user: "248289".to_owned(),
                email: Some("a@example.com".to_owned()),
                name: Some("Ada 에이다".to_owned()),
                preferred_username: Some("ada".to_owned()),
                groups: vec!["staff".to_owned(), "dev".to_owned()],
                provider: "corp".to_owned(),
                auth_time: Timestamp::from_secs(1_700_000_000),
                amr: vec!["pwd".to_owned(), "otp".to_owned()],
            }
        );
    }

    #[test]
    fn what_is_absent_stays_absent() {
        let claims =
            set(r#"{"sub":"x","email":null,"name":"","groups":null,"amr":7,"auth_time":"x"}"#);
        let identity = ClaimMap::default().identity(&claims, "corp", NOW).unwrap();
        assert_eq!((identity.email, identity.name), (None, None));
        assert!(identity.groups.is_empty() && identity.amr.is_empty());
        assert_eq!(identity.auth_time, NOW);
    }

    #[test]
    fn paths_lead_into_objects_and_names_may_have_dots() {
        let check = |json: &str, path: &str, want: &[&str]| {
            let identity = map("sub", path).identity(&set(json), "corp", NOW).unwrap();
            assert_eq!(identity.groups, want, "{path} in {json}");
        };
        let nested = r#"{"sub":"x","realm_access":{"roles":["a","b"]},"resource_access":{"my.app":{"roles":["c"]}}}"#;
        check(nested, "realm_access.roles", &["a", "b"]);
        check(nested, "resource_access.my.app.roles", &["c"]);
        check(nested, "resource_access.other.roles", &[]);
        check(nested, "realm_access.none", &[]);
        let named = r#"{"sub":"x","https://example.com/roles":["d"],"a.b":"e"}"#;
        check(named, "https://example.com/roles", &["d"]);
        check(named, "a.b", &["e"]);
        // Where both readings exist, the object is meant: what is written beside it changes nothing.
        let both = r#"{"sub":"x","a.b":["evil"],"a":{"b":["good"]}}"#;
        check(both, "a.b", &["good"]);
        let both = r#"{"sub":"x","a.b":["evil"],"a":{}}"#;
        check(both, "a.b", &[]);
    }

    #[test]
    fn a_path_is_a_name() {
        for bad in ["", ".", ".a", "a.", "a\nb", &"x".repeat(257)] {
            assert_eq!(ClaimPath::parse(bad), Err(NotAPath), "{bad:?}");
        }
    }

    #[test]
    fn a_number_can_be_a_user_and_nothing_else() {
        let github = map("id", "groups");
        let identity = github.identity(&set(r#"{"id":583231}"#), "github", NOW);
        assert_eq!(identity.unwrap().user, "583231");
        let refused = map("sub", "groups").identity(&set(r#"{"sub":"x","email":5}"#), "p", NOW);
        assert_eq!(refused.unwrap_err().problem, ClaimProblem::Type);
        let refused = github.identity(&set(r#"{"id":1.5}"#), "p", NOW);
        assert_eq!(refused.unwrap_err().problem, ClaimProblem::Type);
    }

    #[test]
    fn an_unverified_address_is_no_address() {
        let check = |verified: &str, want: bool| {
            let claims = set(&format!(r#"{{"sub":"x","email":"a@b"{verified}}}"#));
            let identity = ClaimMap::default().identity(&claims, "p", NOW).unwrap();
            assert_eq!(identity.email.is_some(), want, "{verified}");
        };
        check("", false);
        check(r#","email_verified":true"#, true);
        check(r#","email_verified":"true""#, true);
        for denies in [
            "false",
            "null",
            "0",
            "1",
            "[true]",
            "{}",
            r#""false""#,
            r#""yes""#,
            r#""""#,
        ] {
            check(&format!(r#","email_verified":{denies}"#), false);
        }
    }

    #[test]
    fn a_trusted_address_needs_no_word_and_is_denied_by_one() {
        let map = ClaimMap {
            trust_email: true,
            ..ClaimMap::default()
        };
        for (verified, want) in [
            ("", true),
            (r#","email_verified":false"#, false),
            (r#","email_verified":null"#, false),
        ] {
            let claims = set(&format!(r#"{{"sub":"x","email":"a@b"{verified}}}"#));
            let identity = map.identity(&claims, "p", NOW).unwrap();
            assert_eq!(identity.email.is_some(), want, "{verified}");
        }
    }

    #[test]
    fn an_unverified_address_is_no_user() {
        let mut map = ClaimMap {
            user: ClaimPath::parse("email").unwrap(),
            ..ClaimMap::default()
        };
        let claims = set(r#"{"email":"a@b"}"#);
        let refused = map.identity(&claims, "p", NOW).unwrap_err();
        assert_eq!(
            (refused.purpose, refused.problem),
            ("user", ClaimProblem::Unverified)
        );
        map.trust_email = true;
        assert_eq!(map.identity(&claims, "p", NOW).unwrap().user, "a@b");
    }

    // attacks.md A08
    #[test]
    fn a08_what_cannot_be_carried_whole_is_refused_by_name() {
        use ClaimProblem as P;
        let check = |json: &str, purpose: &str, want: ClaimProblem| {
            let refused = map("sub", "groups").identity(&set(json), "p", NOW);
            let refused = refused.unwrap_err();
            assert_eq!(
                (refused.purpose, refused.problem),
                (purpose, want),
                "{json}"
            );
        };
        check("{}", "user", P::Missing);
        check(r#"{"sub":""}"#, "user", P::Missing);
        check(r#"{"sub":null}"#, "user", P::Missing);
        check(r#"{"sub":["x"]}"#, "user", P::Type);
        check(r#"{"sub":"a\r\nX-Role: admin"}"#, "user", P::Characters);
        check(r#"{"sub":"a\u0000"}"#, "user", P::Characters);
        check(r#"{"sub":"a\u0085b"}"#, "user", P::Characters);
        check(r#"{"sub":"x","name":"a\u007f"}"#, "name", P::Characters);
        check(
            r#"{"sub":"x","groups":["ok","a\nb"]}"#,
            "groups",
            P::Characters,
        );
        check(r#"{"sub":"x","groups":["ok",1]}"#, "groups", P::Type);
        check(r#"{"sub":"x","groups":{"a":1}}"#, "groups", P::Type);
        let long = "n".repeat(20_000);
        check(
            &format!(r#"{{"sub":"x","name":"{long}"}}"#),
            "name",
            P::TooLong,
        );
        let many = vec![r#""g""#; MAX_GROUPS + 1].join(",");
        check(
            &format!(r#"{{"sub":"x","groups":[{many}]}}"#),
            "groups",
            P::TooMany,
        );
        let shown = map("sub", "groups").identity(&set(r#"{"sub":"se\ncret"}"#), "p", NOW);
        assert!(!shown.unwrap_err().to_string().contains("cret"));
    }
}
