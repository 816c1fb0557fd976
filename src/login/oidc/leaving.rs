//! Signing out at the provider too (OpenID Connect RP-Initiated Logout 1.0): where the browser is sent. Must not end anything.

use url::Url;

use crate::units::Secret;

/// What the provider is told.
#[derive(Clone, Copy, Debug)]
pub struct Goodbye<'a> {
    /// Our `client_id`.
    pub client_id: &'a str,
    /// Who leaves: the newest ID token.
    pub id_token: Option<&'a Secret>,
    /// Where the provider sends the browser afterwards; registered there.
    pub return_uri: &'a str,
    /// Comes back with it.
    pub state: &'a str,
}

/// The whole address.
pub fn url(endpoint: &Url, goodbye: Goodbye<'_>) -> String {
    let mut url = endpoint.clone();
    url.set_fragment(None);
    {
        let mut query = url.query_pairs_mut();
        if let Some(hint) = goodbye
            .id_token
            .and_then(|token| std::str::from_utf8(token.expose()).ok())
        {
            query.append_pair("id_token_hint", hint);
        }
        query
            .append_pair("client_id", goodbye.client_id)
            .append_pair("post_logout_redirect_uri", goodbye.return_uri)
            .append_pair("state", goodbye.state);
    }
    url.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o12_the_provider_learns_who_leaves_and_where_to_send_them() {
        let hint = Secret::new(*b"a.b.c");
        let endpoint = Url::parse("https://id.example.com/end?x=y").unwrap();
        let goodbye = |id_token| Goodbye {
            client_id: "vestibule",
            id_token,
            return_uri: "https://app.example.com/.auth/logout",
            state: "st",
        };
        assert_eq!(
            url(&endpoint, goodbye(Some(&hint))),
            "https://id.example.com/end?x=y&id_token_hint=a.b.c&client_id=vestibule&\
             post_logout_redirect_uri=https%3A%2F%2Fapp.example.com%2F.auth%2Flogout&state=st"
        );
        assert!(!url(&endpoint, goodbye(None)).contains("id_token_hint"));
    }
}
