//! Complete answers for people: sign in, sign out, their sessions, and every error. No JavaScript, strict headers, English and Korean.
//!
//! Must not decide anything. Whatever a page shows of a request is escaped by the templates; a password is never shown.

mod assets;
mod providers;
mod sessions;
mod texts;

use std::time::Duration;

use askama::Template;
use http::header::{
    CACHE_CONTROL, CONTENT_LANGUAGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName,
    HeaderValue, LOCATION, REFERRER_POLICY, RETRY_AFTER, VARY, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{Response, StatusCode};

use crate::body::Body;
use crate::login::language::Language;
use crate::login::problem::{ProblemType, retry_after_value};
use crate::login::return_to::{AllowedHosts, ReturnTo};

pub use assets::asset;
pub use providers::{Button, Trouble, leaving, onward, trouble};
pub use sessions::{SessionsNotice, sessions};
use texts::Texts;

/// What every page needs to know.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The language of the page.
    pub language: Language,
    /// The host that people know the place by; from the configuration, never from the request.
    pub host: &'a str,
    /// Shown on error pages, so that people can tell an operator.
    pub request_id: &'a str,
}

/// Why the sign-in page is shown again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignInError {
    /// Unknown name, wrong password, or blocked: one text for all.
    Wrong,
    /// Too many attempts (429).
    Throttled {
        /// When to try again.
        retry_after: Duration,
    },
    /// Too busy, or the store cannot be asked (503).
    Unavailable,
    /// The form was not one of ours (400).
    BadForm,
    /// The form came from another site (403).
    CrossSite,
}

/// The sign-in page.
#[derive(Clone, Copy, Debug)]
pub struct SignIn<'a> {
    /// Where to go afterwards.
    pub return_to: &'a ReturnTo,
    /// Other origins that `return_to` may name: the form's policy must let the redirect pass.
    pub allowed: &'a AllowedHosts,
    /// What was typed as the name before; the password is never kept.
    pub username: &'a str,
    /// Why the page is shown again.
    pub error: Option<SignInError>,
    /// Whether built-in accounts can sign in.
    pub local: bool,
    /// Providers to choose from.
    pub buttons: &'a [Button<'a>],
}

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage<'a> {
    frame: Frame<'a>,
    username: &'a str,
    rd: &'a str,
    error: Option<String>,
    /// Whether the fields themselves are what is wrong.
    invalid: bool,
    local: bool,
    buttons: Vec<providers::Link>,
}

#[derive(Template)]
#[template(path = "sign_out.html")]
struct SignOutPage<'a> {
    frame: Frame<'a>,
    user: Option<&'a str>,
}

#[derive(Template)]
#[template(path = "message.html")]
struct MessagePage<'a> {
    frame: Frame<'a>,
    message: &'a str,
    status: Option<u16>,
    user: Option<&'a str>,
    action: Option<Link<'a>>,
}

struct Link<'a> {
    href: &'a str,
    text: &'a str,
}

/// What the layout shows around every page.
struct Frame<'a> {
    text: &'static Texts,
    title: &'a str,
    host: &'a str,
    request_id: Option<&'a str>,
    css: assets::Url,
    icon: assets::Url,
}

impl<'a> Frame<'a> {
    fn new(view: &View<'a>, title: &'static str) -> Self {
        Frame {
            text: Texts::of(view.language),
            title,
            host: view.host,
            request_id: None,
            css: assets::CSS_URL,
            icon: assets::ICON_URL,
        }
    }
}

