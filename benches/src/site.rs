//! A cluster under test: brokers over one store, all on this machine.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::http::Client;
use crate::server::{Kind, Server, Setup, free_address};
use crate::stores::{Store, StoreKind};

/// Until as many vote as will.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);
/// With so many brokers so many vote.
const VOTERS: usize = 3;

/// Distinguishes the prefixes of clusters over one store.
static FOUNDED: AtomicUsize = AtomicUsize::new(0);

/// Running brokers. Dropping it ends them, then the store.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) servers: Vec<Server>,
    pub(crate) store: Option<Store>,
}

impl Site {
    /// One machine with its log and no store beside it.
    pub(crate) fn one_machine(setup: impl Into<Setup>) -> Result<Site> {
        Ok(Site { servers: vec![Server::start(Kind::Watchfire, setup)?], store: None })
    }

    /// Founds a cluster and lets the others join, as docs/operating/cluster.md says. All are started as
    /// `setup` says, and each has a port for peers.
    pub(crate) fn start(brokers: usize, kind: &StoreKind, setup: &Setup) -> Result<Site> {
        let store = Store::start(kind).with_context(|| format!("start {}", kind.name()))?;
        let number = FOUNDED.fetch_add(1, Ordering::Relaxed);
        let url = store.below(&format!("cluster-{}-{number}", std::process::id()));
        let mut servers: Vec<Server> = Vec::new();
        let founder = free_address()?;
        for number in 0..brokers {
            let peers = if number == 0 { founder } else { free_address()? };
            let mut setup = Setup { peer_listen: Some(peers), ..setup.clone() };
            setup.environment.extend(store.environment());
            setup.arguments.extend(store.arguments());
            setup.arguments.extend(["--store".to_owned(), url.clone()]);
            setup.arguments.extend(["--name".to_owned(), format!("broker-{}", number + 1)]);
            if let Some(first) = servers.first() {
                let token = first.broker_token()?;
                setup.arguments.extend(["--join".to_owned(), founder.to_string()]);
                setup.arguments.extend(["--join-token".to_owned(), token]);
            }
            servers.push(Server::start(Kind::Watchfire, setup).context("start a broker")?);
        }
        let site = Site { servers, store: Some(store) };
        let started = Instant::now();
        while brokers >= VOTERS && site.voters()? < VOTERS {
            ensure!(started.elapsed() < PATIENCE, "fewer than {VOTERS} brokers vote");
            sleep(POLL);
        }
        Ok(site)
    }

    fn voters(&self) -> Result<usize> {
        let body = self.servers[0].client()?.get("/api/v1/status/cluster")?.successful()?;
        let answer: serde_json::Value = serde_json::from_slice(&body)?;
        let voters =
            answer["data"]["consensus"]["voters"].as_u64().context("no number of voters")?;
        Ok(usize::try_from(voters)?)
    }

    /// Where agents reach each broker.
    pub(crate) fn peers(&self) -> Vec<SocketAddr> {
        self.servers.iter().filter_map(Server::peers).collect()
    }

    /// CPU seconds of all brokers, without what the store needs.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        self.servers.iter().map(Server::cpu_seconds).sum()
    }

    /// Memory of all brokers now.
    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        self.servers.iter().map(|server| Ok(server.memory()?.now_bytes)).sum()
    }

    /// … and of each at its highest, in their order.
    pub(crate) fn peaks(&self) -> Result<Vec<u64>> {
        self.servers.iter().map(|server| Ok(server.memory()?.peak_bytes)).collect()
    }

    /// A metric without labels, summed over all brokers.
    pub(crate) fn metric(&self, series: &str) -> Result<f64> {
        self.servers.iter().map(|server| server.metric(series)).sum()
    }

    pub(crate) fn wait_quiet(&self) -> Result<()> {
        std::thread::scope(|scope| {
            let waiting: Vec<_> =
                self.servers.iter().map(|server| scope.spawn(|| server.wait_quiet())).collect();
            waiting.into_iter().try_for_each(|one| one.join().expect("waiting returns its errors"))
        })
    }

    /// What the store was asked for by all; `None` on one machine.
    pub(crate) fn bill(&self) -> Result<Option<Bill>> {
        if self.store.is_none() {
            return Ok(None);
        }
        let mut bill = Bill::default();
        for server in &self.servers {
            bill.add(&mut server.client()?)?;
        }
        Ok(Some(bill))
    }
}

/// Requests to the store and bytes that were written to it and read from it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bill {
    /// What S3 bills as PUT: writes, parts of writes, listings.
    pub(crate) puts: f64,
    /// What it bills as GET.
    pub(crate) gets: f64,
    pub(crate) put_bytes: f64,
    pub(crate) get_bytes: f64,
}

/// Prices of S3 in us-east-1, US dollars: <https://aws.amazon.com/s3/pricing/>.
pub(crate) const PRICE_PUT: f64 = 0.005 / 1_000.0;
pub(crate) const PRICE_GET: f64 = 0.000_4 / 1_000.0;
pub(crate) const PRICE_GB_MONTH: f64 = 0.023;

impl Bill {
    /// What one broker counted since its start.
    fn add(&mut self, client: &mut Client) -> Result<()> {
        let page = String::from_utf8(client.get("/metrics")?.successful()?);
        let page = page.context("/metrics is text")?;
        let sum = |name: &str, operations: &[&str]| -> f64 {
            let is_of = |line: &&str| {
                line.starts_with(name)
                    && line.contains("store=\"truth\"")
                    && operations.iter().any(|one| line.contains(&format!("operation=\"{one}\"")))
            };
            let value = |line: &str| line.rsplit(' ').next()?.parse::<f64>().ok();
            page.lines().filter(is_of).filter_map(value).sum()
        };
        self.puts += sum("watchfire_objects_requests_total{", &["put", "put_part", "list"]);
        self.gets += sum("watchfire_objects_requests_total{", &["get", "get_range", "head"]);
        self.put_bytes += sum("watchfire_objects_bytes_total{", &["put", "put_part"]);
        self.get_bytes += sum("watchfire_objects_bytes_total{", &["get", "get_range"]);
        Ok(())
    }

    pub(crate) fn since(self, before: Bill) -> Bill {
        Bill {
            puts: self.puts - before.puts,
            gets: self.gets - before.gets,
            put_bytes: self.put_bytes - before.put_bytes,
            get_bytes: self.get_bytes - before.get_bytes,
        }
    }

    /// US dollars for the requests.
    pub(crate) fn dollars(self) -> f64 {
        self.puts * PRICE_PUT + self.gets * PRICE_GET
    }
}
