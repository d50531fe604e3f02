//! Hosts of a network of their own, as namespaces of this one's kernel: each has a link to the
//! others, which can be cut, slowed and broken, and one for the test's requests, which is left alone.

use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Namespaces, joined by two bridges. All of it goes when this is dropped.
pub(crate) struct Network {
    /// In the names of everything that was made: other tests may run beside this one.
    tag: u32,
    hosts: u8,
}

/// The nftables table of all faults.
const TABLE: &str = "inet watchfire_faults";

impl Network {
    /// # Errors
    /// No root, no `ip`, or a kernel without namespaces, bridges or virtual links.
    pub(crate) fn new(hosts: u8) -> Result<Self> {
        let network = Network { tag: std::process::id() % 100_000, hosts };
        let tag = network.tag;
        for (bridge, address) in [("p", network.peers(254)), ("r", network.requests(254))] {
            ip(&format!("link add wf{bridge}{tag} type bridge"))?;
            ip(&format!("address add {address}/24 dev wf{bridge}{tag}"))?;
            ip(&format!("link set wf{bridge}{tag} up"))?;
        }
        for host in 0..hosts {
            let space = network.space(host);
            ip(&format!("netns add {space}"))?;
            for (bridge, device, address) in
                [("p", "peers", network.peers(host)), ("r", "requests", network.requests(host))]
            {
                let outer = format!("wf{bridge}{host}-{tag}");
                ip(&format!("link add {outer} type veth peer name {device} netns {space}"))?;
                ip(&format!("link set {outer} master wf{bridge}{tag} up"))?;
                ip(&format!("-n {space} address add {address}/24 dev {device}"))?;
                ip(&format!("-n {space} link set {device} up"))?;
            }
            ip(&format!("-n {space} link set lo up"))?;
        }
        Ok(network)
    }

    fn space(&self, host: u8) -> String {
        format!("wf{host}-{}", self.tag)
    }

    /// A second octet that is this process's own among the tests of a machine.
    fn octet(&self) -> u8 {
        (64 + self.tag % 128) as u8
    }

    /// Where the others reach a host; 254 is the machine itself.
    pub(crate) fn peers(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self.octet(), 1, if host == 254 { 254 } else { host + 1 })
    }

    /// Where the test reaches a host, whatever fault there is.
    pub(crate) fn requests(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self.octet(), 2, if host == 254 { 254 } else { host + 1 })
    }

    /// The words before a command that is to run on a host.
    pub(crate) fn on(&self, host: u8) -> Vec<String> {
        ["ip", "netns", "exec", &self.space(host)].map(str::to_owned).to_vec()
    }

    /// Nothing that `from` sends reaches `to`.
    pub(crate) fn cut_one_way(&self, from: u8, to: u8) -> Result<()> {
        self.rule(from, &format!("ip daddr {} drop", self.peers(to)))
    }

    /// Neither reaches the other.
    pub(crate) fn cut(&self, one: u8, other: u8) -> Result<()> {
        self.cut_one_way(one, other)?;
        self.cut_one_way(other, one)
    }

    /// Neither a host nor any other reaches the other.
    pub(crate) fn isolate(&self, host: u8) -> Result<()> {
        (0..self.hosts).filter(|&other| other != host).try_for_each(|other| self.cut(host, other))
    }

    /// Of what a host sends to others, so many in a hundred packets are lost.
    pub(crate) fn lose(&self, host: u8, percent: u8) -> Result<()> {
        self.rule(host, &format!("oifname peers numgen random mod 100 < {percent} drop"))
    }

    /// Each connection to or from a host is answered with a reset, the open ones as well.
    pub(crate) fn reset(&self, host: u8) -> Result<()> {
        self.rule(host, "oifname peers meta l4proto tcp reject with tcp reset")
    }

    /// A host sends no more than that.
    pub(crate) fn slow(&self, host: u8, megabits: u32) -> Result<()> {
        let mut words = self.on(host);
        let shape = format!(
            "tc qdisc replace dev peers root tbf rate {megabits}mbit burst 16kbit latency 400ms"
        );
        words.extend(shape.split(' ').map(str::to_owned));
        run(&words)
    }

    /// The link of a host loses its carrier, or has it again.
    pub(crate) fn plug(&self, host: u8, is_up: bool) -> Result<()> {
        let state = if is_up { "up" } else { "down" };
        // At the outer end: addresses and routes of the host stay, as where a cable is pulled.
        ip(&format!("link set wfp{host}-{} {state}", self.tag))
    }

    /// No fault is left.
    pub(crate) fn heal(&self) -> Result<()> {
        for host in 0..self.hosts {
            let mut words = self.on(host);
            words.extend(["nft".to_owned(), format!("add table {TABLE}; delete table {TABLE}")]);
            run(&words)?;
            let mut words = self.on(host);
            words.extend("tc qdisc del dev peers root".split(' ').map(str::to_owned));
            // Fails where there is none.
            let _ = Command::new(&words[0]).args(&words[1..]).output();
            self.plug(host, true)?;
        }
        Ok(())
    }

    fn rule(&self, host: u8, rule: &str) -> Result<()> {
        let mut words = self.on(host);
        let chain = "out { type filter hook output priority 0; }";
        words.extend([
            "nft".to_owned(),
            format!("add table {TABLE}; add chain {TABLE} {chain}; add rule {TABLE} out {rule}"),
        ]);
        run(&words)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in 0..self.hosts {
            // Its ends of the links go with a namespace.
            let _ = ip(&format!("netns del {}", self.space(host)));
        }
        for bridge in ["p", "r"] {
            let _ = ip(&format!("link del wf{bridge}{}", self.tag));
        }
    }
}

fn ip(words: &str) -> Result<()> {
    let words: Vec<String> = format!("ip {words}").split(' ').map(str::to_owned).collect();
    run(&words)
}

fn run(words: &[String]) -> Result<()> {
    let output = Command::new(&words[0])
        .args(&words[1..])
        .output()
        .with_context(|| format!("start {}; is it installed?", words[0]))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{}`: {}", words.join(" "), said.trim());
    Ok(())
}
