//! A broker of a cluster: how it founds one, joins one, and comes back to its own.
//!
//! ```text
//! the data directory  ─► found, join or come back ─► certificate ─► peer port, consensus
//! the store's own name ─┘                                               │
//!                              broker ◄── listed in the catalog ◄── a member
//! ```
//!
//! | module | what |
//! |---|---|
//! | `home` | what the data directory remembers |
//! | `store` | the shared store, and whose it is |
//! | `counts` | what is told of the store |
//! | `late` | what is there before what it needs is |
//! | `credentials` | users and tokens in the catalog |

mod counts;
mod credentials;
mod home;
mod late;
mod store;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use blockstore::{BlobError, Disk, FileDisk};
use broker::cluster::status::{AskBroker, ReadStores};
use broker::cluster::{FEATURE_LEVEL, cluster_service};
use broker::{Background, Broker, BrokerConfig, CatalogFeed, ClusterParts, OnFault, Work};
use catalog::{BrokerId, BrokerInfo, BrokerState, CatalogError, Command, StoreId};
use consensus::{Consensus, ConsensusConfig, ConsensusError, Member, Observer, ProposeError};
use net::auth::CredentialStore;
use net::rpc::AboutResponse;
use net::{Bound, Identity, NetMetrics, Role};
use objects::{PageCache, SharedBlobs, Store, StoreCounters};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tonic::service::Routes;
use wire::text_encode::TextEncoder;

use self::credentials::CatalogCredentials;
use self::home::{Home, Stage};
use self::late::{LateCalls, LateLinks};
use self::store::SharedStore;
use super::peer_port::PeerPort;
use super::security::{Security, TLS};
use crate::about::now_ms;
use crate::config::Config;
use crate::words;

pub(crate) use home::is_home;

/// For one attempt to be taken in, or to agree; the start goes on trying.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long segments stay in the store when they are in blocks: what is asked meanwhile may read them.
const KEEP_FLUSHED: Duration = Duration::from_secs(10 * 60);
/// How long a stop waits for the consensus to end.
const STOPPING: Duration = Duration::from_secs(2);

/// The parts of a broker of a cluster before there is a broker.
pub(super) struct Clustered {
    home: Home,
    disk: Arc<dyn Disk>,
    store: Store,
    blobs: SharedBlobs,
    cache: Option<Arc<PageCache>>,
    consensus: Consensus,
    feed: Arc<CatalogFeed>,
    links: Arc<LateLinks>,
    calls: LateCalls,
    bound: Option<Bound>,
    member: Member,
    /// Where people and programs reach this broker.
    http: String,
    /// Seeds besides the members that are known.
    join: Vec<String>,
    fault: watch::Sender<Option<String>>,
}

impl Clustered {
    /// Everything of a start that other brokers need not answer for, but for the certificate of one
    /// that joins. Nothing where one machine is alone.
    pub(super) async fn prepare(
        config: &Config,
        metrics: Arc<NetMetrics>,
    ) -> Result<Option<Clustered>> {
        let known = Home::read(&config.data)?;
        if known.is_none() && config.cluster.store.is_none() {
            ensure!(
                config.cluster.join.is_empty(),
                "--join: the brokers of a cluster share a store; name the one that the others use with \
                 --store URL"
            );
            return Ok(None);
        }
        if known.is_none() && config.data.join("log").exists() {
            bail!(
                "--data {}: that is the data of one machine, and a broker of a cluster begins without \
                 any: give another --data",
                config.data.display()
            );
        }
        if !config.aggregation.rules.is_empty() {
            bail!("stream_aggregation follows the log of one machine: leave it out in a cluster");
        }
        super::security::make_data_directory(config)?;
        let disk = FileDisk::open(&config.data)
            .with_context(|| format!("open the data directory {}", config.data.display()))?;
        let disk: Arc<dyn Disk> = Arc::new(disk);
        let (home, store) = match known {
            Some(home) => come_back(home, config, &*disk).await?,
            None => begin_anew(config, &*disk).await?,
        };
        if home.stage == Stage::Joining {
            join_by_token(&home, config).await?;
        }
        let bound = PeerPort::bind(config, metrics).await?.with_context(|| {
            let listen = config.peer_listen.address;
            format!(
                "{listen} is taken, and a broker of a cluster needs its peer port: --peer-listen"
            )
        })?;
        let own = words::elsewhere(bound.local_addr());
        let member = Member {
            name: home.name.clone(),
            address: home.advertise.clone().unwrap_or(own),
            zone: home.zone.clone(),
        };
        let (blobs, cache) = store::blobs(&store, config)?;
        let feed = CatalogFeed::new(home.broker());
        let (links, fault) = (Arc::new(LateLinks::default()), watch::Sender::new(None));
        let failed = fault.clone();
        let consensus = Consensus::start(
            Arc::clone(&disk),
            ConsensusConfig::new(home.broker().0, member.clone()),
            Arc::clone(&links) as Arc<_>,
            Arc::clone(&feed) as Arc<dyn Observer>,
            Arc::new(move |error: &BlobError| fail(&failed, &on_disk(error))),
        );
        let consensus = Box::pin(consensus).await.context("take up the log of the cluster")?;
        let store_known = consensus.read(|state| state.store());
        if let Some(id) = store_known.filter(|id| id.to_string() != home.cluster()) {
            bail!(
                "the data directory {} has the log of cluster {id} and the name of cluster {}: restore \
                 it, or join with an empty one",
                config.data.display(),
                home.cluster()
            );
        }
        Ok(Some(Clustered {
            home,
            disk,
            store,
            blobs,
            cache,
            consensus,
            feed,
            links,
            calls: LateCalls::default(),
            bound: Some(bound),
            member,
            http: words::elsewhere(config.listen),
            join: config.cluster.join.clone(),
            fault,
        }))
    }

