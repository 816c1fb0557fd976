//! The admin API: what operators do by command, for programs, as JSON. Documented by `docs/openapi.json`, which is served
//! beside it.
//!
//! Nobody's web page can use it: `guard` refuses foreign hosts and origins, and everything that changes something needs a
//! JSON body, which no form can send and no script of another origin may. Must not do anything that `control` does not do.

mod input;
mod shapes;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde::Serialize;

use self::input::{Query, json, read};
use self::shapes::{
    Ended, Key, Keys, Named, Nothing, Revoke, Rotated, Session, Sessions, User, Users,
};
use super::token::Token;
use super::{plain, problem};
use crate::auth::SessionId;
use crate::body::Body;
use crate::control::{self, Operator, Why};
use crate::session::By;

/// Every operation, described for programs.
pub const OPENAPI: &str = include_str!("../../docs/openapi.json");
/// Everything below is the API's.
pub(super) const PREFIX: &str = "/api/";

/// What there is.
pub(super) const OPERATIONS: [(&str, &str, Operation); 7] = [
    ("GET", "/api/v1/sessions", Operation::Sessions),
    ("POST", "/api/v1/sessions/revoke", Operation::RevokeSessions),
    ("GET", "/api/v1/users", Operation::Users),
    ("POST", "/api/v1/users/block", Operation::BlockUser),
    ("POST", "/api/v1/users/unblock", Operation::UnblockUser),
    ("GET", "/api/v1/keys", Operation::Keys),
    ("POST", "/api/v1/keys/rotate", Operation::RotateKeys),
];

/// What can be asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operation {
    Sessions,
    RevokeSessions,
    Users,
    BlockUser,
    UnblockUser,
    Keys,
    RotateKeys,
}

/// Who may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Whoever shows this token.
    Token(Token),
    /// Whoever reaches the listener, which is on the loopback interface.
    Loopback,
    /// Nobody: the listener can be reached from other machines and there is no token.
    Nobody,
}

/// The API over what commands use.
pub struct Api {
    operator: Arc<Operator>,
    access: Access,
}

/// Why something was not done; the answer says it.
struct Refusal {
    status: StatusCode,
    detail: String,
}

fn refusal(status: StatusCode, detail: impl Into<String>) -> Refusal {
    Refusal {
        status,
        detail: detail.into(),
    }
}

impl Api {
    /// Executes requests with `operator`.
    pub fn new(operator: Arc<Operator>, access: Access) -> Self {
        Api { operator, access }
    }

