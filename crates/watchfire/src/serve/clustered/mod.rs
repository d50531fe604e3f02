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
//! | `starts` | whether it founds, joins or comes back |
//! | `membership` | it becomes one of the cluster, and stays one |
//! | `home` | what the data directory remembers |
//! | `store` | the shared stores, and whose they are |
//! | `chunks` | what the caches of brokers give one another |
//! | `keeping` | what a store that forgets is told to keep |
//! | `counts` | what is told of the stores |
//! | `late` | what is there before what it needs is |
//! | `credentials` | users and tokens in the catalog |
//! | `leaving` | its certificate when it leaves, and those of others that left |
//! | `workers` | who computes parts of queries |

mod chunks;
mod counts;
mod credentials;
mod home;
mod keeping;
mod late;
mod leaving;
mod membership;
mod starts;
mod store;
mod workers;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use blockstore::{Disk, FileDisk};
use broker::cluster::status::{AskBroker, ReadStores};
use broker::cluster::{cluster_service, left_cluster};
use broker::{Background, Broker, BrokerConfig, CatalogFeed, ClusterParts, OnFault, Work};
use catalog::{CatalogError, Command};
use consensus::{Consensus, ConsensusConfig, Failure, Member, Observer, ProposeError};
use console::Workers;
use net::auth::CredentialStore;
use net::{Bound, Identity, NetMetrics};
use objects::SharedBlobs;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tonic::service::Routes;
use wire::text_encode::TextEncoder;

use self::chunks::{ChunkCounters, OtherCaches, OwnCache};
use self::counts::Caches;
use self::credentials::CatalogCredentials;
use self::home::{Home, Stage};
use self::late::LateCalls;
use self::store::Stores;
use self::workers::OtherBrokers;
use super::peer_port::PeerPort;
use super::security::{Security, TLS};
use crate::config::Config;
use crate::words;

