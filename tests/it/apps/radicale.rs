//! Radicale (PyPI), a CalDAV server: two people, two calendars, and neither sees the other's.

use std::process::Command;

use super::Program;
use crate::harness::browser::{Browser, as_fetch};
use crate::harness::client::Answer;
use crate::harness::gateway::free_port;
use crate::harness::{Ask, Gateway, python};

const EVENT: &str = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//tests//EN\r\nBEGIN:VEVENT\r\nUID:one@tests\r\nDTSTAMP:20260101T000000Z\r\n\
                     DTSTART:20260105T090000Z\r\nDTEND:20260105T100000Z\r\nSUMMARY:NAME's secret meeting\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n";
const FIND: &str = r#"<?xml version="1.0"?><propfind xmlns="DAV:"><prop><resourcetype/><displayname/></prop></propfind>"#;
const QUERY: &str = r#"<?xml version="1.0"?><C:calendar-query xmlns="DAV:" xmlns:C="urn:ietf:params:xml:ns:caldav"><prop><getetag/><C:calendar-data/></prop>
<C:filter><C:comp-filter name="VCALENDAR"><C:comp-filter name="VEVENT"/></C:comp-filter></C:filter></C:calendar-query>"#;

async fn dav(browser: &Browser, method: &str, path: &str, depth: &str, body: &str) -> Answer {
    let kind = if method == "PUT" {
        "text/calendar"
    } else {
        "application/xml"
    };
    browser
        .send(
            as_fetch(Ask::new(method, path))
                .header("depth", depth)
                .header("content-type", kind)
                .body(body.to_owned()),
        )
        .await
}

#[tokio::test]
async fn two_people_keep_calendars_that_the_other_cannot_see() {
    let folder = tempfile::tempdir().unwrap();
    let listens = free_port();
    let config = folder.path().join("radicale.conf");
    std::fs::write(
        &config,
        format!(
            "[server]\nhosts = {listens}\n[auth]\ntype = http_x_remote_user\n[rights]\ntype = owner_only\n[storage]\nfilesystem_folder = {}\n",
            folder.path().join("collections").display()
        ),
    )
    .unwrap();
    let _radicale = Program::start(
        Command::new(python::venv().join("python"))
            .args(["-m", "radicale", "--config"])
            .arg(&config),
        listens,
    )
    .await;
    let gateway = Gateway::at(listens)
        .upstream("headers = { \"X-Remote-User\" = \"user\" }")
        .with_clock()
        .run();
    assert_eq!(
        dav(&gateway.anon(), "PROPFIND", "/alice/", "1", FIND)
            .await
            .status,
        401
    );

    let alice = gateway.signed_in("alice").await;
    let bob = gateway.signed_in("bob").await;
    for (browser, name) in [(&alice, "alice"), (&bob, "bob")] {
        assert_eq!(
            dav(browser, "PROPFIND", &format!("/{name}/"), "1", FIND)
                .await
                .status,
            207
        );
        let made = dav(browser, "MKCALENDAR", &format!("/{name}/work/"), "0", "").await;
        assert_eq!(made.status, 201, "{}", made.text());
        let put = dav(
            browser,
            "PUT",
            &format!("/{name}/work/one.ics"),
            "0",
            &EVENT.replace("NAME", name),
        )
        .await;
        assert_eq!(put.status, 201, "{}", put.text());
    }
    // The access token runs out in between; a calendar program notices nothing.
    gateway.outlive_access_token();
    for (browser, name, other) in [(&alice, "alice", "bob"), (&bob, "bob", "alice")] {
        let found = dav(browser, "PROPFIND", &format!("/{name}/"), "1", FIND).await;
        assert_eq!(found.status, 207);
        assert!(
            found.text().contains(&format!("/{name}/work/")),
            "{}",
            found.text()
        );
        let report = dav(browser, "REPORT", &format!("/{name}/work/"), "1", QUERY).await;
        assert_eq!(report.status, 207);
        let text = report.text();
        assert!(
            text.contains(&format!("{name}'s secret meeting"))
                && !text.contains(&format!("{other}'s")),
            "{text}"
        );
        for (method, path, body) in [
            ("PROPFIND", format!("/{other}/"), FIND),
            ("REPORT", format!("/{other}/work/"), QUERY),
            ("GET", format!("/{other}/work/one.ics"), ""),
            ("PUT", format!("/{other}/work/two.ics"), EVENT),
            ("DELETE", format!("/{other}/work/one.ics"), ""),
        ] {
            let answer = dav(browser, method, &path, "1", body).await;
            assert!(
                matches!(answer.status, 403 | 404),
                "{name}: {method} {path}: {}",
                answer.status
            );
            assert!(!answer.text().contains("secret meeting"));
        }
        // Saying to be the other does not help.
        let spoof = as_fetch(Ask::get(&format!("/{other}/work/one.ics")))
            .header("x-remote-user", other)
            .header("x_remote_user", other);
        let answer = browser.send(spoof).await;
        assert!(
            matches!(answer.status, 400 | 403 | 404),
            "{}",
            answer.status
        );
    }
    assert_eq!((alice.generation(), bob.generation()), (1, 1));
}
