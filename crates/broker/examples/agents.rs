//! What agents cost a broker: `cargo run --release -p watchfire-broker --example agents`.
//!
//! The broker runs in this process and stores on the disk; the agents run in a second one, each
//! with its own connection, without TLS, and send batches of 500 series. Three figures: memory of
//! an idle stream, batches per second of the broker's processor time at one batch per agent and
//! second, and the same as fast as it takes them.
//!
//! Arguments: agents (1,000), seconds (20). `ulimit -n` must allow as many connections.

#![expect(clippy::print_stdout, reason = "a measurement reports on standard output")]

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use broker::rpc::ingest_service;
use broker::{Broker, BrokerConfig};
use bytes::Bytes;
use model::{Labels, MetricBatch};
use net::auth::{CredentialStore, FileStore, JoinTokens};
use net::rpc::ingest_client::IngestClient;
use net::rpc::{
    AgentMessage, Batch, Hello, Lane, agent_message::Message as ToBroker,
    broker_message::Message as FromBroker,
};
use net::{Authority, Enrollment, PeerIdentity, Peers, Role};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status};

const SERIES: usize = 500;
/// Batches that an agent may have under way.
const UNDER_WAY: usize = 4;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("far below")
}

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, or: u64| arguments.get(at).map_or(Ok(or), |text| text.parse());
    if let [role, address, agents] = &arguments[..]
        && role == "agents"
    {
        return run_agents(address.parse()?, agents.parse()?).await;
    }
    measure(number(0, 1_000)?, Duration::from_secs(number(1, 20)?)).await
}

async fn measure(agents: u64, time: Duration) -> Result<(), AnyError> {
    let directory = tempfile::tempdir()?;
    let broker = open(directory.path())?;
    let service = ingest_service(&broker, "here".to_owned(), enrollment(directory.path())?);
    let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let address = listener.local_addr()?;
    let named = tonic::service::interceptor::InterceptedService::new(service, name_caller);
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    tokio::spawn(
        tonic::transport::Server::builder().add_service(named).serve_with_incoming(incoming),
    );
    let before = resident_bytes()?;
    let mut child = Agents::start(address, agents)?;
    while broker.fleet().iter().filter(|row| row.connected).count() < agents as usize {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let idle = resident_bytes()?.saturating_sub(before);
    println!("{agents} agents connected: {} bytes of memory each", idle / agents);
    for (what, command) in [("one batch per second", "paced"), ("as fast as they can", "fast")] {
        child.say(command)?;
        // New series are registered first.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let (batches, cpu, start) = (stored(&broker), cpu_seconds()?, Instant::now());
        tokio::time::sleep(time).await;
        let batches = stored(&broker) - batches;
        let (cpu, wall) = (cpu_seconds()? - cpu, start.elapsed().as_secs_f64());
        println!(
            "{what}: {:.0} batches/s, {:.0} samples/s, {:.2} cores, {:.0} batches and {:.2} M \
             samples per CPU-second",
            batches / wall,
            batches * SERIES as f64 / wall,
            cpu / wall,
            batches / cpu,
            batches * SERIES as f64 / cpu / 1e6,
        );
    }
    child.stop();
    println!("resident: {} MB", resident_bytes()? >> 20);
    broker.stop();
    Ok(())
}

fn open(directory: &Path) -> Result<Broker, AnyError> {
    let config = BrokerConfig {
        shards: std::thread::available_parallelism()?.get(),
        ..BrokerConfig::new(directory.join("data"), now_ms)
    };
    Ok(Broker::open(config, Arc::default())?)
}

fn enrollment(directory: &Path) -> Result<Enrollment, AnyError> {
    let store: Arc<dyn CredentialStore> = Arc::new(FileStore::open(&directory.join("store"))?);
    let authority = Arc::new(Authority::open(&directory.join("tls"), SystemTime::now())?);
    let tokens = JoinTokens::new(Arc::clone(&store), authority.fingerprint());
    Ok(Enrollment::new(tokens, authority, Peers::new(store)))
}

/// In the place of a certificate.
fn name_caller(mut request: Request<()>) -> Result<Request<()>, Status> {
    let name = request.metadata().get("agent").and_then(|name| name.to_str().ok());
    let name = name.ok_or_else(|| Status::unauthenticated("no name"))?.into();
    let (role, serial, expires_ms) = (Role::Agent, "01".into(), i64::MAX);
    request.extensions_mut().insert(PeerIdentity { name, role, serial, expires_ms });
    Ok(request)
}

fn stored(broker: &Broker) -> f64 {
    let rows = broker.metrics();
    rows.iter().find(|row| row.name == "watchfire_broker_batches_total").map_or(0.0, |r| r.value)
}

fn cpu_seconds() -> Result<f64, AnyError> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let rest = stat.rsplit_once(')').ok_or("no name in stat")?.1;
    let fields: Vec<f64> = rest.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    // Behind the state, which is no number: utime and stime are the 11th and 12th.
    Ok((fields[10] + fields[11]) / 100.0)
}

