//! What an authorization request asks of a provider beyond the sign-in itself.

use toml::Spanned;

use crate::config::check::{Reader, suggest};
use crate::config::file::Section;
use crate::login::oidc::authorize::RESERVED;

/// The default of OpenID providers.
const OPENID_SCOPES: [&str; 3] = ["openid", "profile", "email"];

pub(super) fn scopes(reader: &Reader<'_>, table: &Section<'_>, openid: bool) -> Vec<String> {
    let Some(texts) = table.texts("scopes") else {
        return match openid {
            true => OPENID_SCOPES.map(str::to_owned).to_vec(),
            false => Vec::new(),
        };
    };
    for text in &texts {
        // RFC 6749 section 3.3.
        let plain = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        if text.get_ref().is_empty() || !text.get_ref().bytes().all(plain) {
            reader.problems.error(
                text.span(),
                format!("{:?} is not a scope", text.get_ref()),
                "write each scope as a text of its own, without spaces",
            );
        }
    }
    let span = table.value("scopes").map_or(table.span(), Spanned::span);
    if openid && !texts.iter().any(|text| *text.get_ref() == "openid") {
        reader.problems.error(
            span,
            format!("`{}` has no \"openid\"", table.path_of("scopes")),
            "without it the provider does not say who signed in",
        );
    }
    texts
        .iter()
        .map(|text| (*text.get_ref()).to_owned())
        .collect()
}

pub(super) fn prompt(reader: &Reader<'_>, table: &Section<'_>) -> Option<String> {
    let text = table.text("prompt")?;
    let known = ["login", "consent", "select_account"];
    let mut words = text.get_ref().split(' ');
    if !words.all(|word| known.contains(&word)) {
        reader.problems.error(
            text.span(),
            format!(
                "`{}` cannot be {:?}",
                table.path_of("prompt"),
                text.get_ref()
            ),
            &suggest(text.get_ref(), known.into_iter()),
        );
    }
    Some((*text.get_ref()).to_owned())
}

pub(super) fn extra(reader: &Reader<'_>, table: &Section<'_>) -> Vec<(String, String)> {
    let mut extra = Vec::new();
    for (name, value) in table.section("extra").entries() {
        let Some(text) = value.get_ref().as_str() else {
            reader.problems.error(
                value.span(),
                format!("the parameter `{}` is not a text", name.get_ref()),
                "put it in quotes",
            );
            continue;
        };
        if RESERVED.contains(name.get_ref()) || name.get_ref().is_empty() {
            reader.problems.error(
                name.span(),
                format!("the parameter `{}` is the gateway's own", name.get_ref()),
                "it is made for each sign-in, or has a key of its own; remove it here",
            );
            continue;
        }
        extra.push(((*name.get_ref()).to_owned(), text.to_owned()));
    }
    extra
}
