//! Thousands of targets of a scraper in one thread: each has an address of its own in 127.0.0.0/8,
//! all reach one listener, and every answer is a fresh exposition.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::families::{Behaviour, Fleet};
use crate::values::Values;

/// Longest request head; scrapers send some hundred bytes.
const MAX_HEAD: usize = 16 << 10;
/// The slow target answers this late, within the usual limit of 10 s.
pub(crate) const SLOW: Duration = Duration::from_secs(8);
const SEED: u64 = 0x007a_57e5;
/// Addresses of one octet that are used.
const PER_OCTET: usize = 250;
/// Second octet of the targets, and of those that misbehave.
const GOOD_NET: u8 = 1;
const BAD_NET: u8 = 2;

/// When the targets were asked.
type Arrivals = Arc<Mutex<Vec<(usize, Instant)>>>;

/// The targets, being served until the process ends.
pub(crate) struct Targets {
    port: u16,
    count: usize,
    arrivals: Arrivals,
}

impl Targets {
    /// Starts `count` targets that show `samples` samples each.
    pub(crate) fn start(count: usize, samples: usize) -> Result<Targets> {
        let (ready, port) = std::sync::mpsc::channel();
        let arrivals = Arrivals::default();
        let noted = Arc::clone(&arrivals);
        std::thread::Builder::new().name("targets".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime of one thread");
            tokio::task::LocalSet::new().block_on(&runtime, async move {
                // All of 127.0.0.0/8 is this host.
                let listener = match TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await {
                    Ok(listener) => listener,
                    Err(error) => return drop(ready.send(Err(error))),
                };
                let hosts = Rc::new(Hosts::new(count, samples, noted));
                let _ = ready.send(listener.local_addr());
                serve(&listener, &hosts).await;
            });
        })?;
        let port = port.recv().context("the targets' thread ended")??.port();
        Ok(Targets { port, count, arrivals })
    }

    /// The addresses of the targets that answer at once.
    pub(crate) fn good(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        (0..self.count).map(|index| self.address(GOOD_NET, index))
    }

    /// One that takes the connection and the request and never says a word.
    pub(crate) fn silent(&self) -> SocketAddr {
        self.address(BAD_NET, 0)
    }

    /// One that answers after [`SLOW`].
    pub(crate) fn slow(&self) -> SocketAddr {
        self.address(BAD_NET, 1)
    }

    fn address(&self, net: u8, index: usize) -> SocketAddr {
        let octet = |number: usize| u8::try_from(number).expect("there are fewer targets");
        let (third, fourth) = (octet(index / PER_OCTET), octet(index % PER_OCTET + 1));
        SocketAddr::from(([127, net, third, fourth], self.port))
    }

    /// Requests to the good targets since the last call: target and time, in order of time.
    pub(crate) fn take_arrivals(&self) -> Vec<(usize, Instant)> {
        std::mem::take(&mut self.arrivals.lock().expect("nobody panics with it"))
    }
}

/// What a connection reached.
enum Host {
    Good(usize),
    Silent,
    Slow,
}

/// What all hosts show.
struct Hosts {
    /// Comments, name and labels of each sample, up to its value.
    rows: Vec<String>,
    /// By host; one more than are good, for the slow one.
    values: RefCell<Vec<Vec<Values>>>,
    arrivals: Arrivals,
    good: usize,
}

impl Hosts {
    fn new(count: usize, samples: usize, arrivals: Arrivals) -> Hosts {
        let rows = rows(samples);
        let series = |host: usize| {
            let one = |(row, (_, behaviour, is_moving)): (usize, &(String, Behaviour, bool))| {
                let seed = SEED ^ ((host as u64) << 20) ^ row as u64;
                Values::new(*behaviour, *is_moving, seed)
            };
            rows.iter().enumerate().map(one).collect()
        };
        let values = RefCell::new((0..=count).map(series).collect());
        Hosts { rows: rows.into_iter().map(|row| row.0).collect(), values, arrivals, good: count }
    }

    fn host(&self, address: IpAddr) -> Option<Host> {
        let IpAddr::V4(address) = address else { return None };
        let [127, net, third, fourth] = address.octets() else { return None };
        let index = usize::from(third) * PER_OCTET + usize::from(fourth.checked_sub(1)?);
        match (net, index) {
            (GOOD_NET, index) if index < self.good => Some(Host::Good(index)),
            (BAD_NET, 0) => Some(Host::Silent),
            (BAD_NET, 1) => Some(Host::Slow),
            _ => None,
        }
    }

