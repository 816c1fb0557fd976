//! What happens before the first byte of HTTP: versions, key exchange, certificates by name, and the plain port.

use std::os::unix::fs::PermissionsExt as _;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::client::{Door, status_of};
use crate::harness::gateway::address_after;
use crate::harness::{App, Ask, Gateway, HOST, Nodes};

fn certificate(folder: &std::path::Path, name: &str) -> Vec<u8> {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    std::fs::write(folder.join(format!("{name}.pem")), made.cert.pem()).unwrap();
    std::fs::write(
        folder.join(format!("{name}.key")),
        made.signing_key.serialize_pem(),
    )
    .unwrap();
    made.cert.der().to_vec()
}

async fn presented(door: &Door) -> Vec<u8> {
    let stream = door.tls(&[b"http/1.1"]).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn versions_and_key_exchange() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let door = gateway.door();
    for (version, group) in [
        (&rustls::version::TLS13, "X25519MLKEM768"),
        (&rustls::version::TLS12, "X25519"),
    ] {
        let stream = door
            .tls_of(&[version], &[b"h2", b"http/1.1"])
            .await
            .unwrap();
        let connection = stream.get_ref().1;
        assert_eq!(connection.protocol_version(), Some(version.version));
        let chosen = connection
            .negotiated_key_exchange_group()
            .map(|group| format!("{:?}", group.name()));
        assert_eq!(chosen.as_deref(), Some(group));
        assert_eq!(connection.alpn_protocol(), Some(&b"h2"[..]));
    }
    let stream = door.tls(&[b"http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert!(
        door.tls(&[b"spdy/3"]).await.is_err(),
        "a protocol that nobody speaks"
    );
    // No ALPN at all is HTTP/1.1.
    let mut stream = door.tls(&[]).await.unwrap();
    stream
        .write_all(
            format!("GET /public HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n").as_bytes(),
        )
        .await
        .unwrap();
    let mut back = Vec::new();
    stream
        .read_to_end(&mut back)
        .await
        .expect("closed with close_notify");
    assert_eq!(status_of(&back), 200);
}

#[tokio::test]
async fn a_node_that_makes_no_certificate_makes_its_folder_all_the_same() {
    let app = App::start().await;
    let folder = tempfile::tempdir().unwrap();
    certificate(folder.path(), HOST);
    let file = |ending: &str| folder.path().join(format!("{HOST}.{ending}"));
    let given = format!(
        "[[tls.certificate]]\ncert = {:?}\nkey = {:?}\n",
        file("pem"),
        file("key")
    );
    for tls in [given.as_str(), "[tls]\nself_signed = true\n"] {
        // What a node of a shared store keeps by itself is little, and its folder is not there before its first start.
        let nodes = Nodes::run(1, Gateway::before(&app).tls(tls)).await;
        let own = nodes.nodes[0].folder.join("data");
        let mode = std::fs::metadata(&own).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{tls}");
        assert_eq!(nodes.door(0).ask(Ask::get("/public")).await.status, 200);
    }
}

#[tokio::test]
async fn certificates_are_chosen_by_name() {
    let app = App::start().await;
    let folder = tempfile::tempdir().unwrap();
    let table = |name: &str| {
        format!(
            "[[tls.certificate]]\ncert = {:?}\nkey = {:?}\n",
            folder.path().join(format!("{name}.pem")),
            folder.path().join(format!("{name}.key"))
        )
    };
    let ours = certificate(folder.path(), HOST);
    let wiki = certificate(folder.path(), "wiki.test");
    assert_ne!(ours, wiki);
    let gateway = Gateway::before(&app)
        .tls(&format!("{}{}", table(HOST), table("wiki.test")))
        .more("[[route]]\nhost = \"wiki.test\"\npath = \"/\"\nupstream = \"app\"\naccess = \"public\"\n")
        .run();
    let mut door = gateway.door();
    assert_eq!(presented(&door).await, ours);
    door.host = "wiki.test".to_owned();
    assert_eq!(presented(&door).await, wiki);
    assert_eq!(door.ask(Ask::get("/x")).await.status, 200);
    assert_eq!(app.only().one("x-forwarded-host"), Some("wiki.test"));
    // A name that no certificate knows gets the first one or none, never an answer for somebody else.
    door.host = "unknown.test".to_owned();
    if let Ok(answer) = door.try_ask(Ask::get("/x")).await {
        assert!(matches!(answer.status, 404 | 421), "{}", answer.status);
    }
    assert_eq!(app.seen().len(), 1);
}

#[tokio::test]
async fn the_plain_port_redirects_and_does_nothing_else() {
    let app = App::start().await;
    let gateway = Gateway::before(&app)
        .server("redirect_http = \"127.0.0.1:0\"")
        .more("[[route]]\nhost = \"wiki.test\"\npath = \"/\"\nupstream = \"app\"\naccess = \"public\"\n")
        .run();
    let plain = gateway
        .logs()
        .iter()
        .find_map(|line| address_after(line, "redirecting http://"))
        .expect("the start says where it redirects");
    let ask = async |request: &str| {
        let mut stream = tokio::net::TcpStream::connect(plain).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut back = Vec::new();
        let _ = stream.read_to_end(&mut back).await;
        (
            status_of(&back),
            String::from_utf8_lossy(&back).to_ascii_lowercase(),
        )
    };
    let (status, answer) =
        ask("GET /notes?a=1 HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n").await;
    assert_eq!(status, 308, "{answer}");
    assert!(
        answer.contains("location: https://app.test/notes?a=1\r\n"),
        "{answer}"
    );
    // Each host of a route to itself.
    let (status, answer) =
        ask("GET /p?a=1 HTTP/1.1\r\nHost: Wiki.test:80\r\nConnection: close\r\n\r\n").await;
    assert_eq!(status, 308, "{answer}");
    assert!(
        answer.contains("location: https://wiki.test/p?a=1\r\n"),
        "{answer}"
    );
    // Never to where the client says, and never with anything else.
    for request in [
        "GET //evil.example/x HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
        "GET http://evil.example/x HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
        "POST /.auth/login HTTP/1.1\r\nHost: app.test\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        "GET /public HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n",
    ] {
        let (status, answer) = ask(request).await;
        assert!(
            status == 308 || (400..500).contains(&status),
            "{request}: {answer}"
        );
        assert!(!answer.contains("set-cookie"));
        if status == 308 {
            let location = answer
                .lines()
                .find_map(|line| line.strip_prefix("location: "))
                .unwrap();
            let url = url::Url::parse(location).unwrap();
            assert_eq!(
                url.origin().ascii_serialization(),
                crate::harness::ORIGIN,
                "{request}"
            );
        }
    }
    assert_eq!(app.bytes(), 0);
    drop(gateway);
}
