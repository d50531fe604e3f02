//! `redis-server`, alone and as a cluster.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::peer::{Host, POLL, Peer, START_TIMEOUT};
use super::ports::free_ports;
use crate::harness::Scratch;

/// The password of every Redis that asks for one.
pub(crate) const PASSWORD: &str = "canary";

/// A Redis that keeps nothing on disk, with more arguments.
pub(crate) fn redis(
    scratch: &Scratch,
    host: &Host,
    name: &str,
    port: u16,
    more: &[&str],
) -> Result<Peer> {
    let directory = scratch.join(name);
    std::fs::create_dir_all(&directory)?;
    let (port_text, address_text) = (port.to_string(), host.address.to_string());
    let mut command = host.command("/usr/bin/redis-server");
    if !more.contains(&"--tls-port") {
        command.args(["--port", &port_text]);
    }
    command.args(["--bind", &address_text, "--save", "", "--dir"]);
    command.arg(&directory).args(more);
    Peer::start(scratch, name, SocketAddr::new(host.address, port), command)
}

/// What `redis-cli` prints, without the end of the line.
pub(crate) fn redis_cli(at: SocketAddr, arguments: &[&str]) -> Result<String> {
    let output = Command::new("/usr/bin/redis-cli")
        .env("REDISCLI_AUTH", PASSWORD)
        .args(["-h", &at.ip().to_string(), "-p", &at.port().to_string()])
        .args(arguments)
        .output()
        .context("start redis-cli")?;
    let told = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    ensure!(output.status.success(), "redis-cli {arguments:?}: {told}");
    Ok(told)
}

/// Three primaries with a replica each.
pub(crate) struct RedisCluster {
    pub(crate) nodes: Vec<Peer>,
    places: Vec<(Host, u16)>,
}

fn cluster_node(scratch: &Scratch, host: &Host, port: u16, bus_port: u16) -> Result<Peer> {
    let bus_port = bus_port.to_string();
    let cluster = [
        "--cluster-enabled",
        "yes",
        "--cluster-port",
        &bus_port,
        "--cluster-node-timeout",
        "1500",
        "--repl-diskless-sync-delay",
        "0",
        "--requirepass",
        PASSWORD,
        "--masterauth",
        PASSWORD,
    ];
    redis(scratch, host, &format!("redis-{port}"), port, &cluster)
}

impl RedisCluster {
    /// All nodes on this host.
    pub(crate) fn start(scratch: &Scratch) -> Result<RedisCluster> {
        Self::start_at(scratch, &[Host::here()])
    }

    /// Each node on one of `hosts`; the first host has one primary alone if there are several.
    pub(crate) fn start_at(scratch: &Scratch, hosts: &[Host]) -> Result<RedisCluster> {
        let ports = free_ports(12)?;
        let (ports, bus_ports) = ports.split_at(6);
        let host = |node: usize| hosts.get(node.min(hosts.len() - 1)).cloned();
        let mut cluster = RedisCluster { nodes: Vec::new(), places: Vec::new() };
        for (node, (port, bus)) in ports.iter().zip(bus_ports).enumerate() {
            let host = host(node).context("a host")?;
            cluster.nodes.push(cluster_node(scratch, &host, *port, *bus)?);
            cluster.places.push((host, *bus));
        }
        let addresses: Vec<String> =
            cluster.nodes.iter().map(|node| node.address.to_string()).collect();
        let mut arguments = vec!["--cluster", "create"];
        arguments.extend(addresses.iter().map(String::as_str));
        arguments.extend(["--cluster-replicas", "1", "--cluster-yes"]);
        redis_cli(cluster.nodes[0].address, &arguments)?;
        let begin = Instant::now();
        while !cluster.is_whole()? {
            ensure!(begin.elapsed() < START_TIMEOUT, "the cluster does not come up");
            std::thread::sleep(POLL);
        }
        Ok(cluster)
    }

    /// Whether each node sees all slots served, and each primary has its replica.
    pub(crate) fn is_whole(&self) -> Result<bool> {
        for node in &self.nodes {
            let info = redis_cli(node.address, &["cluster", "info"])?;
            let replication = redis_cli(node.address, &["info", "replication"])?;
            let is_linked = replication.contains("connected_slaves:1")
                || replication.contains("master_link_status:up");
            if !info.contains("cluster_state:ok") || !is_linked {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Starts a node that was killed.
    pub(crate) fn restart(&mut self, scratch: &Scratch, index: usize) -> Result<()> {
        let port = self.nodes[index].port();
        let (host, bus_port) = &self.places[index];
        self.nodes[index] = cluster_node(scratch, host, port, *bus_port)?;
        Ok(())
    }

    /// The place among the nodes of one that is a primary now.
    pub(crate) fn primary(&self) -> Result<usize> {
        let found = (0..self.nodes.len()).find(|&index| self.is_primary(index));
        found.context("no node is a primary")
    }

    /// Whether that node takes itself for a primary.
    pub(crate) fn is_primary(&self, index: usize) -> bool {
        let role = redis_cli(self.nodes[index].address, &["role"]);
        role.is_ok_and(|role| role.starts_with("master"))
    }

    /// Two nodes are enough to find the others.
    pub(crate) fn url(&self, rest: &str) -> String {
        let (a, b) = (self.nodes[0].address, self.nodes[5].address);
        format!("redis+cluster://{a},{b}/{rest}")
    }
}