    /// Users, tokens and certificates of the cluster.
    pub(super) fn credentials(&self) -> Arc<dyn CredentialStore> {
        let (consensus, runtime) = (self.consensus.clone(), Handle::current());
        Arc::new(CatalogCredentials { consensus, runtime })
    }

    /// Serves the other brokers, becomes one of them, and opens the broker. Waits for the cluster as long
    /// as it takes. What agents and consoles call is answered from [`Clustered::open_calls`] on.
    pub(super) async fn open(
        &mut self,
        config: &Config,
        security: &Security,
        broker_config: BrokerConfig,
        metrics: Arc<NetMetrics>,
    ) -> Result<(Broker, PeerPort)> {
        let routes = Routes::from(self.calls.router());
        let routes =
            routes.add_service(cluster_service(self.consensus.clone(), Arc::clone(&self.feed)));
        let bound = self.bound.take().expect("it is opened once");
        let port = PeerPort::serve(bound, config, security, routes)?;
        // Whoever has a broker's certificate has the authority's key and could make any.
        security.peers().trust_brokers(true);
        if self.home.stage == Stage::Founding {
            self.found().await?;
        }
        let identity = self.identity(config, security).await?;
        let links = self.links.set(broker::cluster::Links::new(&identity)?);
        let (authority, peers) = (Arc::clone(security.authority()), Arc::clone(security.peers()));
        tokio::spawn(Arc::clone(&identity).keep_issuing(authority, Arc::clone(&peers)));
        tokio::spawn(credentials::cut_who_was_revoked_elsewhere(peers));
        tokio::spawn(store::keep_name(self.store.clone(), self.home.clone()));
        if self.home.stage == Stage::Joining {
            self.look_before_joining(&links).await?;
        }
        self.become_member().await?;
        self.be_listed().await?;
        self.home.stage = Stage::Member;
        self.home.write(&*self.disk)?;
        let parts = ClusterParts {
            consensus: self.consensus.clone(),
            feed: Arc::clone(&self.feed),
            store: Arc::new(SharedStore(self.store.clone())),
            blobs: Arc::new(self.blobs.clone()),
            peers: links,
            disk: Arc::clone(&self.disk),
            work: Work::Threads,
            keep_flushed: KEEP_FLUSHED,
            background: Background::default(),
            on_fault: self.on_fault(),
        };
        let broker = Box::pin(Broker::open_clustered(parts, broker_config, metrics)).await?;
        Ok((broker, port))
    }

    /// Lets agents and consoles in.
    pub(super) fn open_calls(&self, routes: Routes) {
        self.calls.open(routes);
    }

    /// Where others reach this broker.
    pub(super) fn address(&self) -> String {
        self.member.address.clone()
    }

    /// Ends, with the reason, when this process can only begin anew.
    pub(super) fn failed(&self) -> impl Future<Output = String> + use<> {
        let mut fault = self.fault.subscribe();
        async move {
            match fault.wait_for(Option::is_some).await {
                Ok(why) => why.clone().unwrap_or_default(),
                // The process ends.
                Err(_) => std::future::pending().await,
            }
        }
    }

