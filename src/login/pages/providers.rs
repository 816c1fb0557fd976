//! Pages about signing in by a provider: the buttons, the ways on, and what is said when it came to nothing.

use std::time::Duration;

use askama::Template;
use http::header::RETRY_AFTER;
use http::{Response, StatusCode};

use super::{Frame, View, answer, texts};
use crate::body::Body;
use crate::login::language::Language;
use crate::login::problem::retry_after_value;
use crate::login::return_to::{ReturnTo, provider_url_for};

/// A provider to choose.
#[derive(Clone, Copy, Debug)]
pub struct Button<'a> {
    /// Its configured name.
    pub name: &'a str,
    /// What people call it.
    pub display_name: &'a str,
}

/// What a button leads to.
pub(super) struct Link {
    pub(super) href: String,
    pub(super) text: String,
}

/// The buttons of the sign-in page: links, so that they work without a script and without a form.
pub(super) fn links(language: Language, buttons: &[Button<'_>], rd: &ReturnTo) -> Vec<Link> {
    buttons
        .iter()
        .map(|button| Link {
            href: provider_url_for(button.name, rd),
            text: texts::continue_with(language, button.display_name),
        })
        .collect()
}

/// Why a sign-in by a provider came to nothing, as far as people need to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The provider says that it signed nobody in (403).
    Declined,
    /// It took too long (400).
    Expired,
    /// It was not begun here, or was used already (400).
    NotThisBrowser,
    /// What came back is no answer (400).
    Malformed,
    /// The provider does not answer (503).
    Unreachable,
    /// Its answer does not pass the checks (502).
    Unusable,
    /// It cannot work until whoever operates the gateway has mended something (502).
    OutOfOrder,
    /// The account is none of those that are let in (403).
    NotAllowed,
    /// The account does not say what is needed (403).
    Incomplete,
}

impl Trouble {
    /// All of them.
    pub const ALL: [Trouble; 9] = [
        Trouble::Declined,
        Trouble::Expired,
        Trouble::NotThisBrowser,
        Trouble::Malformed,
        Trouble::Unreachable,
        Trouble::Unusable,
        Trouble::OutOfOrder,
        Trouble::NotAllowed,
        Trouble::Incomplete,
    ];

    /// The status of its page.
    pub const fn status(self) -> StatusCode {
        match self {
            Trouble::Expired | Trouble::NotThisBrowser | Trouble::Malformed => {
                StatusCode::BAD_REQUEST
            }
            Trouble::Declined | Trouble::NotAllowed | Trouble::Incomplete => StatusCode::FORBIDDEN,
            Trouble::Unreachable => StatusCode::SERVICE_UNAVAILABLE,
            Trouble::Unusable | Trouble::OutOfOrder => StatusCode::BAD_GATEWAY,
        }
    }
}

/// When to ask a provider again that did not answer.
pub const PROVIDER_RETRY: Duration = Duration::from_secs(10);

#[derive(Template)]
#[template(path = "trouble.html")]
struct TroublePage<'a> {
    frame: Frame<'a>,
    status: u16,
    message: String,
    words: Option<&'a str>,
    again: &'a str,
    refresh: Option<&'a str>,
}

/// A sign-in that came to nothing. `words` are the provider's own and are escaped; `again` is where to start over, and with
/// `by_itself` the page goes there without being asked.
pub fn trouble(
    view: &View<'_>,
    trouble: Trouble,
    provider: &str,
    words: Option<&str>,
    again: &str,
    by_itself: bool,
) -> Response<Body> {
    let (title, message) = texts::trouble(view.language, trouble, provider);
    let mut frame = Frame::new(view, title);
    frame.request_id = Some(view.request_id);
    let status = trouble.status();
    let html = TroublePage {
        frame,
        status: status.as_u16(),
        message,
        words,
        again,
        refresh: by_itself.then_some(again),
    };
    let mut response = answer(status, view.language, &html, std::iter::empty());
    if trouble == Trouble::Unreachable {
        response
            .headers_mut()
            .insert(RETRY_AFTER, retry_after_value(PROVIDER_RETRY));
    }
    response
}

