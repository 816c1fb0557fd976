//! `[login.oidc.NAME]`: discovery, keys, client authentication, what is registered, what is offered.

use std::sync::Arc;

use url::Url;

use super::calls::{LIMITS, issuer_problem, keys};
use super::redirects::{redirect_uri, to_register};
use super::{Finding, Section, Verdict, client, offers, redirects};
use crate::auth::claims::ClaimSet;
use crate::auth::foreign_keys::Algorithm;
use crate::issuer::{self, IssuerError, Metadata, MetadataError};
use crate::login::oidc::callback::printable;
use crate::login::oidc::client_auth::Client;
use crate::login::oidc::{Settings, outbound_for};
use crate::outbound::Outbound;

/// Asks a provider.
pub(super) async fn look(settings: &Settings, issuer: &str, origins: Arc<Vec<String>>) -> Section {
    let about = format!("[login.oidc.{}]", settings.name);
    let mut register = to_register(settings, &origins, true, true);
    let findings = match outbound_for(settings) {
        Err(error) => vec![Finding::of(
            Verdict::Problem,
            error.to_string(),
            "look at ca_file",
        )],
        Ok(outbound) => match discovered(&outbound, issuer).await {
            // Nobody knows by now where anything else is.
            Err(problem) => vec![problem],
            Ok(metadata) => {
                let backchannel = metadata.members().flag("backchannel_logout_supported");
                let end_session = metadata.place("end_session_endpoint").is_some();
                register = to_register(settings, &origins, backchannel == Some(true), end_session);
                known(&outbound, settings, issuer, &origins, &metadata).await
            }
        },
    };
    Section {
        register,
        ..Section::new(about, findings)
    }
}

async fn discovered(outbound: &Outbound, issuer: &str) -> Result<Metadata, Finding> {
    let document = issuer::document(outbound, issuer, LIMITS)
        .await
        .map_err(|error| no_metadata(&error))?;
    Metadata::read(&document, issuer).map_err(|error| match error {
        MetadataError::Issuer => another_issuer(&document, issuer),
        error => no_metadata(&error.into()),
    })
}

fn no_metadata(error: &IssuerError) -> Finding {
    let missing = "compare `issuer` with what the provider's documentation says: below it there must be \
                   /.well-known/openid-configuration";
    issuer_problem("discovery", error, missing)
}

/// The commonest mistake: what it calls itself is shown, to be copied.
fn another_issuer(document: &[u8], issuer: &str) -> Finding {
    let set = ClaimSet::from_json(document);
    let named = set.as_ref().and_then(|set| set.text("issuer"));
    let named = named.map(|name| printable(name.split(['?', '#']).next().unwrap_or_default()));
    let (text, mend) = match named {
        Some(name) => (
            format!("discovery: what answers at {issuer:?} calls itself {name:?}"),
            "if you know that name as your provider's, write it as `issuer`, to the last slash; else something stands in between",
        ),
        None => (
            format!("discovery: what answers at {issuer:?} does not say who it is"),
            "that is no OpenID provider: compare `issuer` with the provider's documentation",
        ),
    };
    Finding::of(Verdict::Problem, text, mend)
}

/// Everything that can be asked once it is known where.
async fn known(
    outbound: &Outbound,
    settings: &Settings,
    issuer: &str,
    origins: &[String],
    metadata: &Metadata,
) -> Vec<Finding> {
    let mut findings = vec![Finding::good(format!(
        "discovery: the provider calls itself {issuer:?}, as configured"
    ))];
    let place = |name| metadata.place(name);
    let keys = async {
        match place("jwks_uri") {
            Some(uri) => keys(outbound, &uri, Algorithm::ASYMMETRIC).await,
            None => no_place("jwks_uri"),
        }
    };
    let client = async {
        let Some(endpoint) = place("token_endpoint") else {
            return no_place("token_endpoint");
        };
        let client = Client {
            id: &settings.client_id,
            auth: &settings.client_auth,
            audience: issuer,
        };
        let back = origins
            .first()
            .map(|origin| redirect_uri(origin, &settings.name));
        client::by_code(
            outbound,
            &endpoint.to_string(),
            client,
            &back.unwrap_or_default(),
        )
        .await
    };
    let silent = async {
        let endpoint =
            place("authorization_endpoint").and_then(|uri| Url::parse(&uri.to_string()).ok());
        match endpoint {
            Some(endpoint) => redirects::tried(outbound, &endpoint, settings, origins).await,
            None => vec![no_place("authorization_endpoint")],
        }
    };
    let (keys, client, silent) = tokio::join!(keys, client, silent);
    findings.extend([keys, client]);
    findings.extend(silent);
    findings.extend(offers::judge(settings, metadata.members()));
    findings
}

fn no_place(name: &str) -> Finding {
    Finding::of(
        Verdict::Problem,
        format!("discovery: the provider's metadata has no {name:?}"),
        "let the provider's operator look at it: nobody can sign in without",
    )
}
