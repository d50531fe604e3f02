//! A broker that keeps the rules of `ingest.proto` and stores in memory, over real sockets with
//! mutual TLS, and a link to it that can be cut.
#![allow(dead_code, reason = "each of those who include this uses some of it")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use model::{Labels, Limits, MetricBatch};
use net::auth::{Actor, CredentialStore, FileStore, JoinTokens, Principal};
use net::rpc::ingest_server::{Ingest, IngestServer};
use net::rpc::{
    Ack, AgentMessage, Batch, BrokerMessage, EnrollRequest, EnrollResponse, Hello, Refusal,
    RenewRequest, Welcome, agent_message, broker_message,
};
use net::tls::{MutualTls, ServerCertificate};
use net::{Authority, Enrollment, Identity, PeerIdentity, Peers, Role, Server, ServerSettings};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// What is stored; survives every cut.
#[derive(Default)]
pub(crate) struct Store {
    marks: BTreeMap<(String, Vec<u8>, i32), u64>,
    /// By series: timestamp and value of each sample in the order of arrival.
    samples: BTreeMap<String, Vec<(i64, f64)>>,
    pub(crate) hellos: Vec<Hello>,
    pub(crate) statuses: u64,
    batches: u64,
    payload_bytes: u64,
}

impl Store {
    fn mark(&self, agent: &str, incarnation: &[u8], lane: i32) -> u64 {
        let key = (agent.to_owned(), incarnation.to_vec(), lane);
        self.marks.get(&key).copied().unwrap_or_default()
    }

    fn receive(
        &mut self,
        agent: &str,
        incarnation: &[u8],
        batch: &Batch,
    ) -> broker_message::Message {
        let mark = self.mark(agent, incarnation, batch.lane);
        if batch.after_seq > mark {
            return broker_message::Message::Refusal(Refusal {
                lane: batch.lane,
                seq: batch.seq,
                reason: "a batch before it is missing".to_owned(),
                permanent: false,
                retry_after_ms: 50,
            });
        }
        if batch.seq > mark {
            self.store(batch);
            let key = (agent.to_owned(), incarnation.to_vec(), batch.lane);
            self.marks.insert(key, batch.seq);
        }
        let through_seq = batch.seq.max(mark);
        broker_message::Message::Ack(Ack { lane: batch.lane, through_seq, ..Ack::default() })
    }

    fn store(&mut self, batch: &Batch) {
        let mut samples = MetricBatch::default();
        wire::agent_batch::decode(&batch.payload, &Limits::default(), &mut samples)
            .expect("what the agent packed");
        self.batches += 1;
        self.payload_bytes += batch.payload.len() as u64;
        for series in &samples.series {
            let labels = Labels::from_packed(samples.label_bytes_of(series)).expect("packed");
            let own = self.samples.entry(labels.to_string()).or_default();
            for row in series.first_row as usize..(series.first_row + series.rows) as usize {
                own.push((samples.timestamps_ms[row], samples.values[row]));
            }
        }
    }

    /// Batches and bytes of payload that were stored.
    pub(crate) fn received(&self) -> (u64, u64) {
        (self.batches, self.payload_bytes)
    }

    /// All samples of a series in the order in which they were stored.
    pub(crate) fn samples(&self, series: &str) -> Vec<(i64, f64)> {
        self.samples.get(series).cloned().unwrap_or_default()
    }

    /// Names of all series.
    pub(crate) fn series(&self) -> Vec<String> {
        self.samples.keys().cloned().collect()
    }
}

/// The broker.
pub(crate) struct ModelBroker {
    pub(crate) store: Arc<Mutex<Store>>,
    pub(crate) address: SocketAddr,
    tokens: JoinTokens,
    _directory: tempfile::TempDir,
}

struct Service {
    enrollment: Enrollment,
    store: Arc<Mutex<Store>>,
    window_bytes: u64,
}

#[tonic::async_trait]
impl Ingest for Service {
    type PushStream = ReceiverStream<Result<BrokerMessage, Status>>;

    async fn enroll(
        &self,
        request: Request<EnrollRequest>,
    ) -> Result<Response<EnrollResponse>, Status> {
        self.enrollment.enroll(request).await
    }

    async fn renew(
        &self,
        request: Request<RenewRequest>,
    ) -> Result<Response<EnrollResponse>, Status> {
        self.enrollment.renew(request).await
    }

