//! Which upstream sees which cookies of the service, and which of its cookies the browser gets.
//!
//! The service itself gets them, in their newest state: a spent refresh token never reaches it, by whatever request. No other
//! upstream sees or sets one. Must not renew anything.

use http::header::{SET_COOKIE, USER_AGENT};
use http::{HeaderMap, HeaderValue};

use super::answer::cookie_of;
use super::memory::{Key, Outcome};
use super::renew::Standing;
use super::{External, Grant, Pair, Spender, text};
use crate::auth::ClientAddr;
use crate::auth::credentials::{self, Presented};
use crate::auth::route::UpstreamId;
use crate::clock::Timestamp;
use crate::headers::cookie;

/// The refresh token that went to the service with a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent(Option<Key>);

impl External {
    /// Whether an upstream is the service itself.
    fn is_service(&self, upstream: UpstreamId) -> bool {
        self.settings.cookies_to.contains(&upstream)
    }

    /// Puts the service's cookies into the state in which this upstream may see them: for the service what `renewed` or an
    /// earlier renewal brought, for others nothing. Its newest refresh token goes there only for the browser that spent the
    /// presented one: the service may answer with a pair. Waits for a renewal of the presented token that is under way.
    pub async fn dress(
        &self,
        upstream: UpstreamId,
        headers: &mut HeaderMap,
        client: ClientAddr,
        renewed: Option<&Grant>,
    ) -> Sent {
        let names = &self.settings.cookies;
        let (access, refresh) = (&*names.access, &*names.refresh);
        let presented = credentials::from_headers(headers, names);
        // Two values are nobody's session, for the service neither: it would pick one of them.
        if !self.is_service(upstream) || presented.conflicting() {
            cookie::replace(headers, &[(access, None), (refresh, None)]);
            return Sent::default();
        }
        // The service may trim more than we do: only what was read here may be there.
        let text_of = |cookie: Presented<'_>| cookie.value().and_then(text).map(str::to_owned);
        let (now_access, now_refresh) = (text_of(presented.access), text_of(presented.refresh));
        let read = [
            (access, now_access.as_deref()),
            (refresh, now_refresh.as_deref()),
        ];
        cookie::replace(headers, &read);
        let presented = credentials::from_headers(headers, names);
        if let Some(grant) = renewed {
            if grant.own {
                return self.put(&grant.pair, headers);
            }
            let access = (access, Some(&*grant.pair.access));
            cookie::replace(headers, &[access, (refresh, None)]);
            return Sent::default();
        }
        let Some(token) = presented.refresh.value() else {
            return Sent::default();
        };
        let agent = headers
            .get(USER_AGENT)
            .map_or(&b""[..], HeaderValue::as_bytes);
        match self.newest(token, Spender::new(client, agent)).await {
            // Never tried, or not spent.
            Standing::Unknown | Standing::Landed(Outcome::Paused(_), true) => {
                Sent(Some(Key::of(token)))
            }
            Standing::Landed(Outcome::Renewed(pair), true)
                if self.is_same(presented.access, &pair) =>
            {
                self.put(&pair, headers)
            }
            Standing::Flying | Standing::Landed(..) => {
                cookie::replace(headers, &[(refresh, None)]);
                Sent::default()
            }
        }
    }

    /// Whether a pair is of the person whom the presented access token names, or that names nobody: somebody else's refresh
    /// token beside it must not make the service see another person than the gateway does.
    fn is_same(&self, access: Presented<'_>, pair: &Pair) -> bool {
        let token = access.value().and_then(text).unwrap_or_default();
        match self.checker.check(token, self.clock.now()) {
            Ok(subject) => subject.identity().user == pair.subject.identity().user,
            Err(_) => true,
        }
    }

    fn put(&self, pair: &Pair, headers: &mut HeaderMap) -> Sent {
        let names = &self.settings.cookies;
        let access = (&*names.access, Some(&*pair.access));
        match &pair.refresh {
            Some((token, key)) => {
                cookie::replace(headers, &[access, (&*names.refresh, Some(token))]);
                Sent(Some(*key))
            }
            None => {
                cookie::replace(headers, &[access]);
                let presented = credentials::from_headers(headers, names).refresh;
                Sent(presented.value().map(Key::of))
            }
        }
    }

    /// Judges what an upstream's answer says about the service's cookies. Another upstream cannot set them. What the service
    /// itself replaces or deletes, a sign-in or a sign-out, ends what is remembered of the token that went there; how many
    /// lines were dropped is returned.
    pub fn answered(&self, upstream: UpstreamId, sent: Sent, headers: &mut HeaderMap) -> usize {
        let names = &self.settings.cookies;
        if !self.is_service(upstream) {
            return cookie::refuse_from_upstream(headers, &[&*names.access, &*names.refresh]);
        }
        if let Sent(Some(key)) = sent
            && values_of(headers, &names.refresh).any(|value| Key::of(&value) != key)
        {
            self.memory.end(key, tokio::time::Instant::now());
        }
        0
    }

    /// Gives the browser the cookies of a renewal, unless another one spent the token, it may have newer ones, or this very
    /// answer has others from the service. Returns whether it did.
    pub fn relay(&self, grant: &Grant, headers: &mut HeaderMap, now: Timestamp) -> bool {
        let pair = &*grant.pair;
        if !grant.own || !self.is_newest(pair, now) {
            return false;
        }
        let set_already = |name: &str| values_of(headers, name).next().is_some();
        let lines: Vec<HeaderValue> = pair
            .lines
            .iter()
            .filter(|line| cookie_of(line).is_some_and(|(name, _)| !set_already(&name)))
            .cloned()
            .collect();
        let any = !lines.is_empty();
        for line in lines {
            headers.append(SET_COOKIE, line);
        }
        any
    }
}

/// The values that an answer gives a cookie; empty for a deletion.
fn values_of<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = String> + 'a {
    headers
        .get_all(SET_COOKIE)
        .iter()
        .filter_map(cookie_of)
        .filter(move |(set, _)| set == name)
        .map(|(_, value)| value)
}
