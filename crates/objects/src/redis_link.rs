//! Connections to one Redis or to a Redis Cluster.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    Pipeline, RedisConnectionInfo, RedisError, RedisResult, TlsCertificates, Value,
};

use crate::{Credentials, RedisPlace, StoreError};

/// Longer than `WAIT` may take, and short enough for a second attempt within the deadline of a write.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(7);
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(2);

/// Pauses of a cluster's connection before it follows a slot that moved, milliseconds.
const FOLLOWING_MS: std::ops::Range<u64> = 10..100;

/// Connections to a Redis that is none of a cluster: `WAIT` holds up what comes behind it on the same
/// one.
const CONNECTIONS: usize = 4;

/// How a node of Redis is reached.
pub(crate) struct Dialing {
    username: Option<String>,
    password: Option<String>,
    tls: bool,
    /// To trust instead of the system's, PEM.
    authorities: Option<Vec<u8>>,
}

impl Dialing {
    /// # Errors
    /// The authorities cannot be read.
    pub(crate) fn new(
        place: &RedisPlace,
        credentials: &Credentials,
    ) -> Result<Dialing, StoreError> {
        let given = |name: &str| credentials.get(name).map(|value| value.reveal().to_owned());
        let password = place.password.as_ref().map(|password| password.reveal().to_owned());
        let authorities = place.ca_file.as_ref().map(|file| {
            std::fs::read(file).map_err(|error| {
                StoreError::Settings(format!("the store: ca_file {}: {error}", file.display()))
            })
        });
        Ok(Dialing {
            username: place.username.clone().or_else(|| given("REDIS_USERNAME")),
            password: password.or_else(|| given("REDIS_PASSWORD")),
            tls: place.tls,
            authorities: authorities.transpose()?,
        })
    }

    fn info(&self, (host, port): &(String, u16)) -> RedisResult<ConnectionInfo> {
        let (host, port) = (host.trim_matches(['[', ']']).to_owned(), *port);
        let mut settings = RedisConnectionInfo::default().set_skip_set_lib_name();
        if let Some(username) = &self.username {
            settings = settings.set_username(username);
        }
        if let Some(password) = &self.password {
            settings = settings.set_password(password);
        }
        let address = match self.tls {
            true => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
            false => ConnectionAddr::Tcp(host, port),
        };
        Ok(address.into_connection_info()?.set_redis_settings(settings))
    }

    fn certificates(&self) -> Option<TlsCertificates> {
        let pem = self.authorities.clone()?;
        Some(TlsCertificates { client_tls: None, root_cert: Some(pem) })
    }

    /// Of one node.
    pub(crate) fn client(&self, node: &(String, u16)) -> RedisResult<Client> {
        let info = self.info(node)?;
        match self.certificates() {
            Some(certificates) => Client::build_with_tls(info, certificates),
            None => Client::open(info),
        }
    }
}

/// Slots that follow each other, and who has them.
pub(crate) struct SlotRange {
    pub(crate) first: u16,
    pub(crate) last: u16,
    pub(crate) primary: (String, u16),
}

/// The answer to `CLUSTER SLOTS`. `asked` is the host that was asked, which stands where the answer has none.
pub(crate) fn slots(answer: Value, asked: &str) -> RedisResult<Vec<SlotRange>> {
    let ranges: Vec<Vec<Value>> = redis::from_redis_value(answer)?;
    let mut found = Vec::new();
    for range in ranges {
        let mut words = range.into_iter();
        let (Some(first), Some(last)) = (words.next(), words.next()) else { continue };
        let Some(Value::Array(primary)) = words.next() else { continue };
        let mut words = primary.into_iter();
        let (Some(host), Some(port)) = (words.next(), words.next()) else { continue };
        let host: Option<String> = redis::from_redis_value(host)?;
        let host = host.filter(|host| !host.is_empty()).unwrap_or_else(|| asked.to_owned());
        let (first, last) = (redis::from_redis_value(first)?, redis::from_redis_value(last)?);
        found.push(SlotRange { first, last, primary: (host, redis::from_redis_value(port)?) });
    }
    Ok(found)
}

/// Connections that are made when they are needed, and anew after a fault.
pub(crate) struct Links {
    target: Target,
    open: Vec<Place>,
    next: AtomicUsize,
    has_checked: AtomicBool,
}

#[derive(Default)]
struct Place {
    link: Mutex<Option<Link>>,
    /// Held by whoever makes the connection, so that not everybody does.
    connecting: tokio::sync::Mutex<()>,
}

enum Target {
    One(Box<Client>),
    Cluster(Box<ClusterClient>),
}

/// One connection, or those to all nodes of a cluster. Clones share it.
#[derive(Clone)]
pub(crate) enum Link {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// Who answers a command.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    /// The only one.
    Only,
    /// The primary that has a key.
    OfKey(String),
    /// By its address.
    At(String, u16),
}

