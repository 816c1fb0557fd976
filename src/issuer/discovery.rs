//! Authorization server metadata: OpenID Connect Discovery 1.0 and RFC 8414. The issuer in the document must be, character for
//! character, the one that was asked for, and what it names must be as well protected as the issuer itself.

use bytes::Bytes;
use http::uri::Scheme;
use http::{Request, StatusCode, Uri};

use super::IssuerError;
use crate::auth::claims::ClaimSet;
use crate::outbound::{self, Limits, Outbound};

/// Members of the metadata that are places (RFC 8414 section 2, OpenID Connect RP-Initiated Logout section 2.1).
const PLACES: &[&str] = &[
    "authorization_endpoint",
    "token_endpoint",
    "userinfo_endpoint",
    "jwks_uri",
    "end_session_endpoint",
    "revocation_endpoint",
    "introspection_endpoint",
];

/// Why metadata cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// The configured issuer.
    #[error("the issuer is not an http or https URL without query and fragment")]
    IssuerUrl,
    /// Not a JSON object without duplicate members.
    #[error("not a JSON object, or one with duplicate members")]
    NotJson,
    /// OpenID Connect Discovery section 4.3, RFC 8414 section 3.3.
    #[error(
        "its \"issuer\" is not exactly the configured one: configure what the provider calls itself, to the last slash"
    )]
    Issuer,
    /// Missing, of the wrong type, or less protected than the issuer.
    #[error(
        "{0:?} is missing, or not an https URL (http is followed only from an http issuer, and on this machine)"
    )]
    Place(&'static str),
}

/// Metadata whose issuer and places were checked.
#[derive(Clone, Debug)]
pub struct Metadata {
    set: ClaimSet,
}

impl Metadata {
    /// Reads the document that was found for `issuer`. `jwks_uri` must be there; other places are checked where they are.
    pub fn read(bytes: &[u8], issuer: &str) -> Result<Self, MetadataError> {
        let secure = is_secure(issuer)?;
        let set = ClaimSet::from_json(bytes).ok_or(MetadataError::NotJson)?;
        if set.text("issuer") != Some(issuer) {
            return Err(MetadataError::Issuer);
        }
        for name in PLACES.iter().filter(|name| set.has(name)) {
            let place = set.text(name).and_then(|text| place(text, secure));
            place.ok_or(MetadataError::Place(name))?;
        }
        if !set.has("jwks_uri") {
            return Err(MetadataError::Place("jwks_uri"));
        }
        Ok(Metadata { set })
    }

    /// A place that was checked, by its member's name (`token_endpoint`); `None` when the provider has none, or when it is
    /// no member that [`Metadata::read`] checks.
    pub fn place(&self, name: &str) -> Option<Uri> {
        PLACES
            .contains(&name)
            .then(|| self.set.text(name)?.parse().ok())
            .flatten()
    }

    /// Any other member.
    pub fn members(&self) -> &ClaimSet {
        &self.set
    }
}

/// Whether an issuer is https; http is for loopback, which the configuration sees to.
fn is_secure(issuer: &str) -> Result<bool, MetadataError> {
    let uri: Uri = issuer.parse().map_err(|_| MetadataError::IssuerUrl)?;
    if uri.query().is_some() || issuer.contains(['#', '@']) || uri.host().is_none() {
        return Err(MetadataError::IssuerUrl);
    }
    match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => Ok(true),
        Some(scheme) if *scheme == Scheme::HTTP => Ok(false),
        _ => Err(MetadataError::IssuerUrl),
    }
}

fn place(text: &str, secure: bool) -> Option<Uri> {
    let uri: Uri = text.parse().ok()?;
    let scheme = uri.scheme()?;
    // An issuer on this machine speaks for this machine alone: what it names elsewhere would be asked in clear.
    let good = *scheme == Scheme::HTTPS
        || (!secure && *scheme == Scheme::HTTP && !outbound::is_in_clear(&uri));
    (good && uri.host().is_some() && !text.contains(['#', '@'])).then_some(uri)
}

/// Where the two standards put the document: appended to the issuer's path (OpenID Connect Discovery section 4), and
/// between its host and path (RFC 8414 section 3.1).
pub(super) fn documents(issuer: &str) -> Result<[String; 2], MetadataError> {
    is_secure(issuer)?;
    let uri: Uri = issuer.parse().map_err(|_| MetadataError::IssuerUrl)?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(MetadataError::IssuerUrl);
    };
    let path = uri.path().trim_end_matches('/');
    let base = format!("{scheme}://{authority}");
    Ok([
        format!("{base}{path}/.well-known/openid-configuration"),
        format!("{base}/.well-known/oauth-authorization-server{path}"),
    ])
}

/// Finds the metadata of an issuer: OpenID Connect Discovery, and RFC 8414 where the provider does not know that (404).
pub async fn discover(
    outbound: &Outbound,
    issuer: &str,
    limits: Limits,
) -> Result<Metadata, IssuerError> {
    let found = document(outbound, issuer, limits).await?;
    Ok(Metadata::read(&found, issuer)?)
}

/// The document itself, unjudged: [`Metadata::read`] judges it.
pub async fn document(
    outbound: &Outbound,
    issuer: &str,
    limits: Limits,
) -> Result<Bytes, IssuerError> {
    let [openid, oauth] = documents(issuer)?;
    match get(outbound, "metadata", &openid, limits).await {
        Err(IssuerError::Status { status: 404, .. }) => {
            get(outbound, "metadata", &oauth, limits).await
        }
        other => other,
    }
}

/// One document. Anything but 200 is no document.
pub(super) async fn get(
    outbound: &Outbound,
    what: &'static str,
    url: &str,
    limits: Limits,
) -> Result<Bytes, IssuerError> {
    let request = Request::get(url)
        .header("accept", "application/json")
        .body(Bytes::new())
        .map_err(|_| IssuerError::Place)?;
    let peer = request.uri().authority().map(ToString::to_string);
    let answer = outbound
        .send(request, limits)
        .await
        .map_err(|error| IssuerError::Call { what, error })?;
    match answer.status() {
        StatusCode::OK => Ok(answer.into_body()),
        status => Err(IssuerError::Status {
            what,
            peer: peer.unwrap_or_default(),
            status: status.as_u16(),
        }),
    }
}
