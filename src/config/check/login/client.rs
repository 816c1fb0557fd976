//! How the gateway proves to a provider which client it is: a secret, a key, or nothing.

use std::ops::Range;

use crate::config::check::secrets::{secret, secret_file};
use crate::config::check::{Reader, suggest};
use crate::config::file::Section;
use crate::login::oidc::client_auth::ClientKey;
use crate::login::oidc::settings::ClientAuth;
use crate::units::Secret;

/// What `client_auth` says, with what it needs and nothing else.
pub(super) fn authentication(
    reader: &Reader<'_>,
    table: &Section<'_>,
    audience_known: bool,
) -> Option<ClientAuth> {
    let default = table.default_of("client_auth");
    let mut words = vec!["secret_basic", "secret_post", "none"];
    if audience_known {
        words.push("private_key_jwt");
    }
    let word = match table.text("client_auth") {
        None => default,
        Some(text) => match words.iter().find(|word| *word == text.get_ref()) {
            Some(word) => word,
            None => {
                reader.problems.error(
                    text.span(),
                    format!(
                        "`{}` cannot be {:?}",
                        table.path_of("client_auth"),
                        text.get_ref()
                    ),
                    &suggest(text.get_ref(), words.iter().copied()),
                );
                return None;
            }
        },
    };
    let known = secret(
        reader,
        table,
        ("client_secret_file", "client_secret_env"),
        "name the file that holds the client secret and nothing else",
    );
    let secret_named = ["client_secret_file", "client_secret_env"]
        .into_iter()
        .find_map(|key| table.key_span(key));
    let key_named = table.key_span("client_key_file");
    let unused = |span: Option<Range<usize>>, what: &str| {
        if let Some(span) = span {
            reader.problems.error(
                span,
                format!("{what} is there, but `client_auth` is {word:?}"),
                "remove it, or choose another `client_auth`",
            );
        }
    };
    match word {
        "none" => {
            unused(secret_named, "a client secret");
            unused(key_named, "a client key");
            Some(ClientAuth::None)
        }
        "private_key_jwt" => {
            unused(secret_named, "a client secret");
            let text = reader.required(table, "client_key_file")?;
            let hint = "name a PEM file with the private key: openssl genpkey -algorithm ed25519";
            let pem = Secret::new(secret_file(reader, text.span(), text.get_ref(), hint)?);
            let kid = table.text("client_key_id").map(|text| *text.get_ref());
            match ClientKey::from_pem(&pem, kid) {
                Ok(key) => Some(ClientAuth::PrivateKeyJwt(key)),
                Err(error) => {
                    reader.problems.error(
                        text.span(),
                        format!("the client key cannot be used: {error}"),
                        hint,
                    );
                    None
                }
            }
        }
        _ => {
            unused(key_named, "a client key");
            let Some((span, given)) = known.map(|known| (known.span(), known.into_inner())) else {
                // Whatever is wrong with one that is named has been said.
                let slipped = table.is_one_explained(&["client_secret_file", "client_secret_env"]);
                if secret_named.is_none() && !slipped {
                    reader.problems.error(
                        table.span(),
                        format!("`{}` is missing", table.path_of("client_secret_file")),
                        "name the file with the client secret, or set client_auth = \"none\" for a public client",
                    );
                }
                return None;
            };
            if given.expose().is_empty() || std::str::from_utf8(given.expose()).is_err() {
                reader.problems.error(
                    span,
                    "the client secret is empty or no text",
                    "it is the text that the provider showed when the client was registered",
                );
                return None;
            }
            Some(if word == "secret_post" {
                ClientAuth::SecretPost(given)
            } else {
                ClientAuth::SecretBasic(given)
            })
        }
    }
}
