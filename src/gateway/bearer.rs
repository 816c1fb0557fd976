//! `Authorization: Bearer` on the request path. A token of a configured issuer is judged alone, whatever cookies come with it;
//! any other is the upstream's business, and the cookies are judged as if it were not there.
//!
//! Must not hold a rule: those are in `auth`, and which issuer a token is of is for the engine to find.

use http::HeaderMap;

use super::{Context, external, identify as by_cookies};
use crate::auth::bearer::BearerRefusal;
use crate::auth::decision::{self, AnonymousReason, Decision};
use crate::auth::route::Access;
use crate::bearer::{Finding, Found};
use crate::error::GatewayError;
use crate::observe::metrics::BearerOutcome;

/// What the request brings, unless that is nothing; verifies nothing.
pub(super) fn find<'a>(context: &Context<'_>, headers: &'a HeaderMap) -> Option<Found<'a>> {
    let found = context.app.bearers.as_ref()?.find(headers, context.now);
    (!matches!(found, Found::Nothing)).then_some(found)
}

/// Who is asking.
pub(super) async fn identify(
    context: &Context<'_>,
    headers: &HeaderMap,
    found: Found<'_>,
    access: Access,
) -> Result<Decision, GatewayError> {
    let refused = |why| Ok(Decision::Anonymous(AnonymousReason::Bearer(why)));
    let count = |outcome| context.app.metrics.bearer_tokens.add(outcome);
    match (found, &context.app.bearers) {
        (Found::Known(subject), _) => {
            count(BearerOutcome::Remembered);
            Ok(Decision::SignedIn(subject))
        }
        (Found::Several, _) => {
            count(BearerOutcome::Refused);
            refused(BearerRefusal::Several)
        }
        (Found::Presented(presented), Some(bearers)) => {
            match bearers.check(presented, context.now).await {
                Finding::Valid(subject) => {
                    count(BearerOutcome::Verified);
                    Ok(Decision::SignedIn(subject))
                }
                Finding::Refused(why) => {
                    count(BearerOutcome::Refused);
                    refused(why)
                }
                Finding::Unavailable => {
                    count(BearerOutcome::Unavailable);
                    Err(GatewayError::KeysUnavailable)
                }
            }
        }
        (Found::Nothing | Found::Stranger | Found::Presented(_), _) => {
            if external::waits(context) {
                external::prepare(context, headers).await?;
            }
            let decision = by_cookies(context, headers);
            Ok(decision::beside_stranger(decision, access))
        }
    }
}
