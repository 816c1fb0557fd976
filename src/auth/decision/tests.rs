use http::HeaderValue;

use super::*;
use crate::auth::allow::{Allow, Name};
use crate::auth::foreign_token::ForeignTokenError;
use crate::auth::route::Revocation;
use crate::auth::subject::{ForeignProof, Proof};
use crate::auth::test_support::{NOW, ORIGIN as OWN, claims};
use crate::auth::{Generation, SessionId};

fn subject() -> Arc<Subject> {
    Arc::new(Subject::new(claims()))
}

fn sealed() -> RefreshClaims {
    RefreshClaims {
        session: SessionId::from_bytes([7; 16]),
        generation: Generation(3),
        issued_at: NOW,
    }
}

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

const ALL_ERRORS: [TokenError; 13] = [
    TokenError::Unknown,
    TokenError::TooLarge,
    TokenError::Algorithm,
    TokenError::Signature,
    TokenError::Type,
    TokenError::Header,
    TokenError::Critical,
    TokenError::Issuer,
    TokenError::Audience,
    TokenError::Expired,
    TokenError::NotYetValid,
    TokenError::Lifetime,
    TokenError::Claim("sub"),
];

/// A decision in one word.
fn word(decision: &Decision) -> String {
    match decision {
        Decision::SignedIn(_) => "signed in".to_owned(),
        Decision::NeedsRenewal(Renewable::Session(claims)) => {
            assert_eq!(*claims, sealed());
            "renew".to_owned()
        }
        Decision::NeedsRenewal(Renewable::External) => "ask".to_owned(),
        Decision::Anonymous(reason) => format!("{reason:?}"),
    }
}

#[test]
fn who_is_asking() {
    let refreshes = [
        RefreshFinding::Absent,
        RefreshFinding::Sealed(sealed()),
        RefreshFinding::Forged,
        RefreshFinding::Foreign,
    ];
    let check = |access: AccessFinding, want: [&str; 4]| {
        for (refresh, want) in refreshes.into_iter().zip(want) {
            let found = word(&decide(false, access.clone(), refresh));
            assert_eq!(found, want, "{access:?} {refresh:?}");
            let conflicting = word(&decide(true, access.clone(), refresh));
            assert_eq!(conflicting, "ConflictingCookies");
        }
    };
    check(AccessFinding::Valid(subject()), ["signed in"; 4]);
    check(AccessFinding::Revoked, ["Revoked"; 4]);
    check(
        AccessFinding::Absent,
        ["NoCredentials", "renew", "ForgedRefresh", "ask"],
    );
    for error in ALL_ERRORS {
        let bad = format!("BadToken({error:?})");
        let want = match error {
            TokenError::Expired
            | TokenError::Unknown
            | TokenError::NotYetValid
            | TokenError::Lifetime => [&bad, "renew", "ForgedRefresh", "ask"],
            _ => [bad.as_str(); 4],
        };
        check(AccessFinding::Bad(error), want);
    }
}

