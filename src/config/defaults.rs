//! Every key of `gateway.toml`: its shape, its default and its meaning. The one place for defaults; the table in docs/configuration.md,
//! the annotated `gateway.toml` and the reader are held against it.
//!
//! Must not check values: that is `check`.

use Fallback::{Absent, Required, Value};
use Shape::{
    Claims, Count, Duration, Flag, Names, Size, Sources, Table, Tables, Text, TextOrTable, Texts,
};
use Status::{Here, NotYet, Renamed};

/// What a key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `[table]`.
    Table,
    /// `[[table]]`, any number of times.
    Tables,
    /// `[table.NAME]` for names of the deployer's choice; what each may hold stands under the path `table.NAME`.
    Names,
    /// A table whose keys are the deployer's: header = claim, parameter = value.
    Claims,
    /// A text or a table (checked where it is used).
    TextOrTable,
    /// A text.
    Text,
    /// A list of texts.
    Texts,
    /// A list of file names or tables that name a file or a variable.
    Sources,
    /// `true` or `false`.
    Flag,
    /// A whole number.
    Count,
    /// A text such as `"5m"`.
    Duration,
    /// A text such as `"64KiB"`.
    Size,
}

/// What holds when the key is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// It must be there.
    Required,
    /// This value, as it would be written (texts without quotes).
    Value(&'static str),
    /// Nothing; says what that means.
    Absent(&'static str),
}

/// Whether this version acts on the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Yes.
    Here,
    /// Part of the product, not of this version: never silently ignored.
    NotYet,
    /// A tombstone: the key is now called otherwise.
    #[allow(
        dead_code,
        reason = "the first renamed key is still to come; tests hold the mechanism"
    )]
    Renamed(&'static str),
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Tables and key, joined by dots.
    pub path: &'static str,
    /// What it holds.
    pub shape: Shape,
    /// What holds without it.
    pub fallback: Fallback,
    /// Whether it acts.
    pub status: Status,
    /// What it means, one line.
    pub meaning: &'static str,
}

const fn key(path: &'static str, shape: Shape, fallback: Fallback, meaning: &'static str) -> Key {
    Key {
        path,
        shape,
        fallback,
        status: Here,
        meaning,
    }
}

const fn table(path: &'static str, shape: Shape, meaning: &'static str) -> Key {
    key(path, shape, Absent(""), meaning)
}

const fn not_yet(path: &'static str, shape: Shape, meaning: &'static str) -> Key {
    Key {
        path,
        shape,
        fallback: Absent(""),
        status: NotYet,
        meaning,
    }
}

