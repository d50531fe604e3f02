//! A webhook receiver: notes which alerts came when, or takes every message and never answers.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// A thread per connection needs little.
const STACK_BYTES: usize = 256 << 10;
/// Longer than any message: 50,000 alerts in one.
const MAX_BODY: u64 = 256 << 20;
const POLL: Duration = Duration::from_millis(20);

/// The label by which alerts of a benchmark are told apart.
pub(super) const ID: &str = "id";

/// What came.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) messages: usize,
    /// How often each alert was told to fire, and when first.
    pub(super) alerts: HashMap<String, (usize, Instant)>,
}

impl Told {
    /// Alerts that were told more than once.
    pub(super) fn repeated(&self) -> usize {
        self.alerts.values().filter(|(times, _)| *times > 1).count()
    }
}

/// The receiver, served until the process ends.
#[derive(Debug)]
pub(super) struct Sink {
    address: SocketAddr,
    told: Arc<Mutex<Told>>,
}

/// What of a message is looked at.
#[derive(Deserialize)]
struct Message {
    alerts: Vec<Alert>,
}

#[derive(Deserialize)]
struct Alert {
    status: String,
    labels: HashMap<String, String>,
}

impl Sink {
    /// Starts one; a hanging one reads messages and never answers.
    pub(super) fn start(hangs: bool) -> Result<Sink> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen")?;
        let address = listener.local_addr()?;
        let told = Arc::new(Mutex::new(Told::default()));
        let noted = Arc::clone(&told);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let noted = Arc::clone(&noted);
                let serve = move || {
                    // Whoever hangs up has nothing more to say.
                    let _ = serve(stream, &noted, hangs);
                };
                let builder = std::thread::Builder::new().stack_size(STACK_BYTES);
                builder.spawn(serve).expect("a thread for a connection");
            }
        });
        Ok(Sink { address, told })
    }

    /// Where receivers send.
    pub(super) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Looks at what came.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Told) -> T) -> T {
        look(&self.told.lock().expect("nobody panics with it"))
    }

    /// Waits until so many alerts were told, and yields when the last of them was.
    ///
    /// # Errors
    /// They did not come in time.
    pub(super) fn wait_for(&self, alerts: usize, limit: Duration) -> Result<Instant> {
        let began = Instant::now();
        loop {
            let told = self.look(|told| {
                let last = told.alerts.values().map(|(_, first)| *first).max();
                (told.alerts.len(), last)
            });
            if let (count, Some(last)) = told
                && count >= alerts
            {
                return Ok(last);
            }
            ensure!(
                began.elapsed() < limit,
                "{} of {alerts} alerts were told within {limit:?}",
                told.0
            );
            std::thread::sleep(POLL);
        }
    }
}

fn serve(stream: TcpStream, told: &Mutex<Told>, hangs: bool) -> Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let body = request(&mut stream)?;
        let at = Instant::now();
        let message: Message = serde_json::from_slice(&body).context("a message is no JSON")?;
        let mut told = told.lock().expect("nobody panics with it");
        told.messages += 1;
        for mut alert in message.alerts {
            let Some(id) = alert.labels.remove(ID).filter(|_| alert.status == "firing") else {
                continue;
            };
            told.alerts.entry(id).or_insert((0, at)).0 += 1;
        }
        drop(told);
        if !hangs {
            stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
        }
    }
}

/// The body of the next request.
fn request(stream: &mut BufReader<TcpStream>) -> Result<Vec<u8>> {
    let (mut length, mut is_chunked) = (0, false);
    let mut line = String::new();
    loop {
        line.clear();
        ensure!(stream.read_line(&mut line)? > 0, "the client closed the connection");
        let Some((name, value)) = line.trim_end().split_once(':') else {
            if line.trim_end().is_empty() {
                break;
            }
            continue;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse()?,
            "transfer-encoding" => is_chunked = true,
            _ => {}
        }
    }
    ensure!(!is_chunked && length <= MAX_BODY, "a message without a length, or too long");
    let mut body = Vec::new();
    stream.take(length).read_to_end(&mut body)?;
    ensure!(body.len() as u64 == length, "the client closed the connection within a message");
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(sink: &Sink, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(sink.address).expect("a connection");
        let head = format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).expect("sent");
        stream.write_all(body.as_bytes()).expect("sent");
        stream
    }

    const TWO: &str = r#"{"alerts": [{"status": "firing", "labels": {"id": "1"}},
        {"status": "firing", "labels": {"id": "2"}}, {"status": "resolved", "labels": {"id": "3"}}]}"#;

    #[test]
    fn firing_alerts_are_noted_once_each_and_counted() {
        let sink = Sink::start(false).expect("a sink");
        for _ in 0..2 {
            let mut answer = [0; 15];
            send(&sink, TWO).read_exact(&mut answer).expect("an answer");
            assert_eq!(&answer, b"HTTP/1.1 200 OK");
        }
        sink.wait_for(2, Duration::from_secs(5)).expect("both");
        assert_eq!(sink.look(|told| (told.messages, told.repeated())), (2, 2));
        assert!(sink.wait_for(3, Duration::from_millis(50)).is_err());
    }

    #[test]
    fn one_that_hangs_takes_and_says_nothing() {
        let sink = Sink::start(true).expect("a sink");
        let mut stream = send(&sink, TWO);
        sink.wait_for(2, Duration::from_secs(5)).expect("both");
        stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a limit");
        assert!(stream.read(&mut [0; 1]).is_err());
    }
}