    /// What the store did, and the cache before it.
    pub(super) fn page(&self) -> crate::metrics::Page {
        let (store, cache) = (self.store.clone(), self.cache.clone());
        Box::new(move |out: &mut TextEncoder<'_>| {
            StoreCounters::render(&[(counts::TIER, store.counters())], out);
            if let Some(cache) = &cache {
                cache.counters().render(out);
            }
        })
    }

    /// What is told of the store in the state of the cluster.
    pub(super) fn stores(&self) -> ReadStores {
        counts::of(&self.store, self.cache.as_ref())
    }

    /// The way on which other brokers are asked how they are.
    pub(super) fn others(&self) -> Arc<dyn AskBroker> {
        Arc::clone(&self.links) as Arc<dyn AskBroker>
    }

    /// One line for who starts it.
    pub(super) fn summary(&self) -> String {
        format!(
            "broker {} of cluster {}, at {}, data in {}",
            self.home.name,
            self.home.cluster(),
            self.member.address,
            self.store.url()
        )
    }

    /// Leaves when everything is answered.
    pub(super) async fn stop(self) {
        if tokio::time::timeout(STOPPING, self.consensus.stop()).await.is_err() {
            tracing::warn!("the consensus did not stop in time; a restart takes its log up again");
        }
    }

    fn on_fault(&self) -> OnFault {
        let fault = self.fault.clone();
        Arc::new(move |why| fail(&fault, why))
    }

    /// Begins the cluster. An earlier start may have got half of the way.
    async fn found(&self) -> Result<()> {
        self.consensus.begin().await.context("found the cluster")?;
        let store = home::store_id(self.home.cluster()).expect("looked at when it was read");
        match self.agree(Command::CreateStore { store }).await {
            Ok(()) => tracing::info!(cluster = self.home.cluster(), "founded a cluster"),
            Err(ProposeError::Catalog(CatalogError::StoreExists)) => {}
            Err(error) => return Err(error).context("found the cluster"),
        }
        Ok(())
    }

    /// The certificate by which the other brokers know this one.
    async fn identity(&self, config: &Config, security: &Security) -> Result<Arc<Identity>> {
        let (tls, name) = (config.data.join(TLS), self.home.name.clone());
        let (authority, peers) = (Arc::clone(security.authority()), Arc::clone(security.peers()));
        // Only a founder has the list before it has talked to anybody.
        let founds = self.home.stage == Stage::Founding;
        let issue = move || match founds {
            true => Identity::issue_own(&tls, &name, &authority, &peers, SystemTime::now()),
            false => Identity::issue_unlisted(&tls, &name, &authority, SystemTime::now()),
        };
        let identity = tokio::task::spawn_blocking(issue).await.context("make a certificate")?;
        identity.context("make this broker's certificate")
    }

    /// Whether the brokers named by `--join` are of the store's cluster, and whether this program knows
    /// enough for it.
    async fn look_before_joining(&self, links: &broker::cluster::Links) -> Result<()> {
        let mut said = String::new();
        for seed in &self.join {
            let about = match links.about(seed, PATIENCE).await {
                Ok(about) => about,
                Err(error) => {
                    said = format!("{seed}: {error}");
                    continue;
                }
            };
            if about.cluster.is_empty() {
                said = format!("{seed} does not know its cluster yet");
                continue;
            }
            may_join(&about, &self.home, &self.store).with_context(|| format!("--join {seed}"))?;
            return Ok(());
        }
        bail!("none of the brokers named by --join could be asked: {said}")
    }

    /// Becomes a member, or tells the others where it is now.
    async fn become_member(&self) -> Result<()> {
        let own = self.home.broker().0;
        loop {
            let known = self.consensus.status().members;
            if known.get(&own).is_some_and(|(member, _)| *member == self.member) {
                return Ok(());
            }
            let given = self.join.iter().cloned();
            let others = known.into_iter().filter(|(id, _)| *id != own);
            let others = others.map(|(_, (member, _))| member.address);
            // Alone it asks itself, where it is now.
            let seeds = given.chain(others).chain([self.member.address.clone()]);
            let seeds: Vec<Member> =
                seeds.map(|address| Member { address, ..Member::default() }).collect();
            match self.consensus.join(&seeds, PATIENCE).await {
                Ok(()) => return Ok(()),
                Err(error @ ConsensusError::NoLeader { .. }) => {
                    tracing::warn!(%error, "this broker waits to be taken in");
                }
                Err(error) => return Err(error).context("join the cluster"),
            }
        }
    }

    /// Sees to it that the catalog says what this broker says of itself.
    async fn be_listed(&self) -> Result<()> {
        let broker = self.home.broker();
        loop {
            if let Err(error) = self.consensus.catch_up(PATIENCE).await {
                tracing::warn!(%error, "the start waits for the cluster");
                continue;
            }
            let listed = self.consensus.read(|state| state.broker(broker).map(|b| b.info.clone()));
            let wanted = BrokerInfo {
                name: self.member.name.clone(),
                address: self.member.address.clone(),
                zone: self.member.zone.clone(),
                http_address: self.http.clone(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                feature_level: FEATURE_LEVEL,
                // One that drains goes on with that.
                state: listed.as_ref().map_or(BrokerState::Active, |info| info.state),
            };
            if listed.as_ref() == Some(&wanted) {
                return Ok(());
            }
            self.agree(Command::SetBroker { broker, info: Box::new(wanted) })
                .await
                .context("be listed in the cluster")?;
        }
    }

    /// Proposes what may be applied twice until it is known to be applied.
    async fn agree(&self, command: Command) -> Result<(), ProposeError> {
        loop {
            match self.consensus.propose(command.clone(), PATIENCE).await {
                Ok(_) => return Ok(()),
                Err(error @ (ProposeError::NoLeader(_) | ProposeError::Unknown(_))) => {
                    tracing::warn!(%error, "the start waits for the cluster");
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Whether the store's cluster is that of a broker, and whether this program knows enough for it.
fn may_join(about: &AboutResponse, home: &Home, store: &Store) -> Result<()> {
    let id = <[u8; 16]>::try_from(&about.cluster[..]).map(StoreId);
    let id = id.map_err(|_| anyhow::anyhow!("it names its cluster as no version of ours does"))?;
    ensure!(
        id.to_string() == home.cluster(),
        "that is broker {} of cluster {id}, and the store {} is that of cluster {}: give the --store that the \
         others use, or join brokers that use this one; then start with an empty --data",
        about.name,
        store.url(),
        home.cluster()
    );
    ensure!(
        about.feature_level <= FEATURE_LEVEL,
        "the cluster uses what came with a version after {} (feature level {}, this program knows \
         {FEATURE_LEVEL}; {} runs version {}): start this broker with the version of the others",
        env!("CARGO_PKG_VERSION"),
        about.feature_level,
        about.name,
        about.version
    );
    Ok(())
}

/// A broker whose directory knows its cluster.
async fn come_back(mut home: Home, config: &Config, disk: &dyn Disk) -> Result<(Home, Store)> {
    let before = home.clone();
    if let Some(url) = &config.cluster.store
        && url.reveal() != home.store
    {
        tracing::warn!(
            "--store is not the URL that this broker used before; it is remembered from now on"
        );
        url.reveal().clone_into(&mut home.store);
    }
    if let Some(zone) = &config.cluster.zone {
        home.zone.clone_from(zone);
    }
    if config.cluster.advertise.is_some() {
        home.advertise.clone_from(&config.cluster.advertise);
    }
    let has_data = home.stage == Stage::Member;
    let store = store::open(&home.store, home.broker(), has_data, config).await?;
    match home.stage {
        Stage::Founding => claim(&store, &home, disk).await?,
        Stage::Joining | Stage::Member => store::check_known(&store, &home).await?,
    }
    if home != before {
        home.write(disk)?;
    }
    Ok((home, store))
}

/// A broker that has no cluster yet.
async fn begin_anew(config: &Config, disk: &dyn Disk) -> Result<(Home, Store)> {
    let url = config.cluster.store.as_ref().expect("it makes this a cluster").reveal();
    let (mut id, mut number) = ([0; 16], [0; 8]);
    for half in [&mut id[..], &mut number[..]] {
        super::getrandom(half).context("draw the broker's number")?;
    }
    // 0 stands for whoever is at an address.
    let broker = BrokerId(u64::from_le_bytes(number).max(1));
    let store = store::open(url, broker, false, config).await?;
    let joins = !config.cluster.join.is_empty();
    let (cluster, stage) = store::cluster_for_new(&store, joins, StoreId(id)).await?;
    ensure!(
        !joins
            || config.cluster.join_token.is_some()
            || config.data.join(TLS).join("identity.pem").exists(),
        "--join needs --join-token TOKEN at the first start: run `watchfire token create --role broker` on \
         the host of a broker of the cluster"
    );
    let elsewhere = config.cluster.join.iter().find(|address| !is_of_this_host(address));
    if let Some(seed) = elsewhere
        && config.cluster.advertise.is_none()
        && config.peer_listen.address.ip().is_loopback()
    {
        bail!(
            "{seed}, which --join names, could not reach this broker at {}, an address of this host alone: \
             give --peer-listen 0.0.0.0:9596, and --advertise HOST:9596 if the others do not know this \
             host by its name",
            config.peer_listen.address
        );
    }
    let mut home = Home::new(cluster, broker, stage, url, &config.cluster.name);
    home.zone = config.cluster.zone.clone().unwrap_or_default();
    home.advertise.clone_from(&config.cluster.advertise);
    net::check_name(&home.name).context("--name")?;
    home.write(disk)?;
    if stage == Stage::Founding {
        claim(&store, &home, disk).await?;
    }
    Ok((home, store))
}

/// Whether an address leads back to the host that asks for it.
fn is_of_this_host(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

/// Names the cluster in the store, or forgets it.
async fn claim(store: &Store, home: &Home, disk: &dyn Disk) -> Result<()> {
    let claimed = store::claim(store, home, now_ms()).await;
    if claimed.is_err() {
        home::forget(disk)?;
    }
    claimed
}

/// Gets the certificate and the authority of the cluster.
async fn join_by_token(home: &Home, config: &Config) -> Result<()> {
    let seeds = &config.cluster.join;
    ensure!(
        !seeds.is_empty(),
        "this broker was about to join cluster {} and has not been taken in: give --join HOST:9596, and \
         --join-token TOKEN if it has no certificate yet",
        home.cluster()
    );
    let token = config.cluster.join_token.as_ref().map(settings::Secret::reveal);
    let joined = net::join(&config.data.join(TLS), seeds, token, &home.name, Role::Broker).await;
    joined.context("join the cluster")?;
    Ok(())
}

fn on_disk(error: &BlobError) -> String {
    format!(
        "the log of the cluster cannot be written: {error}; check the disk of the data directory"
    )
}

/// The first reason counts.
fn fail(fault: &watch::Sender<Option<String>>, why: &str) {
    tracing::error!("{why}");
    fault.send_if_modified(|known| {
        let is_first = known.is_none();
        known.get_or_insert_with(|| why.to_owned());
        is_first
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_only_this_host_knows() {
        for here in ["127.0.0.1:9596", "[::1]:9596", "localhost:1", "127.0.0.2:9"] {
            assert!(is_of_this_host(here), "{here}");
        }
        for elsewhere in ["web-01:9596", "10.0.0.1:9596", "[fe80::1]:9596"] {
            assert!(!is_of_this_host(elsewhere), "{elsewhere}");
        }
    }

    #[tokio::test]
    async fn who_is_too_old_or_of_another_cluster_is_told_before_it_joins() {
        let options = objects::StoreOptions {
            accept_weaker_durability: true,
            ..objects::StoreOptions::truth()
        };
        let url = objects::StoreUrl::parse("memory://").expect("a URL");
        let store = Store::open(&url, options).await.expect("memory");
        let home = Home::new(StoreId([1; 16]), BrokerId(1), Stage::Joining, "memory://", "new");
        let about = |cluster: &[u8], feature_level| AboutResponse {
            cluster: cluster.to_vec().into(),
            feature_level,
            version: "9.0.0".to_owned(),
            name: "first".to_owned(),
        };
        let told = |about: AboutResponse| {
            may_join(&about, &home, &store).map_err(|error| error.to_string())
        };
        assert_eq!(told(about(&[1; 16], FEATURE_LEVEL)), Ok(()));
        assert_eq!(told(about(&[1; 16], 0)), Ok(()), "older brokers are no obstacle");
        let newer = told(about(&[1; 16], FEATURE_LEVEL + 1)).expect_err("too old");
        assert!(newer.contains("version 9.0.0") && newer.contains("of the others"), "{newer}");
        let other = told(about(&[2; 16], FEATURE_LEVEL)).expect_err("another cluster");
        assert!(other.contains("cluster 0202") && other.contains("cluster 0101"), "{other}");
        told(about(&[2; 3], FEATURE_LEVEL)).expect_err("no identifier");
    }
}
