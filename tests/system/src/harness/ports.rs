//! Ports to listen on that nobody else gets.
//!
//! A port that the kernel chose may be chosen by it again, for any outgoing connection, while a program is
//! stopped that is to listen there once more. Those below its range are taken only by whoever asks for them;
//! and of several processes of tests each has blocks of them to itself, by a lock that it holds while it lives.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

use super::random::mix;

/// Below are ports of services that may be installed on the machine.
const LOWEST: u16 = 12_000;
/// Where Linux begins with ports of outgoing connections, unless it was told otherwise.
const DEFAULT_END: u16 = 32_768;
/// Ports under one lock.
const BLOCK: u16 = 50;

/// The ports of this process.
static OWN: Mutex<Option<Ports>> = Mutex::new(None);

/// Blocks of ports that no other process has.
struct Ports {
    directory: PathBuf,
    blocks: u16,
    /// The locks of those that are held, which end with the process however it ends.
    held: Vec<(u16, File)>,
    /// The block that is looked at next.
    next_block: u16,
    /// Ports that were not handed out yet.
    left: Vec<u16>,
}

/// A loopback address that nobody uses, to be used again after each restart.
pub(crate) fn free_address() -> Result<SocketAddr> {
    let mut own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
    if own.is_none() {
        let directory = std::env::temp_dir().join("watchfire-ports");
        *own = Some(Ports::below(&directory, end())?);
    }
    let ports = own.as_mut().context("they were just made")?;
    while let Some(port) = ports.take()? {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!(
        "no port from {LOWEST} on is free: other processes of tests hold the blocks below {}",
        ports.directory.display()
    )
}

/// Ports of such addresses, each another one.
pub(crate) fn free_ports(count: usize) -> Result<Vec<u16>> {
    (0..count).map(|_| Ok(free_address()?.port())).collect()
}

impl Ports {
    fn below(directory: &Path, end: u16) -> Result<Ports> {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("make {}", directory.display()))?;
        let blocks = (end - LOWEST) / BLOCK;
        // Processes that begin at different places seldom look at the same block.
        let begin = mix(u64::from(std::process::id()) ^ super::now_ms().cast_unsigned());
        let next_block = u16::try_from(begin % u64::from(blocks))?;
        let (held, left) = (Vec::new(), Vec::new());
        Ok(Ports { directory: directory.to_owned(), blocks, held, next_block, left })
    }

    /// One that was not handed out yet; none if other processes have all others.
    fn take(&mut self) -> Result<Option<u16>> {
        for _ in 0..self.blocks {
            if let Some(port) = self.left.pop() {
                return Ok(Some(port));
            }
            let block = self.next_block;
            self.next_block = (block + 1) % self.blocks;
            if self.held.iter().any(|(held, _)| *held == block) {
                continue;
            }
            // One that another user made is that user's.
            let path = self.directory.join(block.to_string());
            let Ok(file) = File::options().create(true).append(true).open(&path) else { continue };
            if file.try_lock().is_ok() {
                self.held.push((block, file));
                let first = LOWEST + block * BLOCK;
                self.left.extend((first..first + BLOCK).rev());
            }
        }
        Ok(self.left.pop())
    }
}

/// Where the kernel's own range begins.
fn end() -> u16 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok();
    let begin: Option<u16> = range.and_then(|range| range.split_whitespace().next()?.parse().ok());
    match begin {
        Some(begin) if begin > LOWEST + 1_000 => begin.min(DEFAULT_END),
        begin => {
            eprintln!(
                "net.ipv4.ip_local_port_range begins at {begin:?}: ports from {LOWEST} to {DEFAULT_END} may be \
                 taken by outgoing connections while a program is restarted"
            );
            DEFAULT_END
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As two processes, whose locks are of different openings of a file.
    #[test]
    fn no_port_is_of_two() {
        let name = format!("watchfire-ports-of-a-test-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let end = LOWEST + 3 * BLOCK;
        let mut one = Ports::below(&directory, end).expect("ports");
        let mut other = Ports::below(&directory, end).expect("ports");
        let mut all = Vec::new();
        for _ in 0..BLOCK + 1 {
            all.extend(one.take().expect("a port"));
        }
        while let Some(port) = other.take().expect("files") {
            all.push(port);
        }
        assert_eq!(all.len(), usize::from(2 * BLOCK + 1), "two blocks are the first one's");
        all.sort_unstable();
        assert!(all.windows(2).all(|pair| pair[0] != pair[1]));
        // What is let go of is free again.
        drop(one);
        assert!(other.take().expect("files").is_some());
        std::fs::remove_dir_all(&directory).expect("removed");
    }
}