/// `GET /.auth/login`, or the answer to a `POST` that did not sign in.
pub fn sign_in(view: &View<'_>, page: &SignIn<'_>) -> Response<Body> {
    let text = Texts::of(view.language);
    let (status, error, retry_after) = match page.error {
        None => (StatusCode::OK, None, None),
        Some(SignInError::Wrong) => (
            StatusCode::UNAUTHORIZED,
            Some(text.wrong_password.to_owned()),
            None,
        ),
        Some(SignInError::Throttled { retry_after }) => (
            StatusCode::TOO_MANY_REQUESTS,
            Some(texts::throttled(view.language, retry_after)),
            Some(retry_after),
        ),
        Some(SignInError::Unavailable) => (
            StatusCode::SERVICE_UNAVAILABLE,
            Some(text.sign_in_unavailable.to_owned()),
            Some(UNAVAILABLE_RETRY),
        ),
        Some(SignInError::BadForm) => (
            StatusCode::BAD_REQUEST,
            Some(text.bad_form.to_owned()),
            None,
        ),
        Some(SignInError::CrossSite) => (
            StatusCode::FORBIDDEN,
            Some(text.cross_site_form.to_owned()),
            None,
        ),
    };
    let html = SignInPage {
        frame: Frame::new(view, text.sign_in),
        username: page.username,
        rd: page.return_to.as_str(),
        error,
        invalid: page.error == Some(SignInError::Wrong),
        local: page.local,
        buttons: providers::links(view.language, page.buttons, page.return_to),
    };
    let mut response = answer(status, view.language, &html, page.allowed.origins());
    if let Some(after) = retry_after {
        response
            .headers_mut()
            .insert(RETRY_AFTER, retry_after_value(after));
    }
    if status == StatusCode::UNAUTHORIZED
        && let Ok(realm) = HeaderValue::from_str(&format!("Bearer realm=\"{}\"", view.host))
    {
        // A 401 needs a challenge; see `Problem::sign_in_required` for why this one.
        response.headers_mut().insert(WWW_AUTHENTICATE, realm);
    }
    response
}

/// `GET /.auth/logout`: a button, because a link must not be able to sign anybody out (attacks L02).
pub fn sign_out(view: &View<'_>, user: Option<&str>) -> Response<Body> {
    let html = SignOutPage {
        frame: Frame::new(view, Texts::of(view.language).sign_out),
        user,
    };
    answer(StatusCode::OK, view.language, &html, std::iter::empty())
}

/// `GET /.auth/logout` without any session: there is nothing to end.
pub fn nobody_to_sign_out(view: &View<'_>) -> Response<Body> {
    let text = Texts::of(view.language);
    let html = MessagePage {
        frame: Frame::new(view, text.nobody),
        message: text.nobody_message,
        status: None,
        user: None,
        action: Some(Link {
            href: "/.auth/login",
            text: text.sign_in,
        }),
    };
    answer(StatusCode::OK, view.language, &html, std::iter::empty())
}

/// After signing out.
pub fn signed_out(view: &View<'_>) -> Response<Body> {
    let text = Texts::of(view.language);
    let html = MessagePage {
        frame: Frame::new(view, text.signed_out),
        message: text.signed_out_message,
        status: None,
        user: None,
        action: Some(Link {
            href: "/",
            text: text.sign_in_again,
        }),
    };
    answer(StatusCode::OK, view.language, &html, std::iter::empty())
}

/// 403 for somebody who is signed in: who they are, and how to become somebody else.
pub fn not_allowed(view: &View<'_>, user: &str) -> Response<Body> {
    let text = Texts::of(view.language);
    let mut frame = Frame::new(view, text.not_allowed);
    frame.request_id = Some(view.request_id);
    let html = MessagePage {
        frame,
        message: text.not_allowed_message,
        status: Some(403),
        user: Some(user),
        action: Some(Link {
            href: "/.auth/logout",
            text: text.other_account,
        }),
    };
    answer(
        StatusCode::FORBIDDEN,
        view.language,
        &html,
        std::iter::empty(),
    )
}