#[test]
fn navigations_are_told_from_programs() {
    use RequestKind::{Api, Grpc, Navigation};
    const BROWSER: &str =
        "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
    let check = |method: &str, lines: &[(&'static str, &str)], want: RequestKind| {
        let method = method.parse().unwrap();
        assert_eq!(
            request_kind(&method, &headers(lines)),
            want,
            "{method} {lines:?}"
        );
    };
    check("GET", &[], Api);
    for method in ["GET", "HEAD"] {
        check(method, &[("sec-fetch-mode", "navigate")], Navigation);
        check(method, &[("accept", BROWSER)], Navigation);
    }
    for method in ["POST", "get", "PROPFIND"] {
        check(
            method,
            &[("sec-fetch-mode", "navigate"), ("accept", BROWSER)],
            Api,
        );
        check(method, &[("accept", BROWSER)], Api);
    }
    for mode in [
        "cors",
        "no-cors",
        "same-origin",
        "websocket",
        "Navigate",
        "",
    ] {
        check("GET", &[("sec-fetch-mode", mode), ("accept", BROWSER)], Api);
    }
    check(
        "GET",
        &[
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-mode", "navigate"),
        ],
        Api,
    );
    check(
        "GET",
        &[("sec-fetch-site", "same-origin"), ("accept", BROWSER)],
        Api,
    );
    check(
        "GET",
        &[("sec-fetch-dest", "document"), ("accept", BROWSER)],
        Api,
    );
    check(
        "GET",
        &[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")],
        Navigation,
    );

    for accept in [
        "text/html",
        "TEXT/HTML",
        "*/*, text/html",
        "text/html;q=0.1",
        "text/html, application/json",
        "application/json;q=0.9, text/html",
        "application/xhtml+xml",
        "text/html;level=1;q=0.5",
        "text/html;q=1.000",
        "application/json;q=2, text/html",
        " text/html ",
    ] {
        check("GET", &[("accept", accept)], Navigation);
    }
    for accept in [
        "",
        "*/*",
        "text/*",
        "application/json",
        "application/json, text/html",
        "text/html;q=0",
        "text/html;q=0.5, a/b",
        "text/html;q=0.000",
        "text/html;q=",
        "text/html;q=x",
        "text/html;q=0.1234",
        "text/htmlx",
        ",,;;",
        ";q=1",
        "text/event-stream",
    ] {
        check("GET", &[("accept", accept)], Api);
    }
    check(
        "GET",
        &[
            ("accept", "application/json;q=0.5"),
            ("accept", "text/html"),
        ],
        Navigation,
    );

    for content_type in [
        "application/grpc",
        "application/grpc+proto",
        "Application/GRPC",
        "application/grpc-web",
    ] {
        check("POST", &[("content-type", content_type)], Grpc);
    }
    check("POST", &[("content-type", "application/json")], Api);
    check("POST", &[("content-type", "application/grp")], Api);
}

#[test]
fn state_changes_and_websockets_must_come_from_our_own_origin() {
    use CrossSite::{Harmless, Suspect};
    let check = |method: &str, lines: &[(&'static str, &str)], own: &str, want: CrossSite| {
        let method = method.parse().unwrap();
        assert_eq!(
            cross_site(&method, &headers(lines), own),
            want,
            "{method} {lines:?}"
        );
    };
    let evil = [("sec-fetch-site", "cross-site"), ("origin", "https://evil")];
    for method in [
        "GET", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "REPORT", "SEARCH", "QUERY", "PRI",
    ] {
        check(method, &[], OWN, Harmless);
        check(method, &evil, OWN, Harmless);
    }
    for method in [
        "POST",
        "PUT",
        "PATCH",
        "DELETE",
        "CONNECT",
        "get",
        "PROPPATCH",
        "MKCOL",
        "LOCK",
        "X",
    ] {
        check(method, &[], OWN, Suspect);
        check(method, &evil, OWN, Suspect);
        check(method, &[("sec-fetch-site", "same-origin")], OWN, Harmless);
    }
    let own = ("origin", OWN);
    let site = |value| ("sec-fetch-site", value);
    for (lines, want) in [
        (vec![own], Harmless),
        (vec![site("none")], Harmless),
        (vec![site("same-origin"), own], Harmless),
        (vec![site("none"), own], Harmless),
        (vec![site("same-site")], Suspect),
        (vec![site("same-site"), own], Suspect),
        (vec![site("cross-site"), own], Suspect),
        (vec![site("Same-Origin")], Suspect),
        (vec![site("")], Suspect),
        (
            vec![site("same-origin"), ("origin", "https://evil")],
            Suspect,
        ),
        (vec![site("same-origin"), ("origin", "null")], Suspect),
        (vec![("origin", "null")], Suspect),
        (vec![("origin", "")], Suspect),
        (vec![own, own], Suspect),
        (vec![own, ("origin", "https://evil")], Suspect),
        (vec![site("same-origin"), site("same-origin")], Suspect),
        (vec![("origin", "https://app.example.com:443")], Harmless),
        (vec![("origin", "HTTPS://APP.example.com")], Harmless),
        (vec![("origin", "http://app.example.com")], Suspect),
        (vec![("origin", "https://app.example.com:8443")], Suspect),
        (vec![("origin", "https://app.example.com:80")], Suspect),
        (vec![("origin", "https://app.example.com.")], Suspect),
        (vec![("origin", "https://app.example.com/")], Suspect),
        (vec![("origin", "https://app.example.com.evil")], Suspect),
        (vec![("origin", "https://evil-app.example.com")], Suspect),
    ] {
        check("POST", &lines, OWN, want);
        // A WebSocket handshake is judged likewise, in any spelling and on any of several lines.
        for upgrade in ["websocket", "WebSocket", "h2c, websocket", "websocket/13"] {
            let mut lines = lines.clone();
            lines.push(("upgrade", "foo"));
            lines.push(("upgrade", upgrade));
            check("GET", &lines, OWN, want);
        }
    }
    check("GET", &[("upgrade", "h2c")], OWN, Harmless);
    check(
        "POST",
        &[("origin", "https://localhost:8443")],
        "https://localhost:8443",
        Harmless,
    );
    check(
        "POST",
        &[("origin", "https://localhost")],
        "https://localhost:8443",
        Suspect,
    );
    check(
        "POST",
        &[("origin", "http://localhost:80")],
        "http://localhost",
        Harmless,
    );
}

struct Case {
    access: Access,
    preflight: Preflight,
    allow: Allow,
    method: &'static str,
    headers: Vec<(&'static str, &'static str)>,
}

impl Case {
    fn new(access: Access) -> Self {
        Case {
            access,
            preflight: Preflight::Deny,
            allow: Allow::default(),
            method: "GET",
            headers: Vec::new(),
        }
    }

    /// The action in one word.
    fn act(&self, decision: &Decision) -> &'static str {
        let route = Route {
            host: "app.example.com".to_owned(),
            path: "/".to_owned(),
            methods: Vec::new(),
            upstream: UpstreamId(4),
            access: self.access,
            allow: self.allow.clone(),
            preflight: self.preflight,
            revocation: Revocation::Pushed,
        };
        let target = CanonicalTarget::parse("/a%20b?c").unwrap();
        let method = self.method.parse().unwrap();
        let headers = headers(&self.headers);
        match act(decision, &route, target.clone(), &method, &headers, OWN) {
            Action::Forward(permit) => {
                assert_eq!(permit.upstream(), UpstreamId(4));
                assert_eq!(permit.target(), &target);
                match permit.subject() {
                    None => "forward bare",
                    Some(subject) => {
                        assert_eq!(subject.access_claims(), Some(&claims()));
                        "forward as alice"
                    }
                }
            }
            Action::Renew(renewable) => {
                assert_eq!(renewable, Renewable::Session(sealed()));
                "renew"
            }
            Action::Challenge(RequestKind::Navigation, AnonymousReason::NoCredentials) => "sign in",
            Action::Challenge(RequestKind::Api, AnonymousReason::NoCredentials) => "401",
            Action::Challenge(..) => "another challenge",
            Action::InsufficientScope => "403 scope",
            Action::NotAllowed(RequestKind::Navigation) => "403 page",
            Action::NotAllowed(_) => "403",
            Action::CrossSite => "cross-site",
        }
    }

    /// The actions for anonymous, signed in, and to be renewed.
    fn check(&self, want: [&str; 3]) {
        let decisions = [
            Decision::Anonymous(AnonymousReason::NoCredentials),
            Decision::SignedIn(subject()),
            Decision::NeedsRenewal(Renewable::Session(sealed())),
        ];
        for (decision, want) in decisions.iter().zip(want) {
            assert_eq!(
                self.act(decision),
                want,
                "{:?} {} {:?} {decision:?}",
                self.access,
                self.method,
                self.headers
            );
        }
    }
}

#[test]
fn what_happens_on_each_kind_of_route() {
    let navigate = vec![("sec-fetch-mode", "navigate")];
    let cross_site = vec![("sec-fetch-site", "cross-site")];
    let same_origin = vec![("sec-fetch-site", "same-origin")];
    let websocket = vec![("upgrade", "websocket"), ("origin", "https://evil")];
    for (method, headers, [public, optional, authenticated]) in [
        (
            "GET",
            vec![],
            [
                ["forward bare"; 3],
                ["forward bare", "forward as alice", "renew"],
                ["401", "forward as alice", "renew"],
            ],
        ),
        (
            "GET",
            navigate,
            [
                ["forward bare"; 3],
                ["forward bare", "forward as alice", "renew"],
                ["sign in", "forward as alice", "renew"],
            ],
        ),
        (
            "POST",
            same_origin,
            [
                ["forward bare"; 3],
                ["forward bare", "forward as alice", "renew"],
                ["401", "forward as alice", "renew"],
            ],
        ),
        (
            "POST",
            cross_site,
            [
                ["forward bare"; 3],
                ["forward bare", "cross-site", "cross-site"],
                ["401", "cross-site", "cross-site"],
            ],
        ),
        (
            "GET",
            websocket,
            [
                ["forward bare"; 3],
                ["forward bare", "cross-site", "cross-site"],
                ["401", "cross-site", "cross-site"],
            ],
        ),
    ] {
        for (access, want) in [
            (Access::Public, public),
            (Access::Optional, optional),
            (Access::Authenticated, authenticated),
        ] {
            let case = Case {
                method,
                headers: headers.clone(),
                ..Case::new(access)
            };
            case.check(want);
        }
    }
}

fn by_token(scopes: &[&str]) -> Decision {
    let proof = Proof::Bearer(ForeignProof {
        identity: claims().identity,
        scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
        expires_at: NOW,
    });
    Decision::SignedIn(Arc::new(Subject::of(proof)))
}

/// What a bearer token comes to on a route.
fn with_token(
    route: &Route,
    method: &str,
    sent: &[(&'static str, &'static str)],
    who: &Decision,
) -> String {
    let target = CanonicalTarget::parse("/").unwrap();
    let method = method.parse().unwrap();
    match act(who, route, target, &method, &headers(sent), OWN) {
        Action::Forward(permit) => format!("forward {}", permit.subject().is_some()),
        Action::Challenge(kind, reason) => format!("{kind:?} {reason:?}"),
        other => format!("{other:?}"),
    }
}

fn any_route(access: Access, scopes: &[&str]) -> Route {
    Route {
        host: "app.example.com".to_owned(),
        path: "/".to_owned(),
        methods: Vec::new(),
        upstream: UpstreamId(0),
        access,
        allow: Allow {
            scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
            ..Allow::default()
        },
        preflight: Preflight::Deny,
        revocation: Revocation::Pushed,
    }
}

#[test]
fn no_other_site_can_make_a_browser_send_a_bearer_token() {
    let route = any_route(Access::Authenticated, &[]);
    let elsewhere = [
        ("origin", "https://evil.example"),
        ("sec-fetch-site", "cross-site"),
    ];
    for method in ["GET", "POST", "DELETE"] {
        let done = with_token(&route, method, &elsewhere, &by_token(&[]));
        assert_eq!(done, "forward true", "{method}");
    }
    let cookie = Decision::SignedIn(subject());
    assert_eq!(with_token(&route, "POST", &elsewhere, &cookie), "CrossSite");
    let external = ForeignProof {
        identity: claims().identity,
        scopes: Vec::new(),
        expires_at: NOW,
    };
    let external = Decision::SignedIn(Arc::new(Subject::of(Proof::External(external))));
    assert_eq!(
        with_token(&route, "POST", &elsewhere, &external),
        "CrossSite"
    );
}

#[test]
fn a_token_without_the_scope_of_the_route() {
    let route = any_route(Access::Authenticated, &["read", "write"]);
    let with = |scopes: &[&str]| with_token(&route, "GET", &[], &by_token(scopes));
    assert_eq!(with(&["write"]), "forward true");
    assert_eq!(with(&["x"]), "InsufficientScope");
    assert_eq!(with(&[]), "InsufficientScope");
    let session = with_token(&route, "GET", &[], &Decision::SignedIn(subject()));
    assert_eq!(session, "NotAllowed(Api)");
}

#[test]
fn a_refused_token_is_never_a_redirect_and_never_nobody() {
    let refused = |why| Decision::Anonymous(AnonymousReason::Bearer(why));
    let expired = BearerRefusal::Token(ForeignTokenError::Expired);
    let navigates = [("sec-fetch-mode", "navigate")];
    for access in [Access::Authenticated, Access::Optional] {
        let done = with_token(
            &any_route(access, &[]),
            "GET",
            &navigates,
            &refused(expired),
        );
        assert_eq!(done, "Api Bearer(Token(Expired))");
    }
    let grpc = [("content-type", "application/grpc")];
    let done = with_token(
        &any_route(Access::Optional, &[]),
        "POST",
        &grpc,
        &refused(expired),
    );
    assert_eq!(done, "Grpc Bearer(Token(Expired))");
    let done = with_token(
        &any_route(Access::Public, &[]),
        "GET",
        &[],
        &refused(expired),
    );
    assert_eq!(done, "forward false");
}

#[test]
fn a_token_of_nobody_we_know_is_refused_only_where_it_is_all_there_is() {
    let nobody = || Decision::Anonymous(AnonymousReason::NoCredentials);
    let over = || Decision::Anonymous(AnonymousReason::BadToken(TokenError::Expired));
    let judged = |decision, access| format!("{:?}", beside_stranger(decision, access));
    let stranger = "Anonymous(Bearer(Stranger))";
    assert_eq!(judged(nobody(), Access::Authenticated), stranger);
    assert_eq!(
        judged(nobody(), Access::Optional),
        "Anonymous(NoCredentials)"
    );
    assert_eq!(
        judged(over(), Access::Authenticated),
        "Anonymous(BadToken(Expired))"
    );
    let signed_in = beside_stranger(Decision::SignedIn(subject()), Access::Authenticated);
    assert!(matches!(signed_in, Decision::SignedIn(_)));
}

#[test]
fn whom_the_route_does_not_admit() {
    let allow = Allow {
        groups: vec![Name {
            provider: None,
            name: "admins".to_owned(),
        }],
        ..Allow::default()
    };
    let check = |access, headers: &[(&'static str, &'static str)], want| {
        let case = Case {
            allow: allow.clone(),
            headers: headers.to_vec(),
            ..Case::new(access)
        };
        case.check(want);
    };
    let navigate = [("sec-fetch-mode", "navigate")];
    check(Access::Authenticated, &[], ["401", "403", "renew"]);
    check(
        Access::Authenticated,
        &navigate,
        ["sign in", "403 page", "renew"],
    );
    check(Access::Optional, &[], ["forward bare", "403", "renew"]);
    check(Access::Public, &[], ["forward bare"; 3]);
}

#[test]
fn preflights_are_forwarded_bare_or_judged() {
    let check = |method, preflight, with: &[&'static str], want| {
        let case = Case {
            method,
            preflight,
            headers: with.iter().map(|&name| (name, "x")).collect(),
            ..Case::new(Access::Authenticated)
        };
        case.check(want);
    };
    let both = ["origin", "access-control-request-method"];
    let judged = ["401", "forward as alice", "renew"];
    check("OPTIONS", Preflight::Forward, &both, ["forward bare"; 3]);
    check("OPTIONS", Preflight::Deny, &both, judged);
    check("OPTIONS", Preflight::Forward, &both[..1], judged);
    check("OPTIONS", Preflight::Forward, &both[1..], judged);
    check("GET", Preflight::Forward, &both, judged);
    check(
        "options",
        Preflight::Forward,
        &both,
        ["401", "cross-site", "cross-site"],
    );
}
