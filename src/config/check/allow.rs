//! `[[route]]` `allow`: names of people and groups, and whose they are.
//!
//! A name that is written alone is anybody's who has it. Behind the name of a provider and a colon it is that provider's
//! alone. So a colon always ends the name of a provider: were `urn:staff` a name until somebody adds a provider `urn`, rules
//! would change their meaning without having been touched.

use toml::Spanned;

use super::{Reader, ways};
use crate::auth::allow::{Allow, Name};
use crate::auth::route::Access;
use crate::config::file::Section;
use crate::config::report::nearest;

pub(super) fn read(
    reader: &Reader<'_>,
    table: &Section<'_>,
    access: Access,
    root: &Section<'_>,
) -> Allow {
    let allow = table.section("allow");
    let texts = |key: &str| {
        let texts = allow.texts(key).unwrap_or_default();
        for text in texts.iter().filter(|text| text.get_ref().trim().is_empty()) {
            reader.problems.error(
                text.span(),
                format!("an empty name in `{}`", allow.path_of(key)),
                "remove it",
            );
        }
        texts
    };
    let providers = ways::names(root);
    let names = |key: &str| -> Vec<Name> {
        let texts = texts(key);
        texts
            .iter()
            .filter_map(|text| name(reader, text, &providers))
            .collect()
    };
    let lists = Allow {
        groups: names("groups"),
        users: names("users"),
        emails: texts("emails")
            .iter()
            .map(|text| text.get_ref().to_string())
            .collect(),
        scopes: scopes(reader, &allow, root),
    };
    // An empty list beside a filled one adds nobody. A rule without any name would admit everybody, and reads as nobody.
    let names_nobody = allow.entries().all(|(key, value)| {
        matches!(*key.get_ref(), "groups" | "users" | "emails" | "scopes")
            && value
                .get_ref()
                .as_array()
                .is_some_and(|list| list.is_empty())
    });
    if allow.is_present() && names_nobody {
        reader.problems.error(
            table.key_span("allow").unwrap_or(table.span()),
            "`route.allow` names nobody",
            "name groups, users, emails or scopes; leave `allow` out to admit everybody who is signed in",
        );
        return lists;
    }
    if lists != Allow::default() && access != Access::Authenticated {
        let span = table.key_span("allow").unwrap_or(table.span());
        reader.problems.error(
            span,
            "`allow` on a route that people need not sign in for",
            "it would admit everybody all the same: set `access = \"authenticated\"`, or remove `allow`",
        );
    }
    lists
}

/// `NAME`, or `PROVIDER:NAME`. Where the name of one provider begins with another's and a colon (issuers of tokens are
/// URLs), the longer one is meant.
fn name(reader: &Reader<'_>, text: &Spanned<&str>, providers: &[String]) -> Option<Name> {
    let typed = *text.get_ref();
    let behind = |provider: &str| typed.strip_prefix(provider)?.strip_prefix(':');
    let whose = providers
        .iter()
        .filter(|provider| behind(provider).is_some())
        .max_by_key(|provider| provider.len());
    let alone = whose.and_then(|provider| behind(provider)).unwrap_or(typed);
    if alone.trim() != alone && !alone.trim().is_empty() {
        reader.problems.warning(
            text.span(),
            format!("the name in {typed:?} begins or ends with a blank"),
            "names are compared exactly: remove it, unless it is part of the name",
        );
    }
    let wrong = |message: String, hint: &str| {
        reader.problems.error(text.span(), message, hint);
        None
    };
    // Where nobody can sign in, that is what is said.
    let stranger = typed.split_once(':').filter(|_| !providers.is_empty());
    match (whose, stranger) {
        (Some(provider), _) => match behind(provider).unwrap_or_default() {
            name if name.trim().is_empty() => wrong(
                format!("there is no name behind {typed:?}"),
                &format!("write \"{provider}:NAME\""),
            ),
            name => Some(Name {
                provider: Some(provider.clone()),
                name: name.to_owned(),
            }),
        },
        (None, None) => Some(Name {
            provider: None,
            name: typed.to_owned(),
        }),
        (None, Some((stranger, rest))) => {
            let known = || providers.iter().map(String::as_str);
            let behind: Vec<_> = known()
                .map(|known| format!("\"{known}:{typed}\""))
                .collect();
            let meant = nearest(stranger, known())
                .map(|near| format!("did you mean \"{near}:{rest}\"? "))
                .unwrap_or_default();
            let hint = format!(
                "{meant}what stands before a colon is a provider; a name that has a colon itself is written behind its own: {}",
                behind.join(", ")
            );
            wrong(
                format!("nobody signs in by {stranger:?}, which {typed:?} names"),
                &hint,
            )
        }
    }
}

/// Scope tokens (RFC 6749 section 3.3), each for itself.
fn scopes(reader: &Reader<'_>, allow: &Section<'_>, root: &Section<'_>) -> Vec<String> {
    let Some(texts) = allow.texts("scopes") else {
        return Vec::new();
    };
    for text in &texts {
        let typed = *text.get_ref();
        let allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
        if typed.is_empty() || !typed.bytes().all(allowed) {
            reader.problems.error(
                text.span(),
                format!("{typed:?} is not a scope"),
                "a scope has no blanks and no quotes; several are a list, of which a token needs one",
            );
        }
    }
    if root.value("bearer").is_none() {
        reader.problems.error(
            allow.key_span("scopes").unwrap_or(allow.span()),
            "`route.allow.scopes` without any [[bearer]]",
            "scopes are what bearer tokens carry: add [[bearer]], or remove it",
        );
    }
    texts
        .iter()
        .map(|text| text.get_ref().to_string())
        .collect()
}
