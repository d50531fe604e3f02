//! Peers that send slowly or not at all: cut off in time, while others are served.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};

use crate::harness::{Client, Launch, Scratch};

/// Until a peer that never completes a request head is cut off.
const HEAD_LIMIT: Duration = Duration::from_secs(15);
/// The same for one that stops inside a body, and then reads its answer.
const BODY_LIMIT: Duration = Duration::from_secs(18);
/// How long an honest request may take meanwhile, on a busy machine with a debug build.
const HONEST_LIMIT: Duration = Duration::from_secs(2);
/// Connections of each kind.
const EACH: usize = 20;

struct Peer {
    name: &'static str,
    first: &'static [u8],
    /// Sent once a second after that.
    drip: &'static [u8],
    limit: Duration,
}

const PEERS: [Peer; 6] = [
    Peer { name: "silent", first: b"", drip: b"", limit: HEAD_LIMIT },
    Peer { name: "half a method", first: b"PRI", drip: b"", limit: HEAD_LIMIT },
    Peer { name: "half a head", first: b"GET / HTTP/1.1\r\nHo", drip: b"", limit: HEAD_LIMIT },
    Peer {
        name: "endless head",
        first: b"GET / HTTP/1.1\r\nHost: localhost\r\n",
        drip: b"X-A: b\r\n",
        limit: HEAD_LIMIT,
    },
    Peer {
        name: "half HTTP/2",
        first: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        drip: b"",
        limit: Duration::from_secs(20),
    },
    Peer {
        name: "half a body",
        first: b"POST /api/v1/write HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc",
        drip: b"",
        limit: BODY_LIMIT,
    },
];

pub(super) fn slow_peers(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data")).start()?;
    let client = server.client();
    let begin = Instant::now();
    let slowest = std::thread::scope(|scope| {
        let peers: Vec<_> = PEERS
            .iter()
            .map(|peer| (peer, scope.spawn(move || until_closed(client, peer, begin))))
            .collect();
        let mut slowest = Duration::ZERO;
        while !peers.iter().all(|(_, peer)| peer.is_finished()) {
            let asked = Instant::now();
            let answer = client.get("/api/v1/query?query=vector(1)")?;
            ensure!(answer.status == 200, "an honest request got {}", answer.status);
            slowest = slowest.max(asked.elapsed());
            std::thread::sleep(Duration::from_millis(50));
        }
        for (peer, thread) in peers {
            let took = thread.join().map_err(|_| anyhow!("a peer panicked"))??;
            ensure!(took <= peer.limit, "{}: cut off only after {took:?}", peer.name);
        }
        Ok(slowest)
    })?;
    ensure!(slowest < HONEST_LIMIT, "an honest request took {slowest:?} meanwhile");
    server.stop()?;
    Ok(format!(
        "{} slow connections cut off in time, honest requests took {} ms at most",
        EACH * PEERS.len(),
        slowest.as_millis()
    ))
}

/// Yields how long the longest of the connections lived.
fn until_closed(client: Client, peer: &Peer, begin: Instant) -> Result<Duration> {
    let mut open = Vec::with_capacity(EACH);
    for _ in 0..EACH {
        let mut stream = client.connect()?;
        stream.write_all(peer.first)?;
        stream.set_nonblocking(true)?;
        open.push(stream);
    }
    let mut dripped = Instant::now();
    while !open.is_empty() {
        ensure!(begin.elapsed() < 3 * peer.limit, "{}: never cut off", peer.name);
        if dripped.elapsed() >= Duration::from_secs(1) {
            dripped = Instant::now();
            for stream in &mut open {
                // Fails when the server has closed, which the read below sees.
                let _ = stream.write(peer.drip);
            }
        }
        open.retain_mut(is_open);
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(begin.elapsed())
}

fn is_open(stream: &mut TcpStream) -> bool {
    let mut bytes = [0; 1_024];
    match stream.read(&mut bytes) {
        Ok(0) => false,
        // An answer that says why.
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}
