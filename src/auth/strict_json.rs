//! JSON as a verifier reads it: duplicate member names, deep nesting and trailing bytes are refused; whole numbers and
//! numbers with a fraction are told apart (RFC 7519 section 4, RFC 8725 section 2.6). Must not know what a member means.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// Deepest nesting of arrays and objects that is read at all; our own tokens have two levels.
const MAX_DEPTH: usize = 4;

/// The same for what others write: providers nest (`resource_access.app.roles`), and add what nobody asked for.
pub(crate) const MAX_FOREIGN_DEPTH: usize = 16;

/// Most members of one object: no token and no answer about a person comes near, and looking a name up goes through them.
const MAX_MEMBERS: usize = 1000;

/// A JSON value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Json {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A number written as an integer that fits.
    Integer(i64),
    /// A number written with a fraction or an exponent, rounded down.
    Fraction(i64),
    /// Any other number: too large for anything that is counted.
    OtherNumber,
    /// Text.
    Text(String),
    /// `[ … ]`
    Array(Vec<Json>),
    /// `{ … }`
    Object(Object),
}

/// The members of an object, each name once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Object(Vec<(String, Json)>);

/// Why a text was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JsonError {
    /// Not JSON at all.
    Syntax,
    /// JSON, but no object, or not in the strict form.
    NotStrict,
}

