//! What a provider's metadata offers against what the configuration asks for (OpenID Connect Discovery section 3, RFC 8414
//! section 2). Must not ask anybody.

use super::client::{as_configured, method};
use super::{Finding, Verdict};
use crate::auth::claims::ClaimSet;
use crate::auth::foreign_keys::Algorithm;
use crate::login::oidc::Settings;
use crate::login::oidc::callback::printable;

/// Everything that differs, or is worth knowing. Many providers list less than they do: what is not listed is mostly a warning.
pub(super) fn judge(settings: &Settings, metadata: &ClaimSet) -> Vec<Finding> {
    let list = |name| metadata.texts(name);
    let lacks = |name, wanted: &str| list(name).is_some_and(|all| !all.contains(&wanted));
    let mut findings = Vec::new();
    let mut add = |verdict, text: String, mend: &str| {
        findings.push(Finding::of(verdict, text, mend));
    };
    if lacks("response_types_supported", "code") {
        add(
            Verdict::Problem,
            "offers: no authorization codes (response_types_supported)".to_owned(),
            "this provider cannot be used for sign-in as it is: let its operator allow the code flow",
        );
    }
    if let Some(signed) = list("id_token_signing_alg_values_supported")
        && !signed.iter().any(|name| {
            Algorithm::parse(name).is_some_and(|one| Algorithm::ASYMMETRIC.contains(&one))
        })
    {
        add(
            Verdict::Problem,
            "offers: no ID tokens signed with a public key (id_token_signing_alg_values_supported)"
                .to_owned(),
            "let its operator sign them with RS256, ES256 or EdDSA",
        );
    }
    match list("code_challenge_methods_supported") {
        Some(methods) if !methods.contains(&"S256") => add(
            Verdict::Warning,
            "offers: PKCE, but not S256, which the gateway always sends".to_owned(),
            "let its operator allow S256",
        ),
        None => add(
            Verdict::Note,
            "offers: does not say whether it knows PKCE (code_challenge_methods_supported); it is sent all the same".to_owned(),
            "nothing to do: state and nonce protect sign-ins in any case",
        ),
        Some(_) => {}
    }
    let missing: Vec<&str> = settings
        .scopes
        .iter()
        .map(String::as_str)
        .filter(|scope| lacks("scopes_supported", scope))
        .collect();
    if !missing.is_empty() {
        add(
            Verdict::Warning,
            format!(
                "offers: the scopes {} are not on its list",
                missing.join(", ")
            ),
            "compare `scopes` with what it lists; some providers take more than they list",
        );
    }
    let ours = method(&settings.client_auth);
    // Left out, it is client_secret_basic alone.
    let methods =
        list("token_endpoint_auth_methods_supported").unwrap_or(vec!["client_secret_basic"]);
    if !methods.contains(&ours) {
        let others: Vec<&str> = methods.iter().copied().map(as_configured).collect();
        let others = printable(&others.join(", "));
        add(
            Verdict::Warning,
            format!(
                "offers: clients authenticate by {}, not by {}",
                others,
                as_configured(ours)
            ),
            "choose one of them as client_auth, if the client is not accepted",
        );
    }
    if let Some(prompt) = &settings.prompt
        && lacks("prompt_values_supported", prompt)
    {
        add(
            Verdict::Warning,
            format!("offers: prompt={prompt} is not on its list"),
            "leave `prompt` out, or choose another",
        );
    }
    if lacks("grant_types_supported", "refresh_token") {
        add(
            Verdict::Note,
            "offers: no refresh tokens; renewals cannot ask it whether somebody is still welcome"
                .to_owned(),
            "sessions live by [session] alone: choose idle_ttl and absolute_ttl accordingly",
        );
    } else if list("scopes_supported").is_some_and(|all| all.contains(&"offline_access"))
        && !settings.asks_for_refresh()
    {
        add(
            Verdict::Note,
            "offers: the scope offline_access, which is not asked for; many providers give no refresh token without it, and \
             renewals cannot ask them then"
                .to_owned(),
            "add it to `scopes`, if renewals are to ask this provider",
        );
    }
    if settings.asks_for_refresh() && !asks_for_consent(settings) {
        add(
            Verdict::Note,
            "offers: offline_access is asked for without prompt = \"consent\"; many providers give no refresh token then (OpenID \
             Connect Core section 11), and renewals cannot ask them"
                .to_owned(),
            "when the log says that no refresh token came, set prompt = \"consent\"",
        );
    }
    if metadata.flag("backchannel_logout_supported") != Some(true) {
        add(
            Verdict::Note,
            "offers: no back-channel logout; who signs out there stays signed in here until a renewal finds out".to_owned(),
            "shorten provider_check, if that is too late",
        );
    }
    if !metadata.has("end_session_endpoint") {
        let (verdict, mend) = match settings.logout_return {
            Some(_) => (
                Verdict::Warning,
                "leave logout_return out: it is never used",
            ),
            None => (
                Verdict::Note,
                "nothing to do: the session here ends in any case",
            ),
        };
        add(
            verdict,
            "offers: no end_session_endpoint; who signs out here stays signed in there".to_owned(),
            mend,
        );
    }
    if findings
        .iter()
        .all(|finding| finding.verdict <= Verdict::Note)
    {
        let good = "offers: what is asked for (code, scopes, client authentication)";
        findings.insert(0, Finding::good(good.to_owned()));
    }
    findings
}