fn resident_bytes() -> Result<u64, AnyError> {
    let pages: u64 = std::fs::read_to_string("/proc/self/statm")?
        .split_whitespace()
        .nth(1)
        .ok_or("no second field in statm")?
        .parse()?;
    Ok(pages * 4_096)
}

/// The process of the agents.
struct Agents(Child);

impl Agents {
    fn start(address: SocketAddr, agents: u64) -> Result<Agents, AnyError> {
        let child = Command::new(std::env::current_exe()?)
            .args(["agents", &address.to_string(), &agents.to_string()])
            .stdin(Stdio::piped())
            .spawn()?;
        Ok(Agents(child))
    }

    fn say(&mut self, command: &str) -> Result<(), AnyError> {
        use std::io::Write as _;
        let stdin = self.0.stdin.as_mut().ok_or("a pipe was asked for")?;
        Ok(writeln!(stdin, "{command}")?)
    }

    fn stop(mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// 0: wait; 1: a batch per second; 2: as fast as acknowledgements come.
static PACE: AtomicU64 = AtomicU64::new(0);

async fn run_agents(address: SocketAddr, agents: u64) -> Result<(), AnyError> {
    for index in 0..agents {
        tokio::spawn(async move {
            if let Err(error) = agent(address, index).await {
                println!("agent {index}: {error}");
            }
        });
        if index % 50 == 49 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    tokio::task::spawn_blocking(|| {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            PACE.store(if line == "paced" { 1 } else { 2 }, Ordering::Relaxed);
        }
    })
    .await?;
    Ok(())
}

async fn agent(address: SocketAddr, index: u64) -> Result<(), AnyError> {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}"))?;
    let mut client = IngestClient::new(endpoint.connect().await?);
    let (sender, messages) = mpsc::channel(UNDER_WAY);
    let mut request = Request::new(ReceiverStream::new(messages));
    request.metadata_mut().insert("agent", format!("agent-{index:05}").parse()?);
    let incarnation = Bytes::copy_from_slice(&u128::from(index).to_le_bytes());
    let hello = Hello { incarnation, ..Hello::default() };
    sender.send(AgentMessage { message: Some(ToBroker::Hello(hello)) }).await?;
    let mut answers = client.push(request).await?.into_inner();
    answers.message().await?.ok_or("no welcome")?;
    let mut batch = template(index)?;
    let (mut seq, mut through) = (0, 0);
    // Spread over the second.
    tokio::time::sleep(Duration::from_millis(index * 7 % 1_000)).await;
    let mut due = tokio::time::interval(Duration::from_secs(1));
    loop {
        match PACE.load(Ordering::Relaxed) {
            0 => {
                due.tick().await;
                continue;
            }
            1 => {
                due.tick().await;
            }
            _ => {}
        }
        while seq - through >= UNDER_WAY as u64 {
            let message = answers.message().await?.ok_or("ended")?.message;
            match message {
                Some(FromBroker::Ack(ack)) => through = ack.through_seq,
                other => return Err(format!("{other:?}").into()),
            }
        }
        let t_ms = now_ms();
        batch.timestamps_ms.fill(t_ms);
        for (row, value) in batch.values.iter_mut().enumerate() {
            // A third stands still, a third counts, a third wavers.
            match row % 3 {
                0 => {}
                1 => *value += row as f64,
                _ => *value = (seq as f64 * 0.7 + row as f64).sin() * 100.0,
            }
        }
        let mut payload = Vec::new();
        wire::agent_batch::encode(&batch, &mut payload);
        let (after_seq, lane) = (seq, Lane::Live as i32);
        seq += 1;
        let payload = payload.into();
        let message = Batch { lane, seq, after_seq, created_ms: t_ms, payload };
        sender.send(AgentMessage { message: Some(ToBroker::Batch(message)) }).await?;
    }
}

/// Series of the shape of a host's.
fn template(index: u64) -> Result<MetricBatch, AnyError> {
    let mut batch = MetricBatch::default();
    let instance = format!("web-{index:05}.eu-west-1.example.com:9100");
    for series in 0..SERIES {
        let (metric, cpu) = (format!("node_family_{}_seconds_total", series / 10), series % 10);
        let labels = Labels::from_pairs([
            ("__name__", metric.as_str()),
            ("cpu", cpu.to_string().as_str()),
            ("instance", instance.as_str()),
            ("job", "host"),
            ("mode", "idle"),
        ])?;
        batch.push(&labels, 0, series as f64);
    }
    Ok(batch)
}
