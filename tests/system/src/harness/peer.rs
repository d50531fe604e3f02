//! A program of somebody else's that a test talks to, as a process.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::Scratch;

/// How long a program may take to answer on a slow, busy machine.
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(60);
pub(crate) const POLL: Duration = Duration::from_millis(20);

/// Where a program runs.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    /// Words before its command, which may lead to another host.
    pub(crate) on: Vec<String>,
    /// Where it listens.
    pub(crate) address: IpAddr,
}

impl Host {
    /// This one, reached by nobody else.
    pub(crate) fn here() -> Host {
        Host { on: Vec::new(), address: Ipv4Addr::LOCALHOST.into() }
    }

    /// A command that runs there.
    pub(crate) fn command(&self, program: &str) -> Command {
        let Some((first, rest)) = self.on.split_first() else { return Command::new(program) };
        let mut command = Command::new(first);
        command.args(rest).arg(program);
        command
    }
}

/// A program that ends with the test.
pub(crate) struct Peer {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Peer {
    /// Starts it and waits until it takes connections at `address`. What it says goes to `NAME.log`.
    pub(crate) fn start(
        scratch: &Scratch,
        name: &str,
        address: SocketAddr,
        mut command: Command,
    ) -> Result<Peer> {
        let log = std::fs::File::create(scratch.join(&format!("{name}.log")))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("start {name}; is it installed?"))?;
        let mut peer = Peer { child, address };
        let begin = Instant::now();
        while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
            if let Some(status) = peer.child.try_wait()? {
                bail!("{name} ended with {status}");
            }
            ensure!(begin.elapsed() < START_TIMEOUT, "{name} does not answer");
            std::thread::sleep(POLL);
        }
        Ok(peer)
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
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
