//! More clients than the system gives this process files: the store must not run out of them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::harness::{Client, Launch, Scratch};

const FILES: usize = 128;
const CLIENTS: usize = 300;

/// Idle clients take all connections there are; whoever has one is served, flushes and log files
/// go on, and when the others go new ones are served.
pub(super) fn file_handles(scratch: &Scratch) -> Result<String> {
    let files = format!("--nofile={FILES}:{FILES}");
    let server = Launch::broker(&scratch.join("data"))
        .config("storage:\n  flush_interval: 100ms\n")
        .under(&["prlimit", &files])
        .start()?;
    let client = server.client();
    let mut first = client.connect()?;
    write_on(&mut first)?;
    let flushes = client.metric("watchfire_broker_flushes_total")?;
    let idle = open_idle(client)?;
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(2) {
        write_on(&mut first).with_context(|| server.stderr())?;
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(idle);
    let begin = Instant::now();
    while !client.get("/-/ready").is_ok_and(|answer| answer.status == 200) {
        ensure!(begin.elapsed() < Duration::from_secs(20), "no new client is served");
        std::thread::sleep(Duration::from_millis(20));
    }
    let flushed = client.metric("watchfire_broker_flushes_total")? - flushes;
    ensure!(flushed >= 5.0, "only {flushed} flushes meanwhile: {}", server.stderr());
    server.stop()?;
    Ok(format!("{CLIENTS} idle clients, {FILES} files: {flushed} flushes meanwhile"))
}

/// Clients that asked once and keep their connection. Those beyond the limit may be turned away.
fn open_idle(client: Client) -> Result<Vec<TcpStream>> {
    (0..CLIENTS)
        .map(|_| {
            let mut stream = client.connect()?;
            let _ = stream.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n");
            Ok(stream)
        })
        .collect()
}

/// Writes a sample over an open connection.
fn write_on(stream: &mut TcpStream) -> Result<()> {
    let request = b"POST /api/v1/import/prometheus HTTP/1.1\r\nHost: localhost\r\n\
        Content-Length: 4\r\n\r\nm 1\n";
    stream.write_all(request).context("send on an open connection")?;
    let mut answer = [0; 1_024];
    let len = stream.read(&mut answer).context("read on an open connection")?;
    let answer = String::from_utf8_lossy(&answer[..len]);
    ensure!(answer.starts_with("HTTP/1.1 204"), "answered {answer:?}");
    Ok(())
}
