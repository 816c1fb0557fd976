//! `vestibule demo`: everything embedded, nothing to install. A throw-away data folder, a self-signed certificate, one
//! person with a password made up now, a small app behind it, and a short access token so that a renewal can be watched.
//!
//! It is the real gateway with a configuration of its own; must not contain any behaviour that `run` does not have.

mod upstream;

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::app::{self, Running, Show, StartError};
use crate::auth::SessionId;
use crate::clock::{Clock, Timestamp};
use crate::config;
use crate::listening::ListenError;
use crate::login::local;
use crate::observe::{self, say};
use crate::server::ServerError;
use crate::store::{Account, Replaced, Store, StoreError};
use crate::units::{Secret, format_duration};

/// What can be chosen on the command line.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Life of an access token.
    pub access_ttl: Duration,
}

/// The option that names where to listen.
const LISTEN: &str = "--listen ADDRESS:PORT";

/// The demonstration's person.
const USER: &str = "ada";

/// Why the demonstration did not start.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error("cannot make a folder for the demonstration's data: {0}")]
    Folder(std::io::Error),
    #[error("cannot start the small app: {0}")]
    App(std::io::Error),
    #[error(transparent)]
    Listen(ListenError),
    #[error("the demonstration's own configuration is refused:\n{}", .0.render(false))]
    Config(Box<config::Report>),
    #[error("cannot make up a password")]
    Random,
    #[error("cannot add the demonstration's person: {0}")]
    Account(StoreError),
    #[error("{0}")]
    Start(StartError),
}

impl From<StartError> for DemoError {
    /// There is no file: what is said of a key is the option's.
    fn from(error: StartError) -> Self {
        match error {
            StartError::Server(ServerError::Listen(error)) => DemoError::Listen(ListenError {
                key: LISTEN,
                ..error
            }),
            other => DemoError::Start(other),
        }
    }
}

