//! One test per case of the attack list, named by its id; each file or folder holds one section.

mod a_spoofing;
mod b_forwarding;
mod c_paths;
mod d_redirects;
mod e_login_flow;
mod f_cookies;
mod g_tokens;
mod i_refresh;
mod l_logout;
mod n_limits;
mod o_oauth;
mod p_exposure;
mod r_store;
pub mod w_upgrade;

pub use w_upgrade::{echoes, open as open_socket};

use std::time::Duration;

use crate::harness::Gateway;
use crate::harness::client::status_of;

/// How long a raw connection may be silent after its first answer before it counts as answered.
const QUIET: Duration = Duration::from_millis(300);

/// Sends a raw HTTP/1.1 head (with `Host` put in place of `{host}`) and returns the status and everything that came back.
async fn raw(gateway: &Gateway, text: &str) -> (u16, String) {
    let bytes = text.replace("{host}", &crate::harness::gateway::host_line());
    let answer = gateway.door().raw(bytes.as_bytes(), QUIET).await;
    (
        status_of(&answer),
        String::from_utf8_lossy(&answer).into_owned(),
    )
}

/// Whether the status asks to sign in, in one way or the other.
fn asks_to_sign_in(status: u16) -> bool {
    matches!(status, 401 | 303)
}

/// Every case of these sections has a test that carries its id.
#[test]
fn no_case_is_without_its_test() {
    let sections: [(&str, &str, &[u8]); 14] = [
        (
            "a",
            include_str!("a_spoofing.rs"),
            &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
        ),
        (
            "b",
            include_str!("b_forwarding.rs"),
            &[1, 2, 3, 4, 5, 6, 7, 8],
        ),
        (
            "c",
            include_str!("c_paths.rs"),
            &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
        ),
        ("d", include_str!("d_redirects.rs"), &[1, 2, 3, 4]),
        (
            "e",
            concat!(
                include_str!("e_login_flow/callbacks.rs"),
                include_str!("e_login_flow/id_tokens.rs"),
                include_str!("e_login_flow/browsers.rs"),
                include_str!("e_login_flow/answers.rs")
            ),
            &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
        ),
        ("f", include_str!("f_cookies.rs"), &[1, 2, 3, 4, 5, 6, 7, 8]),
        (
            "g",
            include_str!("g_tokens.rs"),
            &[
                1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18,
            ],
        ),
        (
            "i",
            concat!(
                include_str!("i_refresh.rs"),
                include_str!("../oidc/renewal.rs")
            ),
            &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
        ),
        (
            "l",
            concat!(
                include_str!("l_logout.rs"),
                include_str!("../oidc/logout.rs")
            ),
            &[1, 2, 3, 4],
        ),
        (
            "n",
            concat!(
                include_str!("n_limits.rs"),
                include_str!("../bearer/keys.rs")
            ),
            &[3, 4],
        ),
        (
            "o",
            concat!(
                include_str!("o_oauth.rs"),
                include_str!("../oidc/renewal.rs"),
                include_str!("../oidc/logout.rs")
            ),
            &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
        ),
        ("w", include_str!("w_upgrade.rs"), &[1, 2, 3, 4, 5]),
        ("p", include_str!("p_exposure.rs"), &[1, 2, 3, 4, 5]),
        (
            "r",
            concat!(
                include_str!("r_store.rs"),
                include_str!("../clock.rs"),
                include_str!("../crash.rs"),
                include_str!("../disk.rs"),
                include_str!("../nodes/rotate.rs"),
                include_str!("../oidc/renewal.rs"),
                include_str!("../oidc/sign_in.rs"),
                include_str!("../stalls.rs")
            ),
            &[5, 6, 7, 10, 11, 12, 13, 14, 15],
        ),
    ];
    for (letter, source, cases) in sections {
        for case in cases {
            let name = format!("#[tokio::test]\nasync fn {letter}{case:02}_");
            assert!(source.contains(&name), "no test {letter}{case:02}");
        }
    }
}