/// Every key, in the order in which the file is best read.
pub const KEYS: &[Key] = &[
    table("server", Table, "where and how to listen"),
    key(
        "server.listen",
        Texts,
        Value("0.0.0.0:443"),
        "TLS listeners, address:port",
    ),
    key(
        "server.origin",
        Text,
        Required,
        "what users type; redirects and cookies are built from it, never from Host",
    ),
    key(
        "server.redirect_http",
        Text,
        Absent("no plain listener"),
        "plain listener that answers 308 to https, nothing else: hosts of routes to themselves, anything else to the origin",
    ),
    key(
        "server.trusted_proxies",
        Texts,
        Value(""),
        "networks whose X-Forwarded-For is believed",
    ),
    table("server.limits", Table, "limits and timeouts"),
    key(
        "server.limits.header_bytes",
        Size,
        Value("64KiB"),
        "largest request head (431)",
    ),
    key(
        "server.limits.headers",
        Count,
        Value("100"),
        "most header fields (431)",
    ),
    key(
        "server.limits.body_bytes",
        Size,
        Value("unlimited"),
        "largest request body (413)",
    ),
    key(
        "server.limits.connections",
        Count,
        Value("10000"),
        "most connections at once; more wait",
    ),
    key(
        "server.limits.handshake_timeout",
        Duration,
        Value("10s"),
        "TCP accepted to TLS established",
    ),
    key(
        "server.limits.header_timeout",
        Duration,
        Value("10s"),
        "first to last byte of a request head",
    ),
    key(
        "server.limits.body_idle_timeout",
        Duration,
        Value("30s"),
        "longest silence within a body",
    ),
    key(
        "server.limits.idle_timeout",
        Duration,
        Value("75s"),
        "longest silence between requests",
    ),
    key(
        "server.limits.shutdown_grace",
        Duration,
        Value("30s"),
        "time for requests in flight at shutdown",
    ),
    table("tls", Table, "either self_signed or certificate"),
    key(
        "tls.self_signed",
        Flag,
        Value("false"),
        "a certificate made at start; development only",
    ),
    table(
        "tls.certificate",
        Tables,
        "certificates from files; several are chosen by SNI, the first is the default",
    ),
    key(
        "tls.certificate.cert",
        Text,
        Required,
        "PEM file: chain, leaf first",
    ),
    key(
        "tls.certificate.key",
        Text,
        Required,
        "PEM file: private key",
    ),
    not_yet("tls.acme", Table, "certificates from an ACME service"),
    table("session", Table, "how long sessions last"),
    key(
        "session.access_ttl",
        Duration,
        Value("5m"),
        "life of an access token",
    ),
    key(
        "session.idle_ttl",
        Duration,
        Value("14d"),
        "a session ends when unused this long",
    ),
    key(
        "session.absolute_ttl",
        Duration,
        Value("90d"),
        "a session ends in any case",
    ),
    key(
        "session.redelivery_window",
        Duration,
        Value("30s"),
        "how long a lost renewal is answered again; at most half of access_ttl",
    ),
    key(
        "session.replay_grace",
        Duration,
        Value("30s"),
        "how long requests in flight may still carry the spent token; from a third of redelivery_window to half of access_ttl",
    ),
    key(
        "session.same_site",
        Text,
        Value("lax"),
        "SameSite of our cookies: strict, lax or none",
    ),
    key(
        "session.cookie_domain",
        Text,
        Absent("each route host has its own session"),
        "one sign-in for all hosts below this domain",
    ),
    table("store", Table, "where sessions, accounts and keys are kept"),
    key(
        "store.kind",
        Text,
        Value("embedded"),
        "embedded: one durable file under path; redis: shared by several nodes",
    ),
    key(
        "store.path",
        Text,
        Value("data"),
        "this node's folder: the embedded store, the control socket",
    ),
    key(
        "store.url",
        Text,
        Absent("none: embedded"),
        "redis://host, redis+sentinel://host,host/master, redis+cluster://host,host; rediss: over TLS",
    ),
    key(
        "store.url_env",
        Text,
        Absent(""),
        "environment variable with the whole address, perhaps with a password",
    ),
    key(
        "store.password_file",
        Text,
        Absent("no password"),
        "file with the store's password; the user is in the address",
    ),
    key(
        "store.password_env",
        Text,
        Absent(""),
        "environment variable with the store's password",
    ),
    key(
        "store.sentinel_password_file",
        Text,
        Absent("no password"),
        "file with the password of the Sentinels themselves",
    ),
    key(
        "store.sentinel_password_env",
        Text,
        Absent(""),
        "environment variable with it",
    ),
    key(
        "store.ca",
        Text,
        Absent("the system's authorities"),
        "PEM file of the authority that signed the store's certificate",
    ),
    key(
        "store.replicas",
        Count,
        Value("0"),
        "replicas that must confirm a write before it counts",
    ),
    table("secret", Table, "the master key, from a file or a variable"),
    key(
        "secret.file",
        Text,
        Absent("made in the store folder at first start, mode 0600; required with redis"),
        "file with the master key, 32 bytes or more",
    ),
    key(
        "secret.env",
        Text,
        Absent(""),
        "environment variable with the master key",
    ),
    key(
        "secret.previous",
        Sources,
        Value(""),
        "former master keys whose refresh tokens still work",
    ),
    table("login", Table, "who authenticates people"),
    table(
        "login.local",
        Table,
        "built-in accounts (vestibule user add)",
    ),
    table(
        "login.oidc",
        Names,
        "OpenID providers, each in [login.oidc.NAME]",
    ),
    table("login.oidc.NAME", Table, "an OpenID provider"),
    key(
        "login.oidc.NAME.issuer",
        Text,
        Required,
        "its issuer, exactly as its discovery document writes it",
    ),
    key(
        "login.oidc.NAME.client_id",
        Text,
        Required,
        "how the provider knows this gateway",
    ),
    key(
        "login.oidc.NAME.client_secret_file",
        Text,
        Absent(""),
        "file with the client secret",
    ),
    key(
        "login.oidc.NAME.client_secret_env",
        Text,
        Absent(""),
        "environment variable with the client secret",
    ),
    key(
        "login.oidc.NAME.client_auth",
        Text,
        Value("secret_basic"),
        "how the gateway proves to be the client: secret_basic, secret_post, private_key_jwt or none",
    ),
    key(
        "login.oidc.NAME.client_key_file",
        Text,
        Absent(""),
        "PEM file with the private key for private_key_jwt: RSA, P-256 or Ed25519",
    ),
    key(
        "login.oidc.NAME.client_key_id",
        Text,
        Absent("no kid"),
        "kid under which the provider knows that key",
    ),
    key(
        "login.oidc.NAME.scopes",
        Texts,
        Absent("openid, profile, email"),
        "what is asked for; openid must be among them",
    ),
    table(
        "login.oidc.NAME.allow",
        Table,
        "whom the provider may bring in; any one match suffices; without it, everybody it knows",
    ),
    key(
        "login.oidc.NAME.allow.email_domains",
        Texts,
        Value(""),
        "people with a verified e-mail address of these domains",
    ),
    key(
        "login.oidc.NAME.allow.groups",
        Texts,
        Value(""),
        "members of these groups",
    ),
    key(
        "login.oidc.NAME.allow.users",
        Texts,
        Value(""),
        "these users",
    ),
    key(
        "login.oidc.NAME.allow.emails",
        Texts,
        Value(""),
        "these verified e-mail addresses",
    ),
    table(
        "login.oidc.NAME.claims",
        Table,
        "where in the ID token or in userinfo each part of the identity is found; a path such as realm_access.roles",
    ),
    key(
        "login.oidc.NAME.claims.user",
        Text,
        Value("sub"),
        "who it is; must be unique at the provider and never given to somebody else",
    ),
    key(
        "login.oidc.NAME.claims.email",
        Text,
        Value("email"),
        "e-mail address",
    ),
    key(
        "login.oidc.NAME.claims.email_verified",
        Text,
        Value("email_verified"),
        "whether that address is verified; what is not is left out",
    ),
    key(
        "login.oidc.NAME.claims.name",
        Text,
        Value("name"),
        "name for people",
    ),
    key(
        "login.oidc.NAME.claims.preferred_username",
        Text,
        Value("preferred_username"),
        "name that they sign in with",
    ),
    key(
        "login.oidc.NAME.claims.groups",
        Text,
        Value("groups"),
        "groups: a list of texts, or one text",
    ),
    key(
        "login.oidc.NAME.trust_email",
        Flag,
        Value("false"),
        "take every e-mail address of this provider as verified although it does not say so",
    ),
    key(
        "login.oidc.NAME.prompt",
        Text,
        Absent("the provider decides"),
        "login, consent or select_account: what the provider asks each time",
    ),
    key(
        "login.oidc.NAME.max_age",
        Duration,
        Absent("any"),
        "longest ago that somebody may have signed in at the provider",
    ),
    key(
        "login.oidc.NAME.extra",
        Claims,
        Absent("none"),
        "further parameters of the authorization request, as a table of texts",
    ),
    key(
        "login.oidc.NAME.provider_check",
        Duration,
        Value("15m"),
        "a renewal asks the provider when its last answer is older",
    ),
    key(
        "login.oidc.NAME.provider_grace",
        Duration,
        Value("24h"),
        "how much older it may become while the provider cannot be asked",
    ),
    key(
        "login.oidc.NAME.logout_return",
        Text,
        Absent("the signed-out page"),
        "where people go after the provider has signed them out: a path, or an https address",
    ),
    key(
        "login.oidc.NAME.display_name",
        Text,
        Absent("NAME"),
        "what the button on the sign-in page says",
    ),
    key(
        "login.oidc.NAME.ca_file",
        Text,
        Absent("the system's authorities"),
        "PEM file of the authority that signed the provider's certificate",
    ),
    table(
        "login.oauth2",
        Names,
        "OAuth 2 services without OpenID Connect, such as GitHub, each in [login.oauth2.NAME]",
    ),
    table("login.oauth2.NAME", Table, "an OAuth 2 service"),
    key(
        "login.oauth2.NAME.authorize_url",
        Text,
        Required,
        "where browsers are sent to sign in",
    ),
    key(
        "login.oauth2.NAME.token_url",
        Text,
        Required,
        "where the code becomes a token",
    ),
    key(
        "login.oauth2.NAME.userinfo_url",
        Text,
        Required,
        "JSON that says who a token belongs to",
    ),
    key(
        "login.oauth2.NAME.emails_url",
        Text,
        Absent("e-mail from userinfo"),
        "JSON list of email, primary and verified, as GitHub gives it",
    ),
    key(
        "login.oauth2.NAME.client_id",
        Text,
        Required,
        "how the provider knows this gateway",
    ),
    key(
        "login.oauth2.NAME.client_secret_file",
        Text,
        Absent(""),
        "file with the client secret",
    ),
    key(
        "login.oauth2.NAME.client_secret_env",
        Text,
        Absent(""),
        "environment variable with the client secret",
    ),
    key(
        "login.oauth2.NAME.client_auth",
        Text,
        Value("secret_post"),
        "how the gateway proves to be the client: secret_basic, secret_post or none",
    ),
    key(
        "login.oauth2.NAME.scopes",
        Texts,
        Value(""),
        "what is asked for",
    ),
    table(
        "login.oauth2.NAME.allow",
        Table,
        "whom the service may bring in; any one match suffices",
    ),
    key(
        "login.oauth2.NAME.allow.email_domains",
        Texts,
        Value(""),
        "people with a verified e-mail address of these domains",
    ),
    key(
        "login.oauth2.NAME.allow.groups",
        Texts,
        Value(""),
        "members of these groups",
    ),
    key(
        "login.oauth2.NAME.allow.users",
        Texts,
        Value(""),
        "these users",
    ),
    key(
        "login.oauth2.NAME.allow.emails",
        Texts,
        Value(""),
        "these verified e-mail addresses",
    ),
    table(
        "login.oauth2.NAME.claims",
        Table,
        "where in the answer of userinfo_url each part of the identity is found",
    ),
    key(
        "login.oauth2.NAME.claims.subject",
        Text,
        Value("id"),
        "what never changes and is never given to somebody else",
    ),
    key(
        "login.oauth2.NAME.claims.user",
        Text,
        Value("id"),
        "who it is to apps",
    ),
    key(
        "login.oauth2.NAME.claims.email",
        Text,
        Value("email"),
        "e-mail address",
    ),
    key(
        "login.oauth2.NAME.claims.email_verified",
        Text,
        Value("email_verified"),
        "whether that address is verified; what is not is left out",
    ),
    key(
        "login.oauth2.NAME.claims.name",
        Text,
        Value("name"),
        "name for people",
    ),
    key(
        "login.oauth2.NAME.claims.preferred_username",
        Text,
        Value("login"),
        "name that they sign in with",
    ),
    key(
        "login.oauth2.NAME.claims.groups",
        Text,
        Value("groups"),
        "groups: a list of texts, or one text",
    ),
    key(
        "login.oauth2.NAME.trust_email",
        Flag,
        Value("false"),
        "take the e-mail address in the answer of userinfo_url as verified",
    ),
    key(
        "login.oauth2.NAME.extra",
        Claims,
        Absent("none"),
        "further parameters of the authorization request, as a table of texts",
    ),
    key(
        "login.oauth2.NAME.display_name",
        Text,
        Absent("NAME"),
        "what the button on the sign-in page says",
    ),
    key(
        "login.oauth2.NAME.ca_file",
        Text,
        Absent("the system's authorities"),
        "PEM file of the authority that signed the provider's certificate",
    ),
    table(
        "external",
        Table,
        "instead of [login]: tokens issued by a service of yours",
    ),
    key(
        "external.issuer",
        Text,
        Required,
        "iss of its access tokens, exactly",
    ),
    key(
        "external.audience",
        Text,
        Required,
        "what their aud must name",
    ),
    key(
        "external.algorithms",
        Texts,
        Required,
        "how they are signed: one of HS256, HS384, HS512, or any of RS, PS and ES with 256, 384, 512, and EdDSA",
    ),
    key(
        "external.secret_file",
        Text,
        Absent(""),
        "file with the secret of the HS algorithms; or secret_env, public_key_file, jwks_file, jwks_url: exactly one",
    ),
    key(
        "external.secret_env",
        Text,
        Absent(""),
        "environment variable with that secret",
    ),
    key(
        "external.public_key_file",
        Text,
        Absent(""),
        "PEM file with the public key, or several",
    ),
    key(
        "external.jwks_file",
        Text,
        Absent(""),
        "file with the public keys as a JWK Set",
    ),
    key(
        "external.jwks_url",
        Text,
        Absent(""),
        "where that JWK Set is fetched, and fetched again",
    ),
    key(
        "external.access_cookie",
        Text,
        Value("access_token"),
        "name of its access cookie",
    ),
    key(
        "external.refresh_cookie",
        Text,
        Value("refresh_token"),
        "name of its refresh cookie; browsers must send it everywhere (Path=/)",
    ),
    key(
        "external.refresh_url",
        Text,
        Absent("nothing is renewed here"),
        "where a POST with the refresh cookie is answered with new cookies",
    ),
    key(
        "external.token_endpoint",
        Text,
        Absent(""),
        "instead: an RFC 6749 token endpoint, whose answer is JSON",
    ),
    key(
        "external.client_id",
        Text,
        Absent("required with token_endpoint"),
        "which client the gateway is there",
    ),
    key(
        "external.client_secret_file",
        Text,
        Absent("a public client"),
        "file with its secret",
    ),
    key(
        "external.client_secret_env",
        Text,
        Absent(""),
        "environment variable with its secret",
    ),
    key(
        "external.ca_file",
        Text,
        Absent("the system's authorities"),
        "PEM file of the authority that signed the service's certificate",
    ),
    key(
        "external.login_url",
        Text,
        Required,
        "where people are sent to sign in (rd is appended): a path that some route leads to the service, or an https URL",
    ),
    key(
        "external.logout_url",
        Text,
        Absent("/.auth/logout does not exist"),
        "where /.auth/logout sends people: the page on which the service signs them out",
    ),
    key(
        "external.cookies_to",
        Texts,
        Absent("the upstream at the address of refresh_url or token_endpoint"),
        "the upstreams that get its two cookies: the service itself",
    ),
    table(
        "external.claims",
        Table,
        "where in the access token each part of the identity is found; a path such as realm_access.roles",
    ),
    key("external.claims.user", Text, Value("sub"), "who it is"),
    key(
        "external.claims.email",
        Text,
        Value("email"),
        "e-mail address",
    ),
    key(
        "external.claims.name",
        Text,
        Value("name"),
        "name for people",
    ),
    key(
        "external.claims.preferred_username",
        Text,
        Value("preferred_username"),
        "name that they sign in with",
    ),
    key(
        "external.claims.groups",
        Text,
        Value("groups"),
        "groups: a list of texts, or one text",
    ),
    key(
        "external.trust_email",
        Flag,
        Value("false"),
        "take an e-mail address of this service as verified where its tokens do not say (email_verified)",
    ),
    key(
        "external.max_access_life",
        Duration,
        Value("24h"),
        "longest life of an access token that is believed",
    ),
    key(
        "external.replay_grace",
        Duration,
        Value("30s"),
        "how long the outcome of a renewal is remembered for the token that was spent",
    ),
    key(
        "external.wait",
        Duration,
        Value("10s"),
        "how long a request waits for a renewal before it is told to try again",
    ),
    key(
        "external.refresh_timeout",
        Duration,
        Value("60s"),
        "how long the call itself may take before the refresh token counts as lost",
    ),
    table(
        "bearer",
        Tables,
        "API clients: Authorization: Bearer <JWT> of this issuer",
    ),
    key(
        "bearer.issuer",
        Text,
        Required,
        "iss of its tokens, exactly; no two tables have the same",
    ),
    key(
        "bearer.audience",
        Text,
        Required,
        "what aud of its tokens must name",
    ),
    key(
        "bearer.jwks_url",
        Text,
        Absent("discovered at the issuer"),
        "where its public keys are fetched; at most one of these four keys",
    ),
    key(
        "bearer.jwks_file",
        Text,
        Absent(""),
        "file with its public keys as a JWK Set",
    ),
    key(
        "bearer.public_key_file",
        Text,
        Absent(""),
        "PEM file with its public key or certificate, or several",
    ),
    key(
        "bearer.secret_file",
        Text,
        Absent(""),
        "file with the secret that it signs with (HS256, or what algorithms says)",
    ),
    key(
        "bearer.secret_env",
        Text,
        Absent(""),
        "environment variable with that secret",
    ),
    key(
        "bearer.algorithms",
        Texts,
        Absent("all that work with a public key"),
        "what its keys may be used with; an RSA key without alg is for the first RSA algorithm",
    ),
    table(
        "bearer.claims",
        Table,
        "where in the token each part of the identity is found; a path such as realm_access.roles",
    ),
    key("bearer.claims.user", Text, Value("sub"), "who it is"),
    key(
        "bearer.claims.email",
        Text,
        Value("email"),
        "e-mail address",
    ),
    key("bearer.claims.name", Text, Value("name"), "display name"),
    key(
        "bearer.claims.preferred_username",
        Text,
        Value("preferred_username"),
        "what they like to be called",
    ),
    key(
        "bearer.claims.groups",
        Text,
        Value("groups"),
        "groups: a list of texts, or one text",
    ),
    key(
        "bearer.trust_email",
        Flag,
        Value("false"),
        "take an e-mail address of this issuer as verified where its tokens do not say (email_verified)",
    ),
    key(
        "bearer.max_lifetime",
        Duration,
        Value("24h"),
        "longest life of a token that is believed",
    ),
    key(
        "bearer.ca_file",
        Text,
        Absent("the system's authorities"),
        "PEM file of a further authority for the calls to the issuer",
    ),
    table("upstream", Tables, "an app behind the gateway"),
    key(
        "upstream.name",
        Text,
        Required,
        "how routes call it; aud of its assertions",
    ),
    key(
        "upstream.url",
        Text,
        Absent("urls is there"),
        "where it listens: http, https, h2c, unix:/path",
    ),
    key(
        "upstream.urls",
        Texts,
        Absent("url is there"),
        "several places, used in turn",
    ),
    key(
        "upstream.connect_timeout",
        Duration,
        Value("5s"),
        "connection established within",
    ),
    key(
        "upstream.response_timeout",
        Duration,
        Value("60s"),
        "request sent to response head",
    ),
    not_yet("upstream.health", Table, "health checks"),
    key(
        "upstream.assertion",
        Flag,
        Value("false"),
        "send the signed assertion",
    ),
    key(
        "upstream.headers",
        TextOrTable,
        Value("forwarded"),
        "identity headers: forwarded, remote, auth-request, webauth, or a table of header = claim",
    ),
    table(
        "route",
        Tables,
        "host and path prefix to upstream and access rule",
    ),
    key(
        "route.host",
        Text,
        Absent("the origin's host"),
        "host it applies to",
    ),
    key(
        "route.path",
        Text,
        Value("/"),
        "path prefix on segment boundaries; the longest wins",
    ),
    key(
        "route.methods",
        Texts,
        Absent("all methods"),
        "methods it applies to",
    ),
    key("route.upstream", Text, Required, "name of an upstream"),
    key(
        "route.access",
        Text,
        Value("authenticated"),
        "public, optional or authenticated",
    ),
    table(
        "route.allow",
        Table,
        "whom of the signed-in it admits; any one match suffices",
    ),
    key(
        "route.allow.groups",
        Texts,
        Value(""),
        "members of these groups: NAME, or PROVIDER:NAME for one provider's alone",
    ),
    key(
        "route.allow.users",
        Texts,
        Value(""),
        "these users: NAME, or PROVIDER:NAME (local, NAME of a provider, external, issuer of a token)",
    ),
    key(
        "route.allow.emails",
        Texts,
        Value(""),
        "these e-mail addresses",
    ),
    key(
        "route.allow.scopes",
        Texts,
        Value(""),
        "a bearer token must also have one of these; sessions have none",
    ),
    not_yet(
        "route.step_up",
        Duration,
        "a second factor not older than this",
    ),
    key(
        "route.preflight",
        Text,
        Value("deny"),
        "CORS preflights: forward (without identity) or deny",
    ),
    key(
        "route.revocation",
        Text,
        Value("pushed"),
        "pushed (stateless) or checked (asks the store each time)",
    ),
    table(
        "admin",
        Table,
        "the second listener: /live, /ready, /metrics and the admin API; without this table there is none",
    ),
    key(
        "admin.listen",
        Text,
        Value("127.0.0.1:9091"),
        "its address; never public",
    ),
    key(
        "admin.token_file",
        Text,
        Absent("its API is open on a loopback address, closed elsewhere"),
        "file with the token that the admin API asks for, 24 characters or more",
    ),
    key(
        "admin.token_env",
        Text,
        Absent(""),
        "environment variable with that token",
    ),
    table("log", Table, "how log lines are written"),
    key("log.format", Text, Value("json"), "json or text"),
    key(
        "log.access",
        Flag,
        Value("true"),
        "one access line per request",
    ),
];