/// The page for any other error. `retry_after` is also sent as a header.
pub fn error(
    view: &View<'_>,
    status: StatusCode,
    problem: ProblemType,
    retry_after: Option<Duration>,
) -> Response<Body> {
    let text = Texts::of(view.language);
    let (title, message) = text.of_problem(problem, status);
    let mut frame = Frame::new(view, title);
    frame.request_id = Some(view.request_id);
    let html = MessagePage {
        frame,
        message,
        status: Some(status.as_u16()),
        user: None,
        action: (status == StatusCode::NOT_FOUND).then_some(Link {
            href: "/",
            text: text.back,
        }),
    };
    let mut response = answer(status, view.language, &html, std::iter::empty());
    if let Some(after) = retry_after {
        response
            .headers_mut()
            .insert(RETRY_AFTER, retry_after_value(after));
    }
    response
}

/// 303 to a place of ours: the sign-in page, or where somebody came from.
pub fn see_other(location: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    // What is no header value is nowhere of ours.
    let location =
        HeaderValue::from_str(location).unwrap_or_else(|_| HeaderValue::from_static("/"));
    let headers = response.headers_mut();
    headers.insert(LOCATION, location);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    response
}

/// When to try again if nothing better is known.
const UNAVAILABLE_RETRY: Duration = Duration::from_secs(5);

/// A page with every header that our pages have.
fn answer(
    status: StatusCode,
    language: Language,
    page: &impl Template,
    form_targets: impl Iterator<Item = String>,
) -> Response<Body> {
    // Rendering into memory fails only if a template says so, and none does.
    let html = page.render().unwrap_or_default();
    let mut response = Response::new(Body::from(html));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let mut fixed = |name: HeaderName, value: &'static str| {
        headers.insert(name, HeaderValue::from_static(value));
    };
    fixed(CONTENT_TYPE, "text/html; charset=utf-8");
    fixed(CONTENT_LANGUAGE, language.tag());
    fixed(VARY, "Accept-Language, Accept, Cookie, Sec-Fetch-Mode");
    fixed(CACHE_CONTROL, "no-store");
    fixed(X_CONTENT_TYPE_OPTIONS, "nosniff");
    fixed(X_FRAME_OPTIONS, "DENY");
    // Not `no-referrer`: browsers would then send `Origin: null` with our own forms.
    fixed(REFERRER_POLICY, "same-origin");
    fixed(
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    );
    fixed(
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    );
    let policy = policy(form_targets);
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    response
}

