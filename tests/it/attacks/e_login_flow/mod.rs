//! E: what comes back from a provider, or pretends to.

mod answers;
mod browsers;
mod callbacks;
mod id_tokens;

use crate::harness::client::Answer;
use crate::harness::{Browser, Gateway, Person, Rogue};
use crate::oidc::{nobody, page_of};

const CALLBACK: &str = "/.auth/callback/corp";

/// A gateway, and a browser that this rogue has just sent back to it.
async fn on_the_way_back(gateway: &Gateway, rogue: &Rogue) -> (Browser, String) {
    let browser = gateway.anon();
    let location = browser.begin("corp", "/notes").await;
    rogue.forget();
    (browser, Person::new().visit(&location, "-").await)
}

/// This answer signed nobody in, says so as a page, and leaves the token endpoint alone.
fn refused_before_asking(answer: &Answer, rogue: &Rogue, what: &str) {
    nobody(answer, what);
    assert!(
        (400..500).contains(&answer.status),
        "{what}: {}",
        answer.status
    );
    page_of(answer, what);
    assert_eq!(rogue.count("token"), 0, "{what}: the code was redeemed");
}

/// Refused as a page, or begun anew with a state of this browser's own: the code of the answer is not used.
fn not_signed_in_by(answer: &Answer, rogue: &Rogue) {
    nobody(answer, "not this browser's");
    if answer.status == 303 {
        let to = answer.header("location").unwrap();
        let authorize = format!("{}/authorize?", rogue.issuer);
        assert!(to.starts_with(&authorize), "{to}");
    } else {
        assert!((400..500).contains(&answer.status), "{}", answer.status);
        page_of(answer, "not this browser's");
    }
}
