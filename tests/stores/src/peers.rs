//! The programs that are asked: moto for S3, `redis-server` alone and as a cluster.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::Scratch;

/// How long a program may take to answer on a slow, busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// A program that ends with the test.
pub(crate) struct Peer {
    child: Child,
    pub(crate) port: u16,
}

impl Peer {
    fn start(scratch: &Scratch, name: &str, port: u16, mut command: Command) -> Result<Peer> {
        let log = std::fs::File::create(scratch.join(&format!("{name}.log")))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("start {name}; is it installed?"))?;
        let mut peer = Peer { child, port };
        let begin = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Some(status) = peer.child.try_wait()? {
                bail!("{name} ended with {status}");
            }
            ensure!(begin.elapsed() < START_TIMEOUT, "{name} does not answer");
            std::thread::sleep(POLL);
        }
        Ok(peer)
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.child.id().cast_signed()).context("a process has a number")?;
        kill_process(pid, signal).context("send a signal")
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Fails when it was killed before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ports that nobody used a moment ago.
pub(crate) fn free_ports(count: usize) -> Result<Vec<u16>> {
    let listeners: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

/// An authority, and a certificate of it for 127.0.0.1 with its key: `ca.pem`, `cert.pem`, `key.pem`.
pub(crate) fn certificates(scratch: &Scratch) -> Result<()> {
    std::fs::write(scratch.join("san.cnf"), "subjectAltName=IP:127.0.0.1\n")?;
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let commands: [Vec<&str>; 3] = [
        [&["req", "-x509", "-days", "2", "-subj", "/CN=ca", "-keyout", "ca-key.pem"], &key[..]]
            .concat(),
        [&["req", "-subj", "/CN=store", "-keyout", "key.pem", "-out", "request.pem"], &key[..]]
            .concat(),
        [
            "x509",
            "-req",
            "-days",
            "2",
            "-in",
            "request.pem",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca-key.pem",
        ]
        .into_iter()
        .chain(["-CAcreateserial", "-extfile", "san.cnf", "-out", "cert.pem"])
        .collect(),
    ];
    for (index, mut arguments) in commands.into_iter().enumerate() {
        if index == 0 {
            arguments.extend(["-out", "ca.pem"]);
        }
        let output =
            Command::new("openssl").args(arguments).current_dir(scratch.path()).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// moto, an S3 in memory, with the bucket `bucket`.
pub(crate) fn moto(scratch: &Scratch, environment: &[(&str, &str)]) -> Result<Peer> {
    moto_with(scratch, environment, &[])
}

/// As [`moto`], with more arguments.
pub(crate) fn moto_with(
    scratch: &Scratch,
    environment: &[(&str, &str)],
    more: &[&str],
) -> Result<Peer> {
    let own = std::env::current_exe().context("find this program")?;
    let target = own.ancestors().nth(2).context("this program lies in no target")?;
    let port = free_ports(1)?[0];
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
    command.args(more).current_dir(scratch.path());
    command.env("PYTHONPATH", target.join("python-packages"));
    command.envs(environment.iter().copied());
    let peer = Peer::start(scratch, "moto", port, command)?;
    let scheme = if more.is_empty() { "http" } else { "https" };
    let bucket = format!("{scheme}://127.0.0.1:{port}/bucket");
    let made = Command::new("curl").args(["-ksS", "-f", "-X", "PUT", &bucket]).output()?;
    let is_open = environment.is_empty();
    ensure!(made.status.success() || !is_open, "{}", String::from_utf8_lossy(&made.stderr));
    Ok(peer)
}

/// The password of every Redis that asks for one.
pub(crate) const PASSWORD: &str = "canary";

/// A Redis that keeps nothing on disk, with more arguments.
pub(crate) fn redis(scratch: &Scratch, name: &str, port: u16, more: &[&str]) -> Result<Peer> {
    let directory: PathBuf = scratch.join(name);
    std::fs::create_dir_all(&directory)?;
    let port_text = port.to_string();
    let mut command = Command::new("/usr/bin/redis-server");
    if !more.contains(&"--tls-port") {
        command.args(["--port", &port_text]);
    }
    command.args(["--bind", "127.0.0.1", "--save", "", "--dir"]);
    command.arg(&directory).args(more);
    Peer::start(scratch, name, port, command)
}

/// What `redis-cli` prints, without the end of the line.
pub(crate) fn redis_cli(port: u16, arguments: &[&str]) -> Result<String> {
    let output = Command::new("/usr/bin/redis-cli")
        .env("REDISCLI_AUTH", PASSWORD)
        .args(["-h", "127.0.0.1", "-p", &port.to_string()])
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
    bus_ports: Vec<u16>,
}

fn cluster_node(scratch: &Scratch, port: u16, bus_port: u16) -> Result<Peer> {
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
    redis(scratch, &format!("redis-{port}"), port, &cluster)
}

impl RedisCluster {
    pub(crate) fn start(scratch: &Scratch) -> Result<RedisCluster> {
        let ports = free_ports(12)?;
        let (ports, bus_ports) = ports.split_at(6);
        let mut nodes = Vec::new();
        for (port, bus) in ports.iter().zip(bus_ports) {
            nodes.push(cluster_node(scratch, *port, *bus)?);
        }
        let addresses: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let mut arguments = vec!["--cluster", "create"];
        arguments.extend(addresses.iter().map(String::as_str));
        arguments.extend(["--cluster-replicas", "1", "--cluster-yes"]);
        redis_cli(ports[0], &arguments)?;
        let cluster = RedisCluster { nodes, bus_ports: bus_ports.to_vec() };
        let begin = Instant::now();
        while !cluster.is_whole()? {
            ensure!(begin.elapsed() < START_TIMEOUT, "the cluster does not come up");
            std::thread::sleep(POLL);
        }
        Ok(cluster)
    }

    fn is_whole(&self) -> Result<bool> {
        for node in &self.nodes {
            let info = redis_cli(node.port, &["cluster", "info"])?;
            let replication = redis_cli(node.port, &["info", "replication"])?;
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
        let port = self.nodes[index].port;
        self.nodes[index] = cluster_node(scratch, port, self.bus_ports[index])?;
        Ok(())
    }

    /// The place among the nodes of one that is a primary now.
    pub(crate) fn primary(&self) -> Result<usize> {
        for (index, node) in self.nodes.iter().enumerate() {
            if redis_cli(node.port, &["role"]).is_ok_and(|role| role.starts_with("master")) {
                return Ok(index);
            }
        }
        bail!("no node is a primary")
    }

    /// The first two nodes are enough to find the others.
    pub(crate) fn url(&self, rest: &str) -> String {
        let (a, b) = (self.nodes[0].port, self.nodes[5].port);
        format!("redis+cluster://127.0.0.1:{a},127.0.0.1:{b}/{rest}")
    }
}