/// Everything is forbidden but our stylesheet, our icon and our forms. Chromium applies `form-action` to the redirect
/// after the form too, so the other origins that one may be sent back to are named.
fn policy(form_targets: impl Iterator<Item = String>) -> HeaderValue {
    const BEFORE: &str = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'";
    let mut policy = BEFORE.to_owned();
    for target in form_targets {
        policy.push(' ');
        policy.push_str(&target);
    }
    HeaderValue::from_str(&policy).unwrap_or_else(|_| HeaderValue::from_static(BEFORE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::login::sessions::tests::{own, record};

    pub(super) const VIEW: View<'static> = View {
        language: Language::English,
        host: "app.example.com",
        request_id: "req-1",
    };

    pub(super) fn html(response: Response<Body>) -> String {
        let Body::Full(Some(bytes)) = response.into_body() else {
            panic!("no body")
        };
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    fn sign_in_page(
        language: Language,
        username: &str,
        error: Option<SignInError>,
    ) -> Response<Body> {
        sign_in(
            &View { language, ..VIEW },
            &SignIn {
                return_to: &ReturnTo::parse("/notes?a=1&b=\"2\"", &AllowedHosts::none()),
                allowed: &AllowedHosts::none(),
                username,
                error,
                local: true,
                buttons: &[Button {
                    name: "corp",
                    display_name: "Corp <\"&>",
                }],
            },
        )
    }

    fn every_page() -> Vec<(String, Response<Body>)> {
        let mut pages = Vec::new();
        for language in [Language::English, Language::Korean] {
            let view = View { language, ..VIEW };
            let name = |what: &str| format!("{what}-{}", language.tag());
            pages.push((name("sign-in"), sign_in_page(language, "", None)));
            for (what, error) in [
                ("wrong", SignInError::Wrong),
                (
                    "throttled",
                    SignInError::Throttled {
                        retry_after: Duration::from_secs(90),
                    },
                ),
                ("busy", SignInError::Unavailable),
                ("bad-form", SignInError::BadForm),
                ("cross-site", SignInError::CrossSite),
            ] {
                pages.push((name(what), sign_in_page(language, "alice", Some(error))));
            }
            for kind in Trouble::ALL {
                let page = trouble(
                    &view,
                    kind,
                    "Corp",
                    Some("no <b>way</b>"),
                    "/.auth/login",
                    false,
                );
                pages.push((name(&format!("trouble-{kind:?}")), page));
            }
            pages.push((name("onward"), onward(&view, "/notes")));
            pages.push((name("leaving"), leaving(&view, "Corp", "/elsewhere")));
            pages.push((name("sign-out"), sign_out(&view, Some("alice"))));
            pages.push((name("sign-out-unnamed"), sign_out(&view, None)));
            pages.push((name("sign-out-nobody"), nobody_to_sign_out(&view)));
            pages.push((name("signed-out"), signed_out(&view)));
            let phone = "Mozilla/5.0 (Android 14; Mobile; rv:144.0) Gecko/144.0 Firefox/144.0";
            let own = own(
                1,
                vec![record(1, "curl/8.14.1", 200), record(2, phone, 7300)],
            );
            let notice = Some(SessionsNotice::Ended);
            pages.push((name("sessions"), sessions(&view, &own.unwrap(), notice)));
            pages.push((name("not-allowed"), not_allowed(&view, "alice")));
            for status in [
                400, 403, 404, 405, 408, 413, 414, 421, 429, 431, 500, 501, 502, 503, 504, 418, 599,
            ] {
                let status = StatusCode::from_u16(status).unwrap();
                let page = error(&view, status, ProblemType::Status, None);
                pages.push((name(status.as_str()), page));
            }
            for (what, problem) in [
                ("no-sign-in", ProblemType::SignInUnavailable),
                ("end-unconfirmed", ProblemType::EndUnconfirmed),
                ("no-sessions", ProblemType::SessionsUnavailable),
            ] {
                let page = error(&view, StatusCode::SERVICE_UNAVAILABLE, problem, None);
                pages.push((name(what), page));
            }
        }
        pages
    }

    #[test]
    fn every_page_has_the_strict_headers_and_no_script() {
        for (name, response) in every_page() {
            let header = |header: &str| response.headers()[header].to_str().unwrap().to_owned();
            assert_eq!(
                header("content-security-policy"),
                "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'",
                "{name}"
            );
            assert_eq!(header("x-content-type-options"), "nosniff");
            assert_eq!(header("x-frame-options"), "DENY");
            assert_eq!(header("referrer-policy"), "same-origin");
            assert_eq!(header("cache-control"), "no-store");
            assert_eq!(header("cross-origin-opener-policy"), "same-origin");
            assert_eq!(header("cross-origin-resource-policy"), "same-origin");
            assert_eq!(header("content-type"), "text/html; charset=utf-8");
            assert!(header("vary").contains("Accept-Language"));
            let html = html(response).to_lowercase();
            assert!(html.starts_with("<!doctype html>\n<html lang=\""), "{name}");
            for forbidden in [
                "<script",
                "javascript:",
                " onload=",
                " onclick=",
                " style=",
                "<style",
                "http://",
                "https://",
            ] {
                assert!(!html.contains(forbidden), "{name}: {forbidden}");
            }
            for wanted in ["<meta name=\"viewport\"", "<main", "<h1", "<title>"] {
                assert!(html.contains(wanted), "{name}: {wanted}");
            }
        }
    }

    #[test]
    fn the_form_is_labelled_and_keeps_the_name_but_never_the_password() {
        let html = html(sign_in_page(
            Language::English,
            "al\"><script>ice",
            Some(SignInError::Wrong),
        ));
        for wanted in [
            "<form method=\"post\" action=\"/.auth/login\"",
            "<label for=\"username\">",
            "<label for=\"password\">",
            "autocomplete=\"username\"",
            "autocomplete=\"current-password\"",
            "role=\"alert\"",
            "aria-describedby=\"error\"",
            "aria-invalid=\"true\"",
        ] {
            assert!(html.contains(wanted), "{wanted} in {html}");
        }
        assert!(
            html.contains("value=\"al&#34;&#62;&#60;script&#62;ice\""),
            "{html}"
        );
        assert!(
            html.contains("name=\"rd\" value=\"/notes?a=1&#38;b=%222%22\""),
            "{html}"
        );
        let password = html.split("id=\"password\"").nth(1).unwrap();
        assert!(!password[..password.find('>').unwrap()].contains("value"));
    }

    #[test]
    fn each_outcome_has_its_status() {
        let check = |error, status: u16, retry: Option<&str>| {
            let response = sign_in_page(Language::English, "alice", error);
            assert_eq!(response.status(), status);
            let found = response
                .headers()
                .get("retry-after")
                .map(|value| value.to_str().unwrap());
            assert_eq!(found, retry);
            assert_eq!(
                response.headers().contains_key("www-authenticate"),
                status == 401
            );
        };
        check(None, 200, None);
        check(Some(SignInError::Wrong), 401, None);
        check(
            Some(SignInError::Throttled {
                retry_after: Duration::from_millis(1500),
            }),
            429,
            Some("2"),
        );
        check(Some(SignInError::Unavailable), 503, Some("5"));
        check(Some(SignInError::BadForm), 400, None);
        check(Some(SignInError::CrossSite), 403, None);
    }

    #[test]
    fn the_policy_lets_a_form_return_to_other_hosts_of_ours() {
        let allowed = AllowedHosts::new(["app.example.com", "wiki.example.com"], 8443);
        let response = sign_in(
            &VIEW,
            &SignIn {
                return_to: &ReturnTo::default(),
                allowed: &allowed,
                username: "",
                error: None,
                local: true,
                buttons: &[],
            },
        );
        assert!(
            response.headers()["content-security-policy"]
                .to_str()
                .unwrap()
                .ends_with(
                    "form-action 'self' https://app.example.com:8443 https://wiki.example.com:8443"
                )
        );
    }

    #[test]
    fn pages_speak_korean() {
        let html = html(sign_in_page(Language::Korean, "", None));
        assert!(html.contains("<html lang=\"ko\">") && html.contains("로그인"));
    }

    #[test]
    fn a_redirect_is_never_cached_and_never_malformed() {
        let response = see_other("/x");
        assert_eq!(response.status(), 303);
        assert_eq!(response.headers()["location"], "/x");
        assert_eq!(response.headers()["cache-control"], "no-store");
        assert_eq!(see_other("/\n").headers()["location"], "/");
    }

    /// Writes every page and asset into the folder named by `PAGES_TO`, for looking at them:
    /// `PAGES_TO=FOLDER cargo test --lib pages_to_look_at -- --ignored`.
    #[test]
    #[ignore = "writes files, for looking at the pages in a browser"]
    #[allow(
        clippy::disallowed_methods,
        reason = "a tool for people, not the gateway"
    )]
    fn pages_to_look_at() {
        let folder = std::path::PathBuf::from(std::env::var_os("PAGES_TO").unwrap());
        for (name, response) in every_page() {
            std::fs::write(folder.join(name + ".html"), html(response)).unwrap();
        }
        for url in [assets::CSS_URL, assets::ICON_URL] {
            let url = url.to_string();
            let (path, query) = url.split_once('?').unwrap();
            let body = html(asset(path, Some(query)).unwrap());
            std::fs::create_dir_all(folder.join(".auth/assets")).unwrap();
            std::fs::write(folder.join(&path[1..]), body).unwrap();
        }
    }
}