    /// Appends the answer of a host, as it is now.
    fn answer(&self, host: usize, body: &mut String, out: &mut Vec<u8>) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let t_ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
        body.clear();
        for (row, values) in self.rows.iter().zip(&mut self.values.borrow_mut()[host]) {
            body.push_str(row);
            let _ = writeln!(body, "{}", values.next(t_ms));
        }
        out.clear();
        out.extend_from_slice(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n",
        );
        out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
        out.extend_from_slice(body.as_bytes());
    }
}

/// The first series of a host, with the comments that Node Exporter puts before each family.
fn rows(samples: usize) -> Vec<(String, Behaviour, bool)> {
    let mut rows = Vec::new();
    for families in Fleet::Node.families() {
        let kind = match families.behaviour {
            Behaviour::Counter { .. } => "counter",
            _ => "gauge",
        };
        let combinations = families.combinations();
        for name in families.names {
            for (place, labels) in combinations.iter().enumerate() {
                let mut text = String::new();
                if place == 0 {
                    let _ = writeln!(text, "# HELP {name} What the host says of it.");
                    let _ = writeln!(text, "# TYPE {name} {kind}");
                }
                let pairs: Vec<_> =
                    labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
                match pairs.as_slice() {
                    [] => text.push_str(name),
                    pairs => text.push_str(&format!("{name}{{{}}}", pairs.join(","))),
                }
                text.push(' ');
                rows.push((text, families.behaviour, place < families.moving));
                if rows.len() == samples {
                    return rows;
                }
            }
        }
    }
    rows
}

async fn serve(listener: &TcpListener, hosts: &Rc<Hosts>) {
    // An answer is made and sent without a pause, so one pair of buffers serves all.
    let buffers = Rc::new(RefCell::new((String::new(), Vec::new())));
    loop {
        let Ok((socket, peer)) = listener.accept().await else {
            // Too many open files, for example: some will be closed.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let host = socket.local_addr().ok().and_then(|local| hosts.host(local.ip()));
        let Some(host) = host.filter(|_| peer.ip().is_loopback()) else { continue };
        let (hosts, buffers) = (Rc::clone(hosts), Rc::clone(&buffers));
        tokio::task::spawn_local(async move {
            // The scraper went away.
            let _ = converse(socket, &host, &hosts, &buffers).await;
        });
    }
}

async fn converse(
    mut socket: TcpStream,
    host: &Host,
    hosts: &Hosts,
    buffers: &RefCell<(String, Vec<u8>)>,
) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let mut head = Vec::with_capacity(1 << 10);
    loop {
        head.clear();
        while !head.ends_with(b"\r\n\r\n") {
            if socket.read_buf(&mut head).await? == 0 || head.len() > MAX_HEAD {
                return Ok(());
            }
        }
        let index = match host {
            Host::Good(index) => {
                let arrival = (*index, Instant::now());
                hosts.arrivals.lock().expect("nobody panics with it").push(arrival);
                *index
            }
            Host::Silent => continue,
            Host::Slow => {
                tokio::time::sleep(SLOW).await;
                hosts.good
            }
        };
        let mut answer = {
            let (body, out) = &mut *buffers.borrow_mut();
            hosts.answer(index, body, out);
            std::mem::take(out)
        };
        socket.write_all(&answer).await?;
        answer.clear();
        buffers.borrow_mut().1 = answer;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Client;

    #[test]
    fn targets_answer_at_addresses_of_their_own_and_are_counted() {
        let targets = Targets::start(300, 200).expect("targets");
        let addresses: Vec<SocketAddr> = targets.good().collect();
        for index in [0, 251, 299] {
            let mut client = Client::connect(addresses[index]).expect("a connection");
            let first = client.get("/metrics").expect("an answer").successful().expect("200");
            let second = client.get("/metrics").expect("an answer").successful().expect("200");
            assert_ne!(first, second, "counters move");
            let text = String::from_utf8(first).expect("text");
            let samples: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
            assert_eq!(samples.len(), 200);
            assert!(text.starts_with("# HELP node_cpu_seconds_total"), "{text}");
        }
        let arrivals: Vec<usize> = targets.take_arrivals().into_iter().map(|at| at.0).collect();
        assert_eq!(arrivals, [0, 0, 251, 251, 299, 299]);
    }
}
