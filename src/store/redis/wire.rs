//! Connecting: to one server, to whom the Sentinels call master, or to a cluster. One attempt, within a fixed time.
//!
//! Every attempt asks for names and masters anew, so that the next one follows a failover. Must not retry: that is `link`.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine as _;
use futures_util::future::join_all;
use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _,
    RedisConnectionInfo, RedisResult, TlsCertificates, Value,
};

use super::Settings;
use super::address::{Place, Topology};
use crate::store::StoreError;

/// For a connection to be made, with TLS and AUTH.
const CONNECT: Duration = Duration::from_millis(500);
/// For a Sentinel to answer.
const SENTINEL: Duration = Duration::from_millis(400);
/// For a command to be answered.
pub(super) const ANSWER: Duration = Duration::from_millis(750);

/// A connection over which many callers talk at once.
#[derive(Clone)]
pub(super) enum Wire {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Wire {
    pub(super) async fn send(&mut self, command: &Cmd) -> RedisResult<Value> {
        match self {
            Wire::One(connection) => connection.send_packed_command(command).await,
            Wire::Cluster(connection) => connection.req_packed_command(command).await,
        }
        // A refusal of the server arrives as a value.
        .and_then(Value::extract_error)
    }

    /// Sends a command that names no key to whom `key` belongs.
    pub(super) async fn send_beside(&mut self, command: Cmd, key: &str) -> RedisResult<Value> {
        match self {
            Wire::One(connection) => connection.send_packed_command(&command).await,
            Wire::Cluster(connection) => {
                let owner = Route::with_key(key, SlotAddr::Master);
                let owner = SingleNodeRoutingInfo::SpecificNode(owner);
                connection
                    .route_command(command, RoutingInfo::SingleNode(owner))
                    .await
            }
        }
        .and_then(Value::extract_error)
    }

    /// Whether the far end answers: of a cluster, any node.
    pub(super) async fn ping(&mut self) -> RedisResult<()> {
        let command = redis::cmd("PING");
        match self {
            Wire::One(connection) => connection.send_packed_command(&command).await,
            Wire::Cluster(connection) => {
                let any = RoutingInfo::SingleNode(SingleNodeRoutingInfo::Random);
                connection.route_command(command, any).await
            }
        }
        .and_then(Value::extract_error)
        .map(|_| ())
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self, Wire::Cluster(_))
    }
}

/// Knows how to connect.
pub(super) struct Dialer {
    settings: Settings,
    /// Trust anchors as PEM, read once: the file may be gone or changing when a connection breaks.
    roots: Option<Vec<u8>>,
}

impl Dialer {
    pub(super) fn new(settings: Settings) -> Result<Self, StoreError> {
        let roots = match (&settings.ca, settings.address.tls) {
            (_, false) => None,
            (Some(own), true) => Some(own.clone()),
            (None, true) => Some(system_roots()?),
        };
        Ok(Dialer { settings, roots })
    }

    /// How many replicas a write waits for.
    pub(super) fn replicas(&self) -> usize {
        self.settings.replicas
    }

    /// One attempt; where it led to, if that can change, and why it failed.
    pub(super) async fn connect(&self) -> Result<(Wire, Option<Place>), String> {
        match &self.settings.address.topology {
            Topology::Single(place) => Ok((self.master_at(place).await?, None)),
            Topology::Sentinel { .. } => {
                let place = self.master().await?;
                let wire = self
                    .master_at(&place)
                    .await
                    .map_err(|reason| format!("the master {place}: {reason}"))?;
                Ok((wire, Some(place)))
            }
            Topology::Cluster(nodes) => Ok((self.cluster(nodes).await?, None)),
        }
    }

    /// Whom most of the Sentinels that answer call master.
    pub(super) async fn master(&self) -> Result<Place, String> {
        let Topology::Sentinel { sentinels, master } = &self.settings.address.topology else {
            return Err("there are no Sentinels to ask".to_owned());
        };
        let answers = join_all(sentinels.iter().map(|place| self.ask(place, master))).await;
        let mut votes: HashMap<Place, usize> = HashMap::new();
        let mut last = String::new();
        for answer in answers {
            match answer {
                Ok(place) => *votes.entry(place).or_default() += 1,
                Err(reason) => last = reason,
            }
        }
        votes
            .into_iter()
            .max_by_key(|(_, votes)| *votes)
            .map(|(place, _)| place)
            .ok_or_else(|| format!("no Sentinel knows the master: {last}"))
    }