    async fn push(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::PushStream>, Status> {
        let agent = request.extensions().get::<PeerIdentity>().expect("joined").name.to_string();
        let (answers, receiver) = mpsc::channel(1_024);
        let store = Arc::clone(&self.store);
        let window_bytes = self.window_bytes;
        tokio::spawn(serve(agent, store, window_bytes, request.into_inner(), answers));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

async fn serve(
    agent: String,
    store: Arc<Mutex<Store>>,
    window_bytes: u64,
    mut inbound: Streaming<AgentMessage>,
    answers: mpsc::Sender<Result<BrokerMessage, Status>>,
) {
    let mut incarnation = Vec::new();
    while let Ok(Some(AgentMessage { message: Some(message) })) = inbound.message().await {
        let answer = match message {
            agent_message::Message::Hello(hello) => {
                let mut store = store.lock().expect("no panic");
                incarnation = hello.incarnation.to_vec();
                assert_eq!(incarnation.len(), 16);
                store.hellos.push(hello);
                broker_message::Message::Welcome(Welcome {
                    live_through_seq: store.mark(&agent, &incarnation, 1),
                    backlog_through_seq: store.mark(&agent, &incarnation, 2),
                    window_bytes,
                    ..Welcome::default()
                })
            }
            agent_message::Message::Batch(batch) => {
                store.lock().expect("no panic").receive(&agent, &incarnation, &batch)
            }
            agent_message::Message::Status(_) => {
                store.lock().expect("no panic").statuses += 1;
                continue;
            }
        };
        let ends = matches!(answer, broker_message::Message::Refusal(_));
        let message = BrokerMessage { message: Some(answer) };
        if answers.send(Ok(message)).await.is_err() || ends {
            return;
        }
    }
}

impl ModelBroker {
    pub(crate) async fn start(window_bytes: u64) -> ModelBroker {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let credentials = FileStore::open(&directory.path().join("credentials")).expect("empty");
        let credentials: Arc<dyn CredentialStore> = Arc::new(credentials);
        let now = SystemTime::now();
        let authority = Authority::open(&directory.path().join("tls"), now).expect("made");
        let authority = Arc::new(authority);
        let certificate =
            ServerCertificate::issued(Arc::clone(&authority), Vec::new(), now).expect("issued");
        let tokens = JoinTokens::new(Arc::clone(&credentials), authority.fingerprint());
        let peers = Peers::new(credentials);
        let enrollment =
            Enrollment::new(tokens.clone(), Arc::clone(&authority), Arc::clone(&peers));
        let tls = MutualTls::new(certificate, &authority, peers).expect("valid");
        let bound = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a port");
        let bound = bound.with_settings(ServerSettings::default());
        let address = bound.local_addr();
        let store = Arc::new(Mutex::new(Store::default()));
        let service = Service { enrollment, store: Arc::clone(&store), window_bytes };
        let service = IngestServer::new(service).max_decoding_message_size(4 << 20);
        let routes = tonic::service::Routes::new(service);
        tokio::spawn(bound.serve_rpc(tls, routes, std::future::pending()));
        ModelBroker { store, address, tokens, _directory: directory }
    }

    /// Lets an agent join whose certificate lies in `directory`.
    pub(crate) async fn join(&self, directory: &Path) -> Arc<Identity> {
        let anonymous = Actor { principal: Principal::anonymous(), address: self.address };
        let life = Duration::from_secs(60);
        let token = self.tokens.create(Role::Agent, 1, life, &anonymous, SystemTime::now());
        let token = token.expect("made").0.reveal().to_owned();
        let brokers = ["127.0.0.1:1".to_owned(), self.address.to_string()];
        net::join(directory, &brokers, Some(&token), "host", Role::Agent).await.expect("joins")
    }

    pub(crate) fn stored(&self) -> std::sync::MutexGuard<'_, Store> {
        self.store.lock().expect("no panic")
    }
}

/// A link to a broker. While it is cut, nobody gets through.
pub(crate) struct CuttableLink {
    pub(crate) address: SocketAddr,
    is_cut: watch::Sender<bool>,
}

impl CuttableLink {
    pub(crate) async fn to(broker: SocketAddr) -> CuttableLink {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (is_cut, watched) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut watched = watched.clone();
                tokio::spawn(async move {
                    if *watched.borrow() {
                        return;
                    }
                    let Ok(mut far) = TcpStream::connect(broker).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        _ = watched.wait_for(|cut| *cut) => {}
                    }
                });
            }
        });
        CuttableLink { address, is_cut }
    }

    pub(crate) fn cut(&self) {
        self.is_cut.send_replace(true);
    }

    pub(crate) fn mend(&self) {
        self.is_cut.send_replace(false);
    }
}