pub(crate) use home::is_home;
pub(super) use late::LateLinks;

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
    stores: Stores,
    blobs: SharedBlobs,
    caches: Caches,
    chunks: Arc<ChunkCounters>,
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
        // For tests of clusters of two versions, see docs/decisions/0068; a release has no such thing.
        #[cfg(debug_assertions)]
        if std::env::var_os("WATCHFIRE_POSE_AS_NEXT").is_some_and(|value| value == "1") {
            catalog::pose_as_next();
        }
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
        // Before anybody hears of it: the others would take it in again.
        if let Some(why) = left_cluster(&*disk) {
            bail!("--data {}: {why}", config.data.display());
        }
        let (mut home, stores) = match known {
            Some(home) => starts::come_back(home, config, &*disk).await?,
            None => starts::begin_anew(config, &*disk).await?,
        };
        if home.stage == Stage::Joining {
            starts::join_by_token(&mut home, config, &*disk).await?;
        }
        if home.stage != Stage::Founding {
            starts::has_authority(&config.data)?;
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
        let (blobs, caches) = store::blobs(&stores.blocks, &home, config)?;
        let feed = CatalogFeed::new(home.broker());
        let (links, fault) = (Arc::new(LateLinks::default()), watch::Sender::new(None));
        let failed = fault.clone();
        let consensus = Consensus::start(
            Arc::clone(&disk),
            ConsensusConfig::new(home.broker().0, member.clone()),
            Arc::clone(&links) as Arc<_>,
            Arc::clone(&feed) as Arc<dyn Observer>,
            Arc::new(move |error: &Failure<'_>| fail(&failed, &error.to_string())),
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
        let known = consensus.status().members.into_iter();
        let others = known.filter(|(id, _)| *id != home.broker().0).map(|(_, (other, _))| other);
        membership::is_reachable(&member, others)?;
        Ok(Some(Clustered {
            home,
            disk,
            stores,
            blobs,
            caches,
            chunks: Arc::default(),
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
        Arc::new(CatalogCredentials::new(self.consensus.clone(), Handle::current()))
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
        // Whoever has a broker's certificate has the authority's key and could make any. Known before the first call: one
        // that starts at the same time would be told that its certificate is revoked, and end.
        security.peers().trust_brokers(true);
        security.peers().know_who_left(leaving::has_left(self.consensus.clone()));
        let port = PeerPort::serve(bound, config, security, routes)?;
        if self.home.stage == Stage::Founding {
            self.found().await?;
        }
        let identity = self.identity(config, security).await?;
        let links = self.links.set(broker::cluster::Links::new(&identity)?);
        if let Some(why) = leaving::refusal(&self.consensus, &links).await {
            bail!("--data {}: {why}", config.data.display());
        }
        let certificate = Arc::new(leaving::OwnCertificate {
            broker: self.home.broker(),
            identity: Arc::clone(&identity),
            peers: Arc::clone(security.peers()),
            consensus: self.consensus.clone(),
            links: Arc::clone(&links),
        });
        let (authority, peers) = (Arc::clone(security.authority()), Arc::clone(security.peers()));
        tokio::spawn(Arc::clone(&identity).keep_issuing(authority, Arc::clone(&peers)));
        tokio::spawn(credentials::cut_who_was_revoked_elsewhere(peers));
        let cluster = self.home.cluster().to_owned();
        tokio::spawn(keeping::keep(self.stores.clone(), cluster, self.consensus.clone()));
        if self.home.stage == Stage::Joining {
            self.look_before_joining(&links).await?;
        }
        self.become_member().await?;
        self.be_listed().await?;
        self.home.stage = Stage::Member;
        let known = Home::read(&config.data)?.unwrap_or_else(|| self.home.clone());
        self.home.with_segments_of(&known).write(&*self.disk)?;
        tokio::spawn(self.stay());
        let parts = ClusterParts {
            consensus: self.consensus.clone(),
            feed: Arc::clone(&self.feed),
            store: self.stores.shared(),
            segments: self.stores.segment_places()?,
            blobs: Arc::new(self.blobs.clone()),
            peers: links,
            disk: Arc::clone(&self.disk),
            work: Work::Threads,
            keep_flushed: KEEP_FLUSHED,
            background: Background::default(),
            on_fault: self.on_fault(),
        };
        let broker = Box::pin(Broker::open_clustered(parts, broker_config, metrics)).await?;
        broker.leaves_with(certificate);
        if self.caches.own.is_some() && config.cluster.share_cache {
            self.blobs.set_neighbours(Arc::new(OtherCaches {
                broker: broker.clone(),
                links: Arc::clone(&self.links),
                counters: Arc::clone(&self.chunks),
                silent: Arc::default(),
            }));
        }
        if self.home.store_segments() != known.store_segments() {
            self.home.write(&*self.disk)?;
        }
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

    /// What the stores did, and the cache before them.
    pub(super) fn page(&self) -> crate::metrics::Page {
        let (stores, caches) = (self.stores.clone(), self.caches.clone());
        let chunks = Arc::clone(&self.chunks);
        Box::new(move |out: &mut TextEncoder<'_>| {
            counts::render(&stores, &caches, out);
            chunks.render(out);
        })
    }

    /// What is told of the stores in the state of the cluster.
    pub(super) fn stores(&self) -> ReadStores {
        counts::of(&self.stores, &self.caches)
    }

    /// The way on which other brokers are asked how they are.
    pub(super) fn others(&self) -> Arc<dyn AskBroker> {
        Arc::clone(&self.links) as Arc<dyn AskBroker>
    }

    /// The way to the other brokers.
    pub(super) fn links(&self) -> Arc<LateLinks> {
        Arc::clone(&self.links)
    }

    /// `routes`, and what this broker's cache gives to others.
    pub(super) fn with_chunks(&self, routes: Routes, broker: &Broker) -> Routes {
        let own = self.home.broker().0;
        routes.add_service(OwnCache::service(own, broker, &self.blobs, &self.chunks))
    }

    /// The other brokers, for queries of which they compute parts.
    pub(super) fn workers(&self, broker: &Broker) -> Arc<dyn Workers> {
        let (own, links) = (self.home.broker().0, Arc::clone(&self.links));
        Arc::new(OtherBrokers { own, broker: broker.clone(), links })
    }

    /// One line for who starts it.
    pub(super) fn summary(&self) -> String {
        format!(
            "broker {} of cluster {}, at {}, data in {}",
            self.home.name,
            self.home.cluster(),
            self.member.address,
            self.stores.shown()
        )
    }

    /// Leaves when everything is answered.
    pub(super) async fn stop(self) {
        if self.consensus.hand_over().await {
            tracing::info!("another broker leads from now on");
        }
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