    async fn ask(&self, sentinel: &Place, master: &str) -> Result<Place, String> {
        let login = match &self.settings.sentinel_password {
            Some(password) => RedisConnectionInfo::default().set_password(text(password)?),
            None => RedisConnectionInfo::default(),
        };
        let question = async {
            let mut connection = self.open(sentinel, login).await?;
            let mut command = redis::cmd("SENTINEL");
            command.arg("get-master-addr-by-name").arg(master);
            let answer = connection.send_packed_command(&command).await;
            let answer = answer.and_then(Value::extract_error);
            answer.map_err(|error| error.to_string())
        };
        let answer = tokio::time::timeout(SENTINEL, question)
            .await
            .unwrap_or_else(|_| Err("it does not answer".to_owned()))
            .and_then(|answer| {
                redis::from_redis_value::<Option<(String, u16)>>(answer)
                    .map_err(|error| error.to_string())
            });
        match answer {
            Ok(Some((host, port))) => Ok(Place { host, port }),
            Ok(None) => Err(format!("{sentinel} knows no master of that name")),
            Err(reason) => Err(format!("{sentinel}: {reason}")),
        }
    }

    /// A connection to a server that takes writes.
    async fn master_at(&self, place: &Place) -> Result<Wire, String> {
        let login = self.login()?.set_db(self.settings.address.database);
        let connecting = async {
            let mut connection = self.open(place, login).await?;
            let answer = connection.send_packed_command(&redis::cmd("PING")).await;
            let answer = answer.and_then(Value::extract_error);
            answer.map_err(|error| error.to_string())?;
            // Managed services forbid ROLE; a replica then shows at the first write.
            let role = connection.send_packed_command(&redis::cmd("ROLE")).await;
            if let Ok(Value::Array(role)) = role
                && let Some(Value::BulkString(role)) = role.first()
                && role != b"master"
            {
                return Err("it is a replica and takes no writes (READONLY)".to_owned());
            }
            Ok(Wire::One(connection))
        };
        tokio::time::timeout(CONNECT, connecting)
            .await
            .unwrap_or_else(|_| Err("it does not answer".to_owned()))
    }

    async fn open(
        &self,
        place: &Place,
        login: RedisConnectionInfo,
    ) -> Result<MultiplexedConnection, String> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(ANSWER));
        let client = self.client(place, login)?;
        client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(|error| error.to_string())
    }

    fn client(&self, place: &Place, login: RedisConnectionInfo) -> Result<Client, String> {
        let info = self.info(place, login)?;
        match self.certificates() {
            Some(certificates) => Client::build_with_tls(info, certificates),
            None => Client::open(info),
        }
        .map_err(|error| error.to_string())
    }

    async fn cluster(&self, nodes: &[Place]) -> Result<Wire, String> {
        let nodes = nodes
            .iter()
            .map(|place| self.info(place, self.login()?))
            .collect::<Result<Vec<_>, _>>()?;
        let mut builder = ClusterClient::builder(nodes)
            .connection_timeout(CONNECT)
            .response_timeout(ANSWER)
            .overall_response_timeout(Some(ANSWER))
            .retries(4)
            .min_retry_wait(20)
            .max_retry_wait(150);
        if let Some(certificates) = self.certificates() {
            builder = builder.certs(certificates);
        }
        let connecting = async {
            let client = builder.build().map_err(|error| error.to_string())?;
            let connection = client
                .get_async_connection()
                .await
                .map_err(|error| error.to_string())?;
            let mut wire = Wire::Cluster(connection);
            wire.ping().await.map_err(|error| error.to_string())?;
            Ok(wire)
        };
        tokio::time::timeout(2 * CONNECT, connecting)
            .await
            .unwrap_or_else(|_| Err("the cluster does not answer".to_owned()))
    }

    fn info(&self, place: &Place, login: RedisConnectionInfo) -> Result<ConnectionInfo, String> {
        let addr = match self.settings.address.tls {
            true => ConnectionAddr::TcpTls {
                host: place.host.clone(),
                port: place.port,
                insecure: false,
                tls_params: None,
            },
            false => ConnectionAddr::Tcp(place.host.clone(), place.port),
        };
        let info = addr
            .into_connection_info()
            .map_err(|error| error.to_string())?;
        Ok(info.set_redis_settings(login))
    }

    fn login(&self) -> Result<RedisConnectionInfo, String> {
        let mut login = RedisConnectionInfo::default().set_skip_set_lib_name();
        if let Some(user) = &self.settings.user {
            login = login.set_username(user);
        }
        if let Some(password) = &self.settings.password {
            login = login.set_password(text(password)?);
        }
        Ok(login)
    }

    fn certificates(&self) -> Option<TlsCertificates> {
        self.roots.as_ref().map(|roots| TlsCertificates {
            client_tls: None,
            root_cert: Some(roots.clone()),
        })
    }
}

fn text(password: &crate::units::Secret) -> Result<&str, String> {
    std::str::from_utf8(password.expose()).map_err(|_| "the password is not UTF-8".to_owned())
}

/// The system's certificate authorities.
fn system_roots() -> Result<Vec<u8>, StoreError> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        return Err(StoreError::Unavailable(
            "this system has no certificate authorities; install ca-certificates, or name one in `store.ca`"
                .to_owned(),
        ));
    }
    let mut pem = String::new();
    for certificate in found.certs {
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        base64::engine::general_purpose::STANDARD.encode_string(certificate, &mut pem);
        pem.push_str("\n-----END CERTIFICATE-----\n");
    }
    Ok(pem.into_bytes())
}
