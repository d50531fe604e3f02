//! The agent tier: collectors, pipeline, spool and the way to a broker, as one thing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use blockstore::FileDisk;
use net::Identity;
use net::rpc::Hello;

use crate::clock::Now;
use crate::config::AgentConfig;
use crate::counters::CounterRow;
use crate::error::AgentError;
use crate::host::HostAgent;
use crate::logs::collector::Collector;
use crate::logs::line_spool::LineSpool;
use crate::logs::position::Positions;
use crate::logs::{self, CollectionStatus, LogsConfig};
use crate::pipeline::{Pipeline, PipelineCounters, PipelineSender, Scraped};
use crate::queue::Bell;
use crate::ship::{LineShipping, Link, LinkSettings, ShipCounters, Shipping};
use crate::spool::{Spool, SpoolConfig, SpoolCounters};
use crate::status::{StatusSources, TargetCounts};
use crate::windows::{Windows, WindowsConfig};

const THREAD_NAME: &str = "agent-pipeline";

/// What the agent tier is told.
#[derive(Debug, Clone)]
pub struct TierConfig {
    /// How this host is collected; nothing if only targets are scraped.
    pub host: Option<AgentConfig>,
    /// Where the spool lies, usually `<data>/spool`; one process at a time.
    pub spool_directory: PathBuf,
    /// How large it may become.
    pub spool: SpoolConfig,
    /// Which lines are collected; `None` for none.
    pub logs: Option<LogsConfig>,
    /// What is made of series before they are shipped.
    pub windows: WindowsConfig,
    /// Brokers as `HOST:PORT`; each agent prefers one of them and turns to the next when that one
    /// does not answer.
    pub brokers: Vec<String>,
    /// Labels of the agent in the fleet's table.
    pub labels: BTreeMap<String, String>,
    /// The program's version.
    pub version: String,
    /// First 16 hexadecimal digits of the configuration's hash.
    pub config_hash: String,
}

/// A running agent. Dropping it stops it without waiting for acknowledgements.
pub struct Agent {
    host: Option<HostAgent>,
    sender: PipelineSender,
    bell: Bell,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    spool: Arc<SpoolCounters>,
    ship: Arc<ShipCounters>,
    pipeline: Arc<PipelineCounters>,
    targets: Arc<TargetCounts>,
    collector: Option<Collector>,
    collection: Option<Arc<CollectionStatus>>,
}