/// Starts the demonstration and serves until told to stop; the data folder is removed at the end.
pub fn run(options: Options) -> ExitCode {
    let settings = observe::Settings {
        format: observe::Format::Text,
        access: false,
    };
    let outcome = observe::init_logging(&settings)
        .map_err(|error| DemoError::Start(error.into()))
        .and_then(|logging| app::runtime()?.block_on(serve(options, &logging)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say!("vestibule: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(options: Options, logging: &observe::Logging) -> Result<(), DemoError> {
    say!("starting the demonstration …");
    let folder = Folder::make()?;
    let app = upstream::start().await.map_err(DemoError::App)?;
    let listen = resolve_port(options.listen)?;
    let config = configuration(listen, app, &folder.0, options.access_ttl)?;
    let origin = config.origin.to_string();
    let password = make_up_password()?;

    let clock = Clock::node(config.session.outlived());
    let running = Running::start(config, clock, logging, Show { renewals: true }).await?;
    add_person(running.app.store.as_ref(), &password, Clock::System.now()).await?;

    let ttl = format_duration(options.access_ttl);
    say!("");
    say!("  open       {origin}");
    say!("             (the certificate is self-signed: the browser warns once, go on)");
    say!("  user       {USER}");
    say!("  password   {}", password.reveal());
    say!("");
    say!("  What to watch:");
    say!(
        "  1. Sign in. You come back to a small app that contains no authentication code and shows"
    );
    say!("     the headers it received.");
    say!(
        "  2. The access token lives for {ttl}. Leave the page open: when it has run out, the next request"
    );
    say!(
        "     renews the session. The page does not notice; a line \"session renewed\" appears here."
    );
    say!(
        "  3. Press \"Send 30 requests when it runs out\": 30 answers, one renewal, one line here."
    );
    say!(
        "  4. Sign out: the session is over at once, here and in every other tab; each notices within seconds."
    );
    say!("");
    for address in &running.addresses {
        say!("listening on https://{address}");
    }
    say!("Ctrl-C ends it and removes {}", folder.0.display());
    running.until_told().await;
    Ok(())
}

/// The configuration a deployer would write for this, run through the same checks.
fn configuration(
    listen: SocketAddr,
    app: SocketAddr,
    folder: &Path,
    access_ttl: Duration,
) -> Result<config::Config, DemoError> {
    let window = format_duration((access_ttl / 2).min(Duration::from_secs(30)));
    let text = format!(
        r#"[server]
listen = ["{listen}"]
origin = "https://localhost:{port}"
[tls]
self_signed = true
[session]
access_ttl = "{ttl}"
redelivery_window = "{window}"
replay_grace = "{window}"
[store]
path = {folder}
[login.local]
[[upstream]]
name = "app"
url = "http://{app}"
assertion = true
[[route]]
path = "/"
upstream = "app"
access = "authenticated"
[log]
format = "text"
access = false
"#,
        port = listen.port(),
        ttl = format_duration(access_ttl),
        folder = toml::Value::String(folder.display().to_string()),
    );
    config::parse(&text, "demo.toml").map_err(|report| DemoError::Config(Box::new(report)))
}

/// The origin names the port, so a free one is chosen before anything is configured.
fn resolve_port(listen: SocketAddr) -> Result<SocketAddr, DemoError> {
    if listen.port() != 0 {
        return Ok(listen);
    }
    let free = TcpListener::bind(listen).and_then(|listener| listener.local_addr());
    free.map_err(|source| {
        DemoError::Listen(ListenError {
            address: listen,
            key: LISTEN,
            source,
        })
    })
}

/// Twenty letters and digits in groups of five: about 100 bits.
struct Password(String);

impl Password {
    fn reveal(&self) -> &str {
        &self.0
    }
}

fn make_up_password() -> Result<Password, DemoError> {
    // 32 characters that cannot be mistaken for one another, so that five bits make one without bias.
    const LETTERS: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz23456789A";
    let mut bytes = [0_u8; 20];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| DemoError::Random)?;
    let letters = bytes
        .iter()
        .filter_map(|byte| LETTERS.get(usize::from(byte % 32)));
    let mut text = String::with_capacity(24);
    for (index, letter) in letters.enumerate() {
        if index > 0 && index % 5 == 0 {
            text.push('-');
        }
        text.push(char::from(*letter));
    }
    Ok(Password(text))
}

async fn add_person(
    store: &dyn Store,
    password: &Password,
    now: Timestamp,
) -> Result<(), DemoError> {
    let hash =
        local::hash_password(&Secret::new(password.reveal())).map_err(|_| DemoError::Random)?;
    let account = Account {
        name: USER.to_owned(),
        email: Some("ada@example.com".to_owned()),
        display_name: Some("Ada Lovelace".to_owned()),
        groups: vec!["engineers".to_owned()],
        password_hash: hash,
        blocked: false,
        created_at: now,
        password_changed_at: now,
    };
    match store
        .create_account(&account)
        .await
        .map_err(DemoError::Account)?
    {
        // The folder is new, so the name is free.
        Replaced::Committed(_) | Replaced::Conflict | Replaced::Missing => Ok(()),
    }
}

/// The throw-away data folder; removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn make() -> Result<Self, DemoError> {
        let mut random = [0_u8; 16];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| DemoError::Random)?;
        let path =
            std::env::temp_dir().join(format!("vestibule-demo-{}", SessionId::from_bytes(random)));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(DemoError::Folder)?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            say!("vestibule: could not remove {}: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_own_configuration_is_accepted() {
        let listen = "127.0.0.1:8443".parse().unwrap();
        let app = "127.0.0.1:3000".parse().unwrap();
        for ttl in [2, 20, 300] {
            let config =
                configuration(listen, app, Path::new("data"), Duration::from_secs(ttl)).unwrap();
            assert_eq!(config.origin.to_string(), "https://localhost:8443");
        }
    }

    #[test]
    fn made_up_passwords_differ_and_are_long() {
        let (one, two) = (make_up_password().unwrap(), make_up_password().unwrap());
        assert_eq!(one.reveal().len(), 23);
        assert_ne!(one.reveal(), two.reveal());
    }
}