fn asks_for_consent(settings: &Settings) -> bool {
    let prompt = settings.prompt.as_deref().unwrap_or_default();
    prompt.split(' ').any(|word| word == "consent")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::login::oidc::settings::tests::openid;

    #[test]
    fn who_asks_for_a_refresh_token_is_told_of_consent() {
        let set = ClaimSet::from_json(b"{}").unwrap();
        let told = |scope: &str, prompt: Option<&str>| {
            let settings = Settings {
                scopes: vec!["openid".to_owned(), scope.to_owned()],
                prompt: prompt.map(str::to_owned),
                ..openid()
            };
            let found = judge(&settings, &set);
            found.iter().any(|one| one.text.contains("consent"))
        };
        assert!(told("offline_access", None));
        assert!(told("offline_access", Some("login")));
        assert!(!told("offline_access", Some("login consent")));
        assert!(!told("email", None));
    }

    #[test]
    fn what_is_asked_for_and_not_offered_is_told() {
        let all = json!({
            "response_types_supported": ["code"], "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"], "scopes_supported": ["openid", "email"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
            "backchannel_logout_supported": true, "end_session_endpoint": "https://id.example.com/out",
        });
        let check = |change: Value, want: &[(Verdict, &str)]| {
            let mut metadata = all.clone();
            for (name, value) in change.as_object().unwrap() {
                match value {
                    Value::Null => drop(metadata.as_object_mut().unwrap().remove(name)),
                    value => metadata[name] = value.clone(),
                }
            }
            let set = ClaimSet::from_json(metadata.to_string().as_bytes()).unwrap();
            let found = judge(&openid(), &set);
            let told: Vec<_> = found
                .iter()
                .filter(|one| one.verdict != Verdict::Good)
                .collect();
            assert_eq!(told.len(), want.len(), "{change}: {found:?}");
            for (finding, (verdict, word)) in told.iter().zip(want) {
                assert_eq!(finding.verdict, *verdict, "{change}: {finding:?}");
                assert!(finding.text.contains(word), "{change}: {finding:?}");
            }
        };
        use Verdict::{Note, Problem, Warning};
        check(json!({}), &[]);
        check(
            json!({ "response_types_supported": ["id_token"] }),
            &[(Problem, "code")],
        );
        let alg = "id_token_signing_alg_values_supported";
        check(
            json!({ alg: ["HS256", "none"] }),
            &[(Problem, "public key")],
        );
        let pkce = "code_challenge_methods_supported";
        check(json!({ pkce: ["plain"] }), &[(Warning, "S256")]);
        check(json!({ pkce: null }), &[(Note, "PKCE")]);
        check(
            json!({ "scopes_supported": ["openid"] }),
            &[(Warning, "email")],
        );
        check(json!({ "scopes_supported": null }), &[]);
        let methods = "token_endpoint_auth_methods_supported";
        check(
            json!({ methods: ["private_key_jwt"] }),
            &[(Warning, "private_key_jwt, not by secret_basic")],
        );
        check(json!({ methods: null }), &[]);
        // What it says is one short line, however much it is.
        let set = json!({ methods: vec!["\u{1b}[2J\n"; 10_000] });
        let set = ClaimSet::from_json(set.to_string().as_bytes()).unwrap();
        for finding in judge(&openid(), &set) {
            assert!(finding.text.len() < 1000, "{}", finding.text.len());
            assert!(!finding.text.contains(char::is_control), "{finding:?}");
        }
        check(
            json!({ "grant_types_supported": ["authorization_code"] }),
            &[(Note, "refresh tokens")],
        );
        let offline = json!({ "scopes_supported": ["openid", "email", "offline_access"] });
        check(offline, &[(Note, "offline_access")]);
        check(
            json!({ "backchannel_logout_supported": null }),
            &[(Note, "back-channel")],
        );
        check(
            json!({ "end_session_endpoint": null }),
            &[(Note, "end_session_endpoint")],
        );
    }
}