    /// Answers a request below [`PREFIX`]; who sent it has passed the guard.
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        patience: Duration,
    ) -> Response<Body> {
        if let Some(refused) = self.turned_away(request.headers()) {
            return refused;
        }
        let (parts, body) = request.into_parts();
        let (path, method) = (parts.uri.path(), asked_method(&parts.method));
        let of_path = OPERATIONS.iter().filter(|(_, known, _)| *known == path);
        let mut allowed: Vec<&str> = of_path.clone().map(|(method, _, _)| *method).collect();
        let Some((_, _, operation)) = of_path.clone().find(|(known, _, _)| *known == method) else {
            if allowed.is_empty() {
                return problem(
                    StatusCode::NOT_FOUND,
                    "there is no such operation; see /openapi.json",
                );
            }
            if allowed.contains(&"GET") {
                allowed.push("HEAD");
            }
            let mut response = problem(
                StatusCode::METHOD_NOT_ALLOWED,
                "this operation has another method",
            );
            if let Ok(allow) = HeaderValue::from_str(&allowed.join(", ")) {
                response.headers_mut().insert(ALLOW, allow);
            }
            return response;
        };
        let body = match method {
            "POST" => read(&parts.headers, body, patience).await,
            _ => Ok(Bytes::new()),
        };
        let done = match body {
            Ok(body) => self.run(*operation, parts.uri.query(), &body).await,
            Err(refusal) => Err(refusal),
        };
        done.unwrap_or_else(|refusal| problem(refusal.status, &refusal.detail))
    }

    /// The answer to whoever may not use it.
    fn turned_away(&self, headers: &HeaderMap) -> Option<Response<Body>> {
        match &self.access {
            Access::Loopback => None,
            Access::Token(token) if token.admits(headers) => None,
            Access::Token(_) => {
                let mut response = problem(
                    StatusCode::UNAUTHORIZED,
                    "send the token of [admin] as Authorization: Bearer",
                );
                response.headers_mut().insert(
                    WWW_AUTHENTICATE,
                    HeaderValue::from_static("Bearer realm=\"vestibule admin\""),
                );
                Some(response)
            }
            Access::Nobody => Some(problem(
                StatusCode::FORBIDDEN,
                "other machines can reach this listener: the API needs [admin] token_file or token_env",
            )),
        }
    }

    async fn run(
        &self,
        operation: Operation,
        query: Option<&str>,
        body: &[u8],
    ) -> Result<Response<Body>, Refusal> {
        match operation {
            Operation::Sessions => {
                let query = Query::parse(query, &["user", "provider", "limit", "after"])?;
                self.sessions(&query).await
            }
            Operation::RevokeSessions => {
                let request = json::<Revoke>(body)?.meant()?;
                self.ended(request).await
            }
            Operation::Users => {
                let query = Query::parse(query, &["limit", "after"])?;
                self.users(&query).await
            }
            Operation::BlockUser => {
                let name = json::<Named>(body)?.user;
                self.ended(control::Request::UserBlock { name }).await
            }
            Operation::UnblockUser => {
                let name = json::<Named>(body)?.user;
                self.ended(control::Request::UserUnblock { name }).await
            }
            Operation::Keys => match self.execute(control::Request::KeysList).await? {
                control::Response::Keys { keys } => Ok(answer(&Keys {
                    keys: keys.iter().map(Key::of).collect(),
                })),
                _ => Err(unexpected()),
            },
            Operation::RotateKeys => {
                json::<Nothing>(body)?;
                match self.execute(control::Request::KeysRotate).await? {
                    control::Response::KeyRotated { kid } => Ok(answer(&Rotated { kid })),
                    _ => Err(unexpected()),
                }
            }
        }
    }

    async fn sessions(&self, query: &Query) -> Result<Response<Body>, Refusal> {
        let after = match query.get("after") {
            None => None,
            Some(text) => Some(
                SessionId::parse(text)
                    .ok_or_else(|| refusal(StatusCode::BAD_REQUEST, "after is no session id"))?,
            ),
        };
        let user = query.get("user").map(str::to_owned);
        let request = control::Request::SessionList { user };
        let control::Response::Sessions { mut sessions } = self.execute(request).await? else {
            return Err(unexpected());
        };
        if let Some(provider) = query.get("provider") {
            sessions.retain(|session| session.provider == provider);
        }
        // By id, so that a page goes on where the last one ended, whatever came or went meanwhile.
        sessions.sort_by_key(|session| session.session);
        sessions.retain(|session| after.is_none_or(|after| session.session > after));
        let limit = query.limit()?;
        let next = (sessions.len() > limit)
            .then(|| sessions.get(limit - 1).map(|last| last.session))
            .flatten();
        sessions.truncate(limit);
        Ok(answer(&Sessions {
            sessions: sessions.iter().map(Session::of).collect(),
            next,
        }))
    }

    async fn users(&self, query: &Query) -> Result<Response<Body>, Refusal> {
        let request = control::Request::UserList;
        let control::Response::Users { mut users } = self.execute(request).await? else {
            return Err(unexpected());
        };
        users.sort_by(|one, other| one.name.cmp(&other.name));
        if let Some(after) = query.get("after") {
            users.retain(|user| user.name.as_str() > after);
        }
        let limit = query.limit()?;
        let next = (users.len() > limit)
            .then(|| users.get(limit - 1).map(|last| last.name.clone()))
            .flatten();
        users.truncate(limit);
        Ok(answer(&Users {
            users: users.iter().map(User::of).collect(),
            next,
        }))
    }

    /// For everything whose answer is how many sessions it ended.
    async fn ended(&self, request: control::Request) -> Result<Response<Body>, Refusal> {
        let ended = match self.execute(request).await? {
            control::Response::Ended { sessions } => sessions,
            control::Response::Done => 0,
            _ => return Err(unexpected()),
        };
        Ok(answer(&Ended { ended }))
    }

    async fn execute(&self, request: control::Request) -> Result<control::Response, Refusal> {
        match self.operator.execute(request, By::AdminApi).await {
            control::Response::Refused { why, message } => Err(match why {
                Why::Malformed => refusal(StatusCode::BAD_REQUEST, message),
                Why::Unknown => refusal(StatusCode::NOT_FOUND, message),
                Why::Taken => refusal(StatusCode::CONFLICT, message),
                Why::Unavailable => {
                    tracing::warn!(cause = %message, "an operation of the admin API failed");
                    refusal(
                        StatusCode::SERVICE_UNAVAILABLE,
                        "the store cannot do it now; nothing was promised, try again",
                    )
                }
            }),
            response => Ok(response),
        }
    }
}

/// HEAD is GET without its body, which hyper leaves out.
fn asked_method(method: &Method) -> &str {
    if method == Method::HEAD {
        "GET"
    } else {
        method.as_str()
    }
}

fn unexpected() -> Refusal {
    refusal(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the gateway gave an answer to another question",
    )
}

fn answer(value: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(json) => plain("application/json", json),
        Err(_) => problem(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the answer cannot be written",
        ),
    }
}
