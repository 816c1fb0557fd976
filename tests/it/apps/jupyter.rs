//! Jupyter Server (PyPI): lives on WebSockets; a cell is run through the gateway as the person who signed in.

use std::process::Command;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::Program;
use crate::attacks::open_socket;
use crate::harness::browser::as_fetch;
use crate::harness::gateway::free_port;
use crate::harness::wait::within;
use crate::harness::{Ask, Gateway, ORIGIN, python};

/// All that a deployer writes: who it is comes from the header, and the gateway is whom browsers talk to.
const CONFIG: &str = r#"
from jupyter_server.auth.identity import IdentityProvider, User

class FromGateway(IdentityProvider):
    def get_user(self, handler):
        name = handler.request.headers.get("X-Forwarded-User")
        return User(username=name) if name else None

c = get_config()
c.ServerApp.identity_provider_class = FromGateway
c.ServerApp.allow_remote_access = True
c.ServerApp.allow_origin = "https://app.test"
c.ServerApp.disable_check_xsrf = True
c.ServerApp.open_browser = False
"#;

#[tokio::test]
async fn a_cell_runs_over_a_socket_through_the_gateway() {
    let folder = tempfile::tempdir().unwrap();
    let listens = free_port();
    let config = folder.path().join("jupyter_server_config.py");
    std::fs::write(&config, CONFIG).unwrap();
    let bin = python::venv();
    let path = format!(
        "{}:{}",
        bin.display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let _jupyter = Program::start(
        Command::new(bin.join("jupyter-server"))
            .arg("--allow-root")
            .arg(format!("--config={}", config.display()))
            .arg(format!("--ServerApp.ip={}", listens.ip()))
            .arg(format!("--ServerApp.port={}", listens.port()))
            .arg("--ServerApp.port_retries=0")
            .arg(format!("--ServerApp.root_dir={}", folder.path().display()))
            .env("PATH", path)
            .env("HOME", folder.path())
            .env("JUPYTER_RUNTIME_DIR", folder.path().join("runtime"))
            .env("IPYTHONDIR", folder.path().join("ipython"))
            .current_dir(folder.path()),
        listens,
    )
    .await;
    let gateway = Gateway::at(listens).with_clock().run();
    assert_eq!(gateway.anon().get("/api/me").await.status, 401);
    let alice = gateway.signed_in("alice").await;
    let me = alice
        .send(as_fetch(Ask::get("/api/me")).header("x-forwarded-user", "root"))
        .await;
    assert_eq!(me.status, 200, "{}", me.text());
    assert_eq!(me.json()["identity"]["username"], "alice");

    let kernel = alice
        .send(
            as_fetch(Ask::post("/api/kernels", r#"{"name":"python3"}"#))
                .header("content-type", "application/json"),
        )
        .await;
    assert_eq!(kernel.status, 201, "{}", kernel.text());
    let id = kernel.json()["id"].as_str().unwrap().to_owned();
    let channels = format!("/api/kernels/{id}/channels?session_id=tests");
    assert_eq!(
        open_socket(&gateway.anon(), &channels, ORIGIN).await.err(),
        Some(401)
    );

    // The handshake itself is made just after the access token ran out.
    gateway.outlive_access_token();
    let mut socket = open_socket(&alice, &channels, ORIGIN).await.unwrap();
    let request = json!({
        "header": { "msg_id": "m1", "msg_type": "execute_request", "username": "alice", "session": "tests", "version": "5.3", "date": "" },
        "parent_header": {}, "metadata": {}, "buffers": [], "channel": "shell",
        "content": { "code": "sum(range(9)) + 6", "silent": false, "store_history": true, "user_expressions": {}, "allow_stdin": false, "stop_on_error": true },
    });
    socket
        .send(Message::text(request.to_string()))
        .await
        .unwrap();
    let result = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            let message = socket.next().await.expect("the socket stays open").unwrap();
            let Message::Text(text) = message else {
                continue;
            };
            let message: Value = serde_json::from_str(&text).unwrap();
            if message["msg_type"] == "error" {
                panic!("{message}");
            }
            if message["msg_type"] == "execute_result" && message["parent_header"]["msg_id"] == "m1"
            {
                return message["content"]["data"]["text/plain"]
                    .as_str()
                    .unwrap()
                    .to_owned();
            }
        }
    })
    .await
    .expect("a result");
    assert_eq!(result, "42");
    // Signing out ends the kernel's socket, not the kernel.
    alice.sign_out().await;
    within("the socket ends with the session", async {
        while let Some(Ok(_)) = socket.next().await {}
    })
    .await;
    let again = gateway.signed_in("alice").await;
    assert_eq!(again.get(&format!("/api/kernels/{id}")).await.status, 200);
    let gone = again
        .send(as_fetch(Ask::new("DELETE", &format!("/api/kernels/{id}"))))
        .await;
    assert_eq!(gone.status, 204);
}