impl Links {
    pub(crate) fn new(place: &RedisPlace, credentials: &Credentials) -> Result<Links, StoreError> {
        let unfit = |error: RedisError| StoreError::Settings(format!("the store: {error}"));
        let dialing = Dialing::new(place, credentials)?;
        let infos = place.nodes.iter().map(|node| dialing.info(node));
        let infos = infos.collect::<RedisResult<Vec<_>>>().map_err(unfit)?;
        let target = if place.is_cluster {
            let mut builder = ClusterClient::builder(infos)
                .connection_timeout(CONNECTION_TIMEOUT)
                .response_timeout(RESPONSE_TIMEOUT)
                // Enough to follow a slot that moved; the rest is the store's own patience.
                .retries(2)
                .min_retry_wait(FOLLOWING_MS.start)
                .max_retry_wait(FOLLOWING_MS.end);
            if let Some(certificates) = dialing.certificates() {
                builder = builder.certs(certificates);
            }
            Target::Cluster(Box::new(builder.build().map_err(unfit)?))
        } else {
            let node = place.nodes.first().expect("a URL names at least one node");
            Target::One(Box::new(dialing.client(node).map_err(unfit)?))
        };
        let links = if place.is_cluster { 1 } else { CONNECTIONS };
        Ok(Links {
            target,
            open: (0..links).map(|_| Place::default()).collect(),
            next: Default::default(),
            has_checked: Default::default(),
        })
    }

    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.target, Target::Cluster(_))
    }

    /// Asks for `check` once, with the first connection.
    pub(crate) fn checked(&self) -> &AtomicBool {
        &self.has_checked
    }

    /// Sends commands to one node, in order and on one connection; an answer for each, of which none
    /// is an error.
    pub(crate) async fn ask(&self, node: &Node, commands: Pipeline) -> RedisResult<Vec<Value>> {
        let place = &self.open[self.next.fetch_add(1, Relaxed) % self.open.len()];
        let mut link = self.link(place).await?;
        // Whoever gives up waiting does not leave a connection on which nothing comes to the next.
        let mut asking = Asking { place, is_answered: false };
        let answered = link.ask(node, commands).await;
        // After a failover a new connection asks the nodes who is a primary now.
        asking.is_answered = match &answered {
            Ok(_) => true,
            Err(error) => {
                let is_lost = error.is_io_error() || error.is_cluster_error();
                !is_lost && !error.is_unrecoverable_error()
            }
        };
        answered
    }

    async fn link(&self, place: &Place) -> RedisResult<Link> {
        let open = || place.link.lock().clone();
        if let Some(link) = open() {
            return Ok(link);
        }
        let _alone = place.connecting.lock().await;
        if let Some(link) = open() {
            return Ok(link);
        }
        let made = self.connect().await?;
        *place.link.lock() = Some(made.clone());
        Ok(made)
    }

    async fn connect(&self) -> RedisResult<Link> {
        match &self.target {
            Target::One(client) => {
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(CONNECTION_TIMEOUT))
                    .set_response_timeout(Some(RESPONSE_TIMEOUT));
                let made = client.get_multiplexed_async_connection_with_config(&config).await?;
                Ok(Link::One(made))
            }
            Target::Cluster(client) => Ok(Link::Cluster(client.get_async_connection().await?)),
        }
    }

    /// Addresses of all primaries; the one of a Redis that is alone.
    pub(crate) async fn primaries(&self) -> RedisResult<Vec<Node>> {
        if !self.is_cluster() {
            return Ok(vec![Node::Only]);
        }
        let mut commands = Pipeline::new();
        commands.add_command(Cmd::new().arg("CLUSTER").arg("SLOTS").take());
        let answers = self.ask(&Node::OfKey(String::new()), commands).await?;
        let mut found = Vec::new();
        for range in slots(answers.into_iter().next().unwrap_or(Value::Nil), "")? {
            if !found.contains(&range.primary) {
                found.push(range.primary);
            }
        }
        Ok(found.into_iter().map(|(host, port)| Node::At(host, port)).collect())
    }
}

/// Forgets the connection if no answer comes, or one that says that it is of no use.
struct Asking<'a> {
    place: &'a Place,
    is_answered: bool,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            *self.place.link.lock() = None;
        }
    }
}

impl Link {
    async fn ask(&mut self, node: &Node, commands: Pipeline) -> RedisResult<Vec<Value>> {
        let count = commands.len();
        let answers = match self {
            Link::One(connection) => connection.req_packed_commands(&commands, 0, count).await?,
            Link::Cluster(connection) => {
                let route = match node {
                    Node::Only => SingleNodeRoutingInfo::RandomPrimary,
                    Node::OfKey(key) => {
                        SingleNodeRoutingInfo::SpecificNode(Route::with_key(key, SlotAddr::Master))
                    }
                    Node::At(host, port) => {
                        SingleNodeRoutingInfo::ByAddress { host: host.clone(), port: *port }
                    }
                };
                match count {
                    // One command is led to where its key went; a pipeline may not be.
                    1 => {
                        let command = commands.cmd_iter().next().cloned().expect("there is one");
                        let route = RoutingInfo::SingleNode(route);
                        vec![connection.route_command(command, route).await?]
                    }
                    _ => connection.route_pipeline(commands, 0, count, route).await?,
                }
            }
        };
        answers.into_iter().map(|answer| answer.extract_error()).collect()
    }
}
