//! Stores for clusters under test: a directory, one that is named by its URL, or a program of this
//! machine that is started for the run. Such a program shares the cores with the brokers.

use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::http::Client;
use crate::program::Program;
use crate::server::free_address;

/// A start takes at most this long.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
/// Nodes of a Redis Cluster: three primaries, each with a replica.
const REDIS_NODES: usize = 6;

/// Where a cluster keeps its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StoreKind {
    /// A directory of this machine.
    File,
    /// moto's S3, in memory.
    Moto,
    /// One Redis, in memory.
    Redis,
    /// Three Redis with a replica each, in memory.
    RedisCluster,
    /// The prefix of a store that runs; the credentials are those of the environment.
    Url(String),
}

impl std::str::FromStr for StoreKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "file" => StoreKind::File,
            "moto" => StoreKind::Moto,
            "redis" => StoreKind::Redis,
            "redis-cluster" => StoreKind::RedisCluster,
            url if url.contains("://") => StoreKind::Url(url.to_owned()),
            _ => return Err("neither file, moto, redis, redis-cluster nor a URL".to_owned()),
        })
    }
}

impl StoreKind {
    /// As it stands in tables.
    pub(crate) fn name(&self) -> &str {
        match self {
            StoreKind::File => "file",
            StoreKind::Moto => "moto",
            StoreKind::Redis => "redis",
            StoreKind::RedisCluster => "redis-cluster",
            StoreKind::Url(url) => url.split_once("://").map_or("url", |(scheme, _)| scheme),
        }
    }
}

/// A store that can be used. Dropping it ends what was started for it.
#[derive(Debug)]
pub(crate) struct Store {
    url: String,
    programs: Vec<Program>,
    _directory: TempDir,
}

impl Store {
    /// Starts what there is to start.
    pub(crate) fn start(kind: &StoreKind) -> Result<Store> {
        let directory = tempfile::Builder::new().prefix("watchfire-bench-").tempdir()?;
        let (url, programs) = match kind {
            StoreKind::File => (format!("file://{}", directory.path().display()), Vec::new()),
            StoreKind::Url(url) => (url.clone(), Vec::new()),
            StoreKind::Moto => moto(directory.path())?,
            StoreKind::Redis => {
                let port = free_address()?.port();
                let node = redis(directory.path(), port, &[])?;
                (format!("redis://127.0.0.1:{port}/bench"), vec![node])
            }
            StoreKind::RedisCluster => redis_cluster(directory.path())?,
        };
        Ok(Store { url, programs, _directory: directory })
    }

    /// A prefix of its own, before what stands behind `?`.
    pub(crate) fn below(&self, own: &str) -> String {
        match self.url.split_once('?') {
            Some((path, query)) => format!("{}/{own}?{query}", path.trim_end_matches('/')),
            None => format!("{}/{own}", self.url.trim_end_matches('/')),
        }
    }

    /// What brokers need to use it, on their command line.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let is_weak = self.url.starts_with("redis");
        is_weak.then(|| "--accept-weaker-durability".to_owned()).into_iter().collect()
    }

    /// … and in their environment.
    pub(crate) fn environment(&self) -> Vec<(&'static str, &'static str)> {
        // moto takes anything.
        let is_ours = self.url.starts_with("s3://") && !self.programs.is_empty();
        let moto = [("AWS_ACCESS_KEY_ID", "bench"), ("AWS_SECRET_ACCESS_KEY", "bench")];
        is_ours.then_some(moto).into_iter().flatten().collect()
    }

    /// CPU seconds of what was started for it.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        self.programs.iter().map(Program::cpu_seconds).sum()
    }
}

fn moto(directory: &Path) -> Result<(String, Vec<Program>)> {
    let own = std::env::current_exe().context("find this program")?;
    let target = own.ancestors().nth(2).context("this program lies in no target")?;
    let address = free_address()?;
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &address.port().to_string()]);
    // `cargo xtask test` puts it there.
    command.env("PYTHONPATH", target.join("python-packages"));
    let mut program = Program::start(command, &directory.join("moto.log"))?;
    let make_bucket = || {
        let answer = Client::connect(address).and_then(|mut client| client.put("/bench"));
        answer.is_ok_and(|answer| answer.status == 200)
    };
    program.wait_until(make_bucket).context("is moto[s3,server] installed?")?;
    Ok((format!("s3://bench/x?endpoint=http://{address}"), vec![program]))
}

fn redis(directory: &Path, port: u16, more: &[&str]) -> Result<Program> {
    let own = directory.join(port.to_string());
    std::fs::create_dir_all(&own)?;
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"]);
    command.arg(&own).args(more);
    let mut program = Program::start(command, &own.join("log.txt"))?;
    program.wait_until(|| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok())?;
    Ok(program)
}

fn redis_cluster(directory: &Path) -> Result<(String, Vec<Program>)> {
    let mut ports = Vec::new();
    let mut programs = Vec::new();
    for _ in 0..REDIS_NODES {
        let (port, bus) = (free_address()?.port(), free_address()?.port().to_string());
        let more = ["--cluster-enabled", "yes", "--cluster-port", &bus];
        programs.push(redis(directory, port, &more)?);
        ports.push(port);
    }
    let addresses = ports.iter().map(|port| format!("127.0.0.1:{port}"));
    let mut create = Command::new("redis-cli");
    create.args(["--cluster", "create"]).args(addresses);
    let made = create.args(["--cluster-replicas", "1", "--cluster-yes"]).output();
    let made = made.context("start redis-cli")?;
    ensure!(made.status.success(), "redis-cli: {}", String::from_utf8_lossy(&made.stdout));
    let started = Instant::now();
    for &port in &ports {
        while !is_whole(port)? {
            if started.elapsed() > PATIENCE {
                bail!("the Redis Cluster does not come up");
            }
            sleep(POLL);
        }
    }
    let url = format!("redis+cluster://127.0.0.1:{},127.0.0.1:{}/bench", ports[0], ports[1]);
    Ok((url, programs))
}

/// Whether a node finds all slots served, and its replica or primary beside it.
fn is_whole(port: u16) -> Result<bool> {
    let ask = |words: &[&str]| -> Result<String> {
        let mut command = Command::new("redis-cli");
        let output = command.args(["-p", &port.to_string()]).args(words).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let replication = ask(&["info", "replication"])?;
    let is_linked =
        replication.contains("connected_slaves:1") || replication.contains("master_link_status:up");
    Ok(is_linked && ask(&["cluster", "info"])?.contains("cluster_state:ok"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cluster_has_a_prefix_of_its_own() {
        let below = |url: &str| {
            let kind = StoreKind::Url(url.to_owned());
            Store::start(&kind).expect("nothing to start").below("own")
        };
        assert_eq!(below("s3://b/x/?endpoint=http://h"), "s3://b/x/own?endpoint=http://h");
        assert_eq!(below("file:///srv/x"), "file:///srv/x/own");
    }

    #[test]
    fn a_store_is_named_by_its_kind_or_url() {
        assert_eq!("moto".parse(), Ok(StoreKind::Moto));
        assert_eq!("gs://b/p".parse(), Ok(StoreKind::Url("gs://b/p".to_owned())));
        assert!("disk".parse::<StoreKind>().is_err());
    }
}