#[derive(Template)]
#[template(path = "onward.html")]
struct OnwardPage<'a> {
    frame: Frame<'a>,
    message: String,
    target: &'a str,
}

/// Signed in, and on to where they wanted to go by a page of our own: with `SameSite=Strict` a redirect that began at the
/// provider would not carry the new cookies.
pub fn onward(view: &View<'_>, target: &str) -> Response<Body> {
    let text = texts::Texts::of(view.language);
    let html = OnwardPage {
        frame: Frame::new(view, text.signed_in),
        message: text.signed_in_message.to_owned(),
        target,
    };
    answer(StatusCode::OK, view.language, &html, std::iter::empty())
}

/// Signed out here, and on to the provider's own sign-out. A page, not a redirect: browsers hold the policy of the page with
/// the button (`form-action`) against every redirect that follows, and providers redirect to wherever they like.
pub fn leaving(view: &View<'_>, provider: &str, target: &str) -> Response<Body> {
    let text = texts::Texts::of(view.language);
    let html = OnwardPage {
        frame: Frame::new(view, text.signed_out),
        message: texts::leaving(view.language, provider),
        target,
    };
    answer(StatusCode::OK, view.language, &html, std::iter::empty())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{VIEW, html};
    use super::*;
    use crate::login::pages::{SignIn, sign_in};
    use crate::login::return_to::AllowedHosts;

    fn page(local: bool, buttons: &[Button<'_>], rd: &str) -> String {
        html(sign_in(
            &VIEW,
            &SignIn {
                return_to: &ReturnTo::parse(rd, &AllowedHosts::none()),
                allowed: &AllowedHosts::none(),
                username: "",
                error: None,
                local,
                buttons,
            },
        ))
    }

    #[test]
    fn each_provider_has_a_link_that_keeps_the_way_back() {
        let buttons = [
            Button {
                name: "corp",
                display_name: "A <b>& Co",
            },
            Button {
                name: "hub",
                display_name: "Hub",
            },
        ];
        let both = page(true, &buttons, "/a?b=c&d");
        assert!(
            both.contains("href=\"/.auth/login/corp?rd=/a%3Fb%3Dc%26d\""),
            "{both}"
        );
        assert!(
            both.contains("Continue with A &#60;b&#62;&#38; Co"),
            "{both}"
        );
        assert!(both.contains("name=\"password\"") && both.contains("class=\"or\""));
        let alone = page(false, &buttons, "/");
        assert!(alone.contains("href=\"/.auth/login/hub\""), "{alone}");
        assert!(!alone.contains("password") && !alone.contains("class=\"or\""));
        let none = page(true, &[], "/");
        assert!(!none.contains("class=\"or\"") && !none.contains("providers"));
    }

    #[test]
    fn e11_words_of_a_provider_are_escaped() {
        let response = trouble(
            &VIEW,
            Trouble::Declined,
            "Corp",
            Some("<script>alert(1)</script>"),
            "/.auth/login/corp?rd=/a",
            false,
        );
        assert_eq!(response.status(), 403);
        let html = html(response);
        assert!(html.contains("&#60;script&#62;"), "{html}");
        assert!(!html.contains("<script") && !html.contains("http-equiv"));
        assert!(html.contains("href=\"/.auth/login/corp?rd=/a\"") && html.contains("req-1"));
    }

    #[test]
    fn a_provider_that_is_away_says_when_to_come_back() {
        let response = trouble(&VIEW, Trouble::Unreachable, "Corp", None, "/", false);
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["retry-after"], "10");
    }

    #[test]
    fn pages_that_go_on_by_themselves_say_where_to() {
        let target = "https://id.example.com/end?a=b&c=\"><x>";
        for response in [onward(&VIEW, target), leaving(&VIEW, "Corp", target)] {
            let html = html(response);
            let escaped = "https://id.example.com/end?a=b&#38;c=&#34;&#62;&#60;x&#62;";
            assert!(
                html.contains(&format!("content=\"0;url={escaped}\"")),
                "{html}"
            );
            assert!(html.contains(&format!("href=\"{escaped}\"")), "{html}");
        }
    }
}