impl Agent {
    /// Starts everything. Collecting and spooling begin at once, whether a broker answers or not.
    /// Opening the spool takes about a second per gigabyte in it.
    ///
    /// # Errors
    /// A wrong configuration, a spool that is in use or was written by a newer program, no thread.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(config: TierConfig, identity: &Arc<Identity>) -> Result<Agent, AgentError> {
        if config.brokers.is_empty() {
            return Err(AgentError::OutOfRange { key: "brokers", value: 0, min: 1, max: 64 });
        }
        let tls = identity.tls().map_err(AgentError::Tls)?;
        let random = Random::draw()?;
        let windows = Windows::new(&config.windows, random.seed)?;
        let disk = Arc::new(FileDisk::open(&config.spool_directory)?);
        let spool_counters = Arc::new(SpoolCounters::default());
        let spool = Arc::clone(&spool_counters);
        let spool = Spool::open(disk, config.spool.clone(), random.incarnation, spool)?;
        let ship_counters = Arc::new(ShipCounters::default());
        let now = Now::get();
        let shipping = Shipping::new(spool, random.seed, Arc::clone(&ship_counters), now);
        let (bell, heard) = Bell::new();
        let lines = config.logs.clone().map(|logs| Lines::open(logs, bell.clone())).transpose()?;
        let (shipping, lines) = match lines {
            None => (shipping, None),
            Some((of_shipping, lines)) => (shipping.with_lines(Some(of_shipping)), Some(lines)),
        };
        let settings = LinkSettings {
            brokers: config.brokers.clone(),
            identity: Arc::clone(identity),
            tls,
            hello: hello(&config, &shipping, now),
            seed: random.seed,
        };
        let (link, events) = Link::new(settings, bell.clone(), Arc::clone(&ship_counters));
        let (sender, scraped) = Scraped::new(bell.clone(), random.seed);
        let host = config.host.map(|host| HostAgent::start_ringing(host, bell.clone()));
        let (host, ring) = host.transpose()?.unzip();
        let targets = Arc::new(TargetCounts::default());
        let counters = Arc::new(PipelineCounters::default());
        let stop = Arc::new(AtomicBool::new(false));
        let pipeline = Pipeline {
            shipping,
            events,
            host: ring,
            scraped,
            windows,
            heard,
            stop: Arc::clone(&stop),
            status: StatusSources {
                host: host.as_ref().map(|host| Arc::clone(host.counters())),
                spool: Arc::clone(&spool_counters),
                ship: Arc::clone(&ship_counters),
                targets: Arc::clone(&targets),
                offered_samples: 0,
                oversized_samples: 0,
            },
            counters: Arc::clone(&counters),
        };
        let thread = thread::Builder::new()
            .name(THREAD_NAME.to_owned())
            .spawn(move || pipeline.run())
            .map_err(|source| AgentError::Thread { name: THREAD_NAME, source })?;
        tokio::spawn(link.run());
        let collection = lines.as_ref().map(|lines| Arc::clone(&lines.status));
        let collector = lines.map(Lines::start).transpose()?;
        Ok(Agent {
            host,
            sender,
            bell,
            stop,
            thread: Some(thread),
            spool: spool_counters,
            ship: ship_counters,
            pipeline: counters,
            targets,
            collector,
            collection,
        })
    }

    /// Where scraped batches go.
    pub fn sender(&self) -> &PipelineSender {
        &self.sender
    }

    /// Where the scraper says how its targets are.
    pub fn targets(&self) -> &Arc<TargetCounts> {
        &self.targets
    }

    /// The collectors of this host, if it is collected.
    pub fn host(&self) -> Option<&HostAgent> {
        self.host.as_ref()
    }

    /// Counters of the way to the broker.
    pub fn ship_counters(&self) -> &Arc<ShipCounters> {
        &self.ship
    }

    /// Counters of the spool.
    pub fn spool_counters(&self) -> &Arc<SpoolCounters> {
        &self.spool
    }

    /// How collecting lines goes, if there is any.
    pub fn collection(&self) -> Option<&Arc<CollectionStatus>> {
        self.collection.as_ref()
    }

    /// Everything the agent counts about itself, for `/metrics`.
    pub fn rows(&self) -> Vec<CounterRow> {
        let mut rows = self.host.as_ref().map_or_else(Vec::new, |host| host.counters().rows());
        rows.extend(self.pipeline.rows());
        rows.extend(self.spool.rows());
        rows.extend(self.ship.rows());
        rows.extend(self.collection.iter().flat_map(|collection| collection.rows()));
        rows
    }

    /// Stops collecting, keeps what was collected, and waits up to two seconds until a broker has
    /// it all. What is left is sent after the next start. Blocks.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // The collectors first, so that their last pass is in the queue.
        self.host = None;
        self.collector = None;
        self.stop.store(true, Ordering::Release);
        self.bell.ring();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the agent's pipeline panicked; what it had not spooled is lost");
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.end();
    }
}

/// Collecting lines, before it begins.
struct Lines {
    config: LogsConfig,
    spool: Arc<LineSpool>,
    positions: Positions,
    status: Arc<CollectionStatus>,
    counters: Arc<SpoolCounters>,
    bell: Bell,
}

impl Lines {
    fn open(config: LogsConfig, bell: Bell) -> Result<(LineShipping, Lines), AgentError> {
        let counters = Arc::new(SpoolCounters::default());
        let (spool, positions) = logs::open_spool(&config, Arc::clone(&counters))?;
        let status = Arc::new(CollectionStatus::default());
        let shipping = LineShipping::new(Arc::clone(&spool), Arc::clone(&status));
        Ok((shipping, Lines { config, spool, positions, status, counters, bell }))
    }

    fn start(self) -> Result<Collector, AgentError> {
        let Lines { config, spool, positions, status, counters, bell } = self;
        Collector::start(config, spool, positions, status, counters, Box::new(move || bell.ring()))
    }
}

fn hello(config: &TierConfig, shipping: &Shipping, now: Now) -> Hello {
    let lines = shipping.lines_incarnation().map(|incarnation| incarnation.to_vec());
    Hello {
        incarnation: shipping.incarnation().to_vec().into(),
        version: config.version.clone(),
        hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        started_ms: now.wall_ms,
        labels: config.labels.clone().into_iter().collect(),
        config_hash: config.config_hash.clone(),
        lines_incarnation: lines.unwrap_or_default().into(),
    }
}

/// A name for a spool that is new.
///
/// # Errors
/// No random numbers.
pub(crate) fn random_incarnation() -> Result<[u8; 16], AgentError> {
    Random::draw().map(|random| random.incarnation)
}

/// What must differ between hosts and starts.
struct Random {
    incarnation: [u8; 16],
    seed: u64,
}

impl Random {
    fn draw() -> Result<Random, AgentError> {
        let (mut incarnation, mut seed) = ([0; 16], [0; 8]);
        getrandom::fill(&mut incarnation)
            .and_then(|()| getrandom::fill(&mut seed))
            .map_err(|error| AgentError::Random(error.to_string()))?;
        Ok(Random { incarnation, seed: u64::from_le_bytes(seed) })
    }
}
