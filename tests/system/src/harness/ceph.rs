//! Ceph with its gateway for S3: one monitor, one daemon of objects that keeps them in memory, one
//! `radosgw`. The smallest there is of it; authenticated among themselves as anywhere.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::peer::{Host, POLL, Peer};
use super::ports::free_ports;
use crate::harness::Scratch;

/// The bucket that is there.
pub(crate) const BUCKET: &str = "bucket";
/// Who may use it.
pub(crate) const USER: &str = "watchfire";
pub(crate) const ACCESS_KEY: &str = "AKIDCANARY";
pub(crate) const SECRET_KEY: &str = "secret-canary";

/// Until the first request is answered; measured: 11 s, most of them until all pools are there.
const START_TIMEOUT: Duration = Duration::from_secs(90);

const EMPTY_DIGEST: &str =
    "x-amz-content-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// All daemons end with it.
pub(crate) struct Ceph {
    directory: PathBuf,
    gateway: Peer,
    daemons: Vec<Peer>,
}

impl Ceph {
    /// Starts all of it on this host, and makes [`BUCKET`] for [`USER`].
    pub(crate) fn start(scratch: &Scratch) -> Result<Ceph> {
        let directory = scratch.join("ceph");
        for below in ["mon", "osd", "rgw"] {
            std::fs::create_dir_all(directory.join(below))?;
        }
        let ports = free_ports(2)?;
        let at = |port: u16| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        let (monitor, gateway) = (at(ports[0]), at(ports[1]));
        let uuid = || std::fs::read_to_string("/proc/sys/kernel/random/uuid");
        let (cluster, osd) = (uuid()?.trim().to_owned(), uuid()?.trim().to_owned());
        std::fs::write(
            directory.join("ceph.conf"),
            configuration(&directory.display().to_string(), &cluster, monitor, gateway),
        )?;
        let tool = |program: &str, words: &str| run(&directory, program, words);
        for (name, rights) in [
            ("client.rgw", "--cap mon allow_* --cap osd allow_*"),
            ("client.admin", "--cap mon allow_* --cap osd allow_* --cap mgr allow_*"),
            ("osd.0", "--cap mon allow_profile_osd --cap osd allow_*"),
            ("mon.", "--cap mon allow_*"),
        ] {
            let made = if name == "client.rgw" { "--create-keyring " } else { "" };
            tool("ceph-authtool", &format!("{made}keyring --gen-key -n {name} {rights}"))?;
        }
        tool("monmaptool", &format!("--create --addv a [v2:{monitor}] --fsid {cluster} monmap"))?;
        tool("ceph-mon", "--mkfs -i a --monmap monmap --keyring keyring")?;
        let start = |name: &str, program: &str, words: &str, at: SocketAddr| {
            let mut command = command(&directory, program, words);
            command.arg("-f");
            Peer::start(scratch, name, at, command)
        };
        let mut daemons = vec![start("ceph-mon", "ceph-mon", "-i a", monitor)?];
        tool("ceph", &format!("--connect-timeout 60 osd new {osd}"))?;
        tool("ceph-osd", &format!("-i 0 --mkfs --osd-uuid {osd}"))?;
        // It listens where it likes: nobody but the gateway asks it.
        daemons.push(start("ceph-osd", "ceph-osd", "-i 0", monitor)?);
        let begin = Instant::now();
        let gateway = loop {
            // It gives up when there is no daemon of objects yet.
            match start("radosgw", "radosgw", "-n client.rgw", gateway) {
                Ok(gateway) => break gateway,
                Err(error) if begin.elapsed() > START_TIMEOUT => return Err(error),
                Err(_) => {}
            }
        };
        let ceph = Ceph { directory, gateway, daemons };
        ceph.admin(&format!(
            "user create --uid {USER} --display-name {USER} --access-key {ACCESS_KEY} \
             --secret-key {SECRET_KEY}"
        ))?;
        ceph.make_bucket()?;
        Ok(ceph)
    }

    fn make_bucket(&self) -> Result<()> {
        let (url, begin) = (format!("http://{}/{BUCKET}", self.gateway.address), Instant::now());
        let user = format!("{ACCESS_KEY}:{SECRET_KEY}");
        loop {
            let made = Command::new("curl")
                .args(["-sS", "-f", "-X", "PUT", "--aws-sigv4", "aws:amz:us-east-1:s3"])
                // What Amazon asks for since version 4 of signatures, and curl leaves out: the digest of nothing.
                .args(["-H", EMPTY_DIGEST, "--user", &user, &url])
                .output()
                .context("start curl")?;
            if made.status.success() {
                return Ok(());
            }
            let said = String::from_utf8_lossy(&made.stderr).into_owned();
            ensure!(begin.elapsed() < START_TIMEOUT, "no bucket is made: {said}");
            std::thread::sleep(POLL);
        }
    }

    /// Has `radosgw-admin` do something; yields what it printed.
    pub(crate) fn admin(&self, words: &str) -> Result<String> {
        run(&self.directory, "radosgw-admin", &format!("-n client.rgw {words}"))
    }

    /// The store below a prefix.
    pub(crate) fn url(&self, prefix: &str) -> String {
        format!("s3://{BUCKET}/{prefix}?endpoint=http://{}", self.gateway.address)
    }
}

impl Drop for Ceph {
    fn drop(&mut self) {
        // The gateway first: it would wait for those that it asks.
        let _ = self.gateway.kill();
        for daemon in &mut self.daemons {
            let _ = daemon.kill();
        }
    }
}

/// A command in `directory`; `_` in a word stands for a space.
fn command(directory: &std::path::Path, program: &str, words: &str) -> Command {
    let mut command = Host::here().command(program);
    command.current_dir(directory);
    if !["ceph-authtool", "monmaptool"].contains(&program) {
        command.args(["-c", "ceph.conf"]);
    }
    if program.starts_with("ceph-") && !program.ends_with("tool") || program == "radosgw" {
        command.args(["--setuser", "root", "--setgroup", "root"]);
    }
    command.args(words.split(' ').map(|word| word.replace('_', " ")));
    command
}

fn run(directory: &std::path::Path, program: &str, words: &str) -> Result<String> {
    let output = command(directory, program, words)
        .output()
        .with_context(|| format!("start {program}; is it installed?"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {words}: {}", said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn configuration(
    directory: &str,
    cluster: &str,
    monitor: SocketAddr,
    gateway: SocketAddr,
) -> String {
    format!(
        "[global]
fsid = {cluster}
mon host = v2:{monitor}/0
public network = 127.0.0.0/8
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
keyring = {directory}/keyring
mon data = {directory}/mon
osd data = {directory}/osd
osd objectstore = memstore
memstore device bytes = 1073741824
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon data avail crit = 1
mon data avail warn = 1
mon max pg per osd = 1000
run dir = {directory}
admin socket = {directory}/$name.$pid.asok
log file = {directory}/$name.log
pid file = {directory}/$name.pid
log to stderr = false
[client.rgw]
rgw data = {directory}/rgw
rgw frontends = beast endpoint={gateway}
"
    )
}