impl Object {
    /// Reads one object and nothing else.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, JsonError> {
        Self::parse_within(bytes, MAX_DEPTH)
    }

    /// Reads one object, nested `max_depth` levels at most, and nothing else.
    pub(crate) fn parse_within(bytes: &[u8], max_depth: usize) -> Result<Self, JsonError> {
        if depth(bytes) > max_depth {
            return Err(JsonError::NotStrict);
        }
        match serde_json::from_slice(bytes) {
            Ok(Json::Object(object)) => Ok(object),
            Ok(_) => Err(JsonError::NotStrict),
            Err(error) if error.is_data() => Err(JsonError::NotStrict),
            Err(_) => Err(JsonError::Syntax),
        }
    }

    /// Whether there is a member of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(member, _)| member == name)
    }

    /// Looks at a member.
    pub(crate) fn get(&self, name: &str) -> Option<&Json> {
        let found = self.0.iter().find(|(member, _)| member == name)?;
        Some(&found.1)
    }

    /// Looks at a member that is a text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }

    /// All members, in their order.
    pub(crate) fn members(&self) -> impl Iterator<Item = (&str, &Json)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Takes a member out.
    pub(crate) fn take(&mut self, name: &str) -> Option<Json> {
        let at = self.0.iter().position(|(member, _)| member == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// Takes a text out.
    pub(crate) fn take_text(&mut self, name: &str) -> Option<String> {
        match self.take(name)? {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Takes over what is missing here; what is here stays.
    pub(crate) fn complete(&mut self, other: Object) {
        let here: HashSet<&str> = self.members().map(|(name, _)| name).collect();
        let mut missing = other.0;
        missing.retain(|(name, _)| !here.contains(name.as_str()));
        self.0.append(&mut missing);
    }

    /// Whether nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// How deep brackets nest, outside of strings; an upper bound for what is no JSON.
fn depth(bytes: &[u8]) -> usize {
    let (mut open, mut deepest, mut in_text, mut escaped) = (0_usize, 0_usize, false, false);
    for &byte in bytes {
        match (in_text, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_text = !in_text,
            (false, b'[' | b'{') => {
                open += 1;
                deepest = deepest.max(open);
            }
            (false, b']' | b'}') => open = open.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without duplicate members")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(i64::try_from(value).map_or(Json::OtherNumber, Json::Integer))
    }

    #[allow(
        clippy::cast_possible_truncation,
        reason = "within the bounds an f64 without its fraction is an exact i64"
    )]
    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        const EXACT: f64 = 9_007_199_254_740_992.0;
        Ok(match value.is_finite() && value.abs() <= EXACT {
            true => Json::Fraction(value.floor() as i64),
            false => Json::OtherNumber,
        })
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(Json::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element()? {
            all.push(item);
        }
        Ok(Json::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let mut object = Object::default();
        let mut seen = HashSet::new();
        while let Some((name, value)) = members.next_entry::<String, Json>()? {
            if object.0.len() == MAX_MEMBERS {
                return Err(A::Error::custom("too many members"));
            }
            if !is_new(&object, &mut seen, &name) {
                return Err(A::Error::custom("duplicate member"));
            }
            object.0.push((name, value));
        }
        Ok(Json::Object(object))
    }
}

/// Whether an object has no member of this name yet. A small one is looked through; of a larger one the names are kept in
/// `seen`, so that what others write costs no more than in proportion to its length.
fn is_new(object: &Object, seen: &mut HashSet<String>, name: &str) -> bool {
    const SMALL: usize = 16;
    if object.0.len() < SMALL {
        return !object.has(name);
    }
    if seen.is_empty() {
        seen.extend(object.0.iter().map(|(name, _)| name.clone()));
    }
    seen.insert(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_of_too_many_members_is_refused_and_not_searched() {
        let object = |names: &[String]| {
            let members: Vec<_> = names.iter().map(|name| format!("\"{name}\":1")).collect();
            format!("{{{}}}", members.join(","))
        };
        let names = |count: usize| (0..count).map(|at| format!("n{at}")).collect::<Vec<_>>();
        let read = |text: String| Object::parse(text.as_bytes()).map(|object| object.0.len());
        assert_eq!(read(object(&names(MAX_MEMBERS))), Ok(MAX_MEMBERS));
        assert_eq!(
            read(object(&names(MAX_MEMBERS + 1))),
            Err(JsonError::NotStrict)
        );
        assert_eq!(read(object(&names(40_000))), Err(JsonError::NotStrict));
        let within = format!("{{\"a\":[{}]}}", object(&names(40_000)));
        assert_eq!(read(within), Err(JsonError::NotStrict));
        // Many members in all, few in each.
        let small = vec![object(&names(100)); 400].join(",");
        assert_eq!(read(format!("{{\"a\":[{small}]}}")), Ok(1));
        // One name twice, among few and among many.
        for count in [2, 15, 16, 17, 18, 999] {
            for twice in [0, count - 1] {
                let mut names = names(count);
                names.push(format!("n{twice}"));
                assert_eq!(
                    read(object(&names)),
                    Err(JsonError::NotStrict),
                    "{count} {twice}"
                );
            }
        }
    }

    #[test]
    fn strict_objects_only() {
        let check = |text: &str, good: bool| {
            assert_eq!(Object::parse(text.as_bytes()).is_ok(), good, "{text}");
        };
        check("{}", true);
        check(
            r#" {"a":[1,{"b":null}],"c":"\u00e9","d":1e300,"e":-1,"f":true} "#,
            true,
        );
        check(r#"{"a":"[[[[[[{{{{"}"#, true);
        check(r#"{"a":"\"[[[[[["}"#, true);
        check(r#"{"a":[[[1]]]}"#, true);
        check(r#"{"a":[[[[1]]]]}"#, false);
        check(r#"{"a":1,"a":1}"#, false);
        check(r#"{"a":1,"\u0061":2}"#, false);
        check(r#"{"x":{"a":1,"a":1}}"#, false);
        check(r#"{"a":1}{"#, false);
        check(r#"{"a":1},"#, false);
        check("[]", false);
        check("null", false);
        check("", false);
        check("{\"a\":NaN}", false);
        check("\u{feff}{}", false);
        assert!(Object::parse(b"{\"a\":\"\xff\"}").is_err());
        assert!(Object::parse("[".repeat(10_000).as_bytes()).is_err());
    }

    #[test]
    fn only_integers_are_integers() {
        for (text, want) in [
            ("1", Json::Integer(1)),
            ("-1", Json::Integer(-1)),
            ("1.0", Json::Fraction(1)),
            ("1.9", Json::Fraction(1)),
            ("-1.1", Json::Fraction(-2)),
            ("1e3", Json::Fraction(1000)),
            ("1e16", Json::OtherNumber),
            ("1e300", Json::OtherNumber),
            ("18446744073709551616", Json::OtherNumber),
            ("18446744073709551615", Json::OtherNumber),
            ("\"1\"", Json::Text("1".to_owned())),
        ] {
            let mut object = Object::parse(format!("{{\"n\":{text}}}").as_bytes()).unwrap();
            assert_eq!(object.take("n"), Some(want), "{text}");
            assert!(object.is_empty());
        }
    }
}