/// Looks a key up.
pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// Keys directly below a table (`""` = the file itself), without the table's own path.
pub fn below(table: &str) -> impl Iterator<Item = &'static str> {
    let table = table.to_owned();
    KEYS.iter()
        .filter(|key| !matches!(key.status, Renamed(_)))
        .filter_map(move |key| {
            let rest = if table.is_empty() {
                key.path
            } else {
                key.path.strip_prefix(table.as_str())?.strip_prefix('.')?
            };
            (!rest.contains('.')).then_some(rest)
        })
}

/// The default of a key as text; the reader parses it like a value from the file.
pub(super) fn value(path: &str) -> &'static str {
    match find(path).map(|key| key.fallback) {
        Some(Value(text)) => text,
        _ => "",
    }
}

/// Key, default and meaning as the rows of a Markdown table, for docs/configuration.md.
pub fn markdown() -> String {
    let mut text = String::from("| key | default | meaning |\n|---|---|---|\n");
    for key in KEYS {
        let default = match (key.status, key.fallback) {
            (Renamed(_), _) => continue,
            (NotYet, _) => "not in this version".to_owned(),
            _ if matches!(key.shape, Table | Tables | Names) => continue,
            (_, Required) => "required".to_owned(),
            (_, Value("")) => "`[]`".to_owned(),
            (_, Value(value)) => format!("`{value}`"),
            (_, Absent("")) => "-".to_owned(),
            (_, Absent(what)) => what.to_owned(),
        };
        text.push_str(&format!(
            "| `{}` | {default} | {} |\n",
            key.path, key.meaning
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_lies_in_a_known_table_and_occurs_once() {
        for (index, key) in KEYS.iter().enumerate() {
            if let Some((table, _)) = key.path.rsplit_once('.') {
                let parent = find(table).unwrap_or_else(|| panic!("{} has no table", key.path));
                assert!(
                    matches!(parent.shape, Table | Tables | Names),
                    "{}",
                    key.path
                );
            }
            assert!(
                KEYS[..index].iter().all(|other| other.path != key.path),
                "{}",
                key.path
            );
        }
    }

    #[test]
    fn every_default_can_be_read() {
        for key in KEYS {
            let Value(text) = key.fallback else { continue };
            match key.shape {
                Duration => assert!(crate::units::parse_duration(text).is_ok(), "{}", key.path),
                Size => assert!(crate::units::parse_size(text).is_ok(), "{}", key.path),
                Count => assert!(text.parse::<u64>().is_ok(), "{}", key.path),
                Flag => assert!(text.parse::<bool>().is_ok(), "{}", key.path),
                _ => {}
            }
        }
    }

    #[test]
    fn the_markdown_table_has_a_row_for_every_value() {
        let table = markdown();
        let mut rows = 0;
        for key in KEYS {
            let listed = table.contains(&format!("\n| `{}` | ", key.path));
            // Only a header of a table has no value of its own, and what is called otherwise by now is not advertised.
            let header = matches!(key.shape, Table | Tables | Names) && key.status == Here;
            let expected = !header && !matches!(key.status, Renamed(_));
            assert_eq!(listed, expected, "a row for {}", key.path);
            rows += usize::from(listed);
        }
        assert_eq!(table.lines().count(), rows + 2, "{table}");
        assert!(table.contains("| `session.access_ttl` | `5m` |"), "{table}");
        assert!(
            table.contains("| `tls.acme` | not in this version |"),
            "{table}"
        );
        assert!(!table.contains("| `server` |"), "{table}");
    }
}
