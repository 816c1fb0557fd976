//! `claims` of whoever says who people are: which claim is what, by path. The keys and what they mean are the same in every
//! table that has one; what holds where a key is absent is that table's own default.

use super::Reader;
use crate::auth::claims::{ClaimMap, ClaimPath};
use crate::config::file::Section;

/// What becomes of a person's claims; `None` when a path is none.
pub(super) fn map(
    reader: &Reader<'_>,
    claims: &Section<'_>,
    trust_email: bool,
) -> Option<ClaimMap> {
    let path = |key| path(reader, claims, key);
    // All of them first: every problem is reported at once.
    let (user, email, name) = (path("user"), path("email"), path("name"));
    let (preferred_username, groups) = (path("preferred_username"), path("groups"));
    Some(ClaimMap {
        user: user?,
        email: email?,
        name: name?,
        preferred_username: preferred_username?,
        groups: groups?,
        trust_email,
    })
}

/// The path of one claim.
pub(super) fn path(reader: &Reader<'_>, claims: &Section<'_>, key: &str) -> Option<ClaimPath> {
    let path = claims.path_of(key);
    let typed = claims.text(key);
    let text = match &typed {
        Some(text) => text.get_ref(),
        None => claims.default_of(key),
    };
    ClaimPath::parse(text)
        .inspect_err(|error| {
            let span = typed.as_ref().map_or(claims.span(), |text| text.span());
            reader.unreadable(span, &path, error);
        })
        .ok()
}
