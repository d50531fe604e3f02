//! Joining, renewing and being sent away, over real sockets with mutual TLS.

use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use net::auth::{Actor, CredentialStore, FileStore, JoinTokens, Principal};
use net::rpc::ingest_client::IngestClient;
use net::rpc::ingest_server::{Ingest, IngestServer};
use net::rpc::{
    AgentMessage, BrokerMessage, EnrollRequest, EnrollResponse, RenewRequest, Welcome,
    broker_message::Message,
};
use net::tls::{ClientTls, MutualTls, ServerCertificate};
use net::{
    Authority, Enrollment, Identity, IdentityError, NetMetrics, PeerIdentity, Peers, Role, Server,
    ServerSettings,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tonic::{Code, Request, Response, Status, Streaming};

type Answers =
    Pin<Box<dyn futures_util::Stream<Item = Result<BrokerMessage, Status>> + Send + 'static>>;

/// A broker's socket without a broker: it enrolls, and greets who may push.
struct Greeter {
    enrollment: Enrollment,
}

#[tonic::async_trait]
impl Ingest for Greeter {
    type PushStream = Answers;

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
        let peer = request.extensions().get::<PeerIdentity>().expect("decided before").clone();
        let welcome = Welcome { broker: peer.name.to_string(), ..Welcome::default() };
        let message = BrokerMessage { message: Some(Message::Welcome(welcome)) };
        let greeting = futures_util::stream::iter([Ok(message)]);
        let silence = futures_util::stream::pending();
        Ok(Response::new(Box::pin(futures_util::StreamExt::chain(greeting, silence))))
    }
}

struct Broker {
    directory: tempfile::TempDir,
    address: SocketAddr,
    authority: Arc<Authority>,
    tokens: JoinTokens,
    peers: Arc<Peers>,
    metrics: Arc<NetMetrics>,
    _stop: oneshot::Sender<()>,
}

impl Broker {
    async fn start() -> Broker {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = FileStore::open(&directory.path().join("credentials")).expect("empty");
        let store: Arc<dyn CredentialStore> = Arc::new(store);
        let now = SystemTime::now();
        let authority = Authority::open(&directory.path().join("tls"), now).expect("made");
        let authority = Arc::new(authority);
        let certificate =
            ServerCertificate::issued(Arc::clone(&authority), Vec::new(), now).expect("issued");
        let tokens = JoinTokens::new(Arc::clone(&store), authority.fingerprint());
        let peers = Peers::new(store);
        let enrollment =
            Enrollment::new(tokens.clone(), Arc::clone(&authority), Arc::clone(&peers));
        let tls = MutualTls::new(certificate, &authority, Arc::clone(&peers)).expect("valid");
        let metrics = Arc::new(NetMetrics::default());
        let settings = ServerSettings {
            first_bytes_timeout: Duration::from_millis(500),
            header_timeout: Duration::from_millis(500),
            ..ServerSettings::default()
        };
        let bound = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a port");
        let bound = bound.with_settings(settings).with_metrics(Arc::clone(&metrics));
        let address = bound.local_addr();
        let routes = tonic::service::Routes::new(IngestServer::new(Greeter { enrollment }));
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(bound.serve_rpc(tls, routes, async move {
            let _ = stopped.await;
        }));
        Broker { directory, address, authority, tokens, peers, metrics, _stop: stop }
    }

    fn token(&self, role: Role, uses: u32) -> String {
        let life = Duration::from_secs(60);
        let made = self.tokens.create(role, uses, life, &actor(), SystemTime::now());
        made.expect("made").0.reveal().to_owned()
    }

    fn target(&self) -> String {
        self.address.to_string()
    }

    async fn join(
        &self,
        host: &Path,
        token: Option<&str>,
        name: &str,
        role: Role,
    ) -> Result<Arc<Identity>, IdentityError> {
        Identity::load_or_join(host, &self.target(), token, name, role).await
    }

    fn client(&self, tls: &ClientTls) -> IngestClient<tonic::transport::Channel> {
        IngestClient::new(net::channel(&self.target(), tls).expect("a valid address"))
    }

    fn rendered(&self) -> String {
        let mut out = Vec::new();
        self.metrics.render(&mut wire::text_encode::TextEncoder::new(&mut out));
        String::from_utf8(out).expect("metrics are text")
    }
}

fn actor() -> Actor {
    Actor { principal: Principal::anonymous(), address: SocketAddr::from(([127, 0, 0, 1], 1)) }
}

/// The name under which the broker greets, and the stream that stays open.
async fn push(
    client: &mut IngestClient<tonic::transport::Channel>,
) -> Result<(String, Streaming<BrokerMessage>), Status> {
    let outgoing = futures_util::stream::pending::<AgentMessage>();
    let mut answers = client.push(outgoing).await?.into_inner();
    let first = answers.message().await?.expect("a greeting").message;
    match first {
        Some(Message::Welcome(welcome)) => Ok((welcome.broker, answers)),
        other => panic!("{other:?} is no greeting"),
    }
}

#[tokio::test]
async fn a_host_joins_once_and_is_known_from_then_on() {
    let broker = Broker::start().await;
    let host = tempfile::tempdir().expect("a temporary directory");
    let host = host.path().join("tls");
    let error = broker.join(&host, None, "web-1", Role::Agent).await.expect_err("no token");
    assert!(error.to_string().contains("watchfire token create --role agent"), "{error}");
    let token = broker.token(Role::Agent, 1);
    let identity = broker.join(&host, Some(&token), "web-1", Role::Agent).await.expect("joins");
    assert_eq!(&*identity.name(), "web-1");
    let (name, _) = push(&mut broker.client(&identity.tls().expect("valid"))).await.expect("in");
    assert_eq!(name, "web-1");
    // A restart needs no token; another host cannot use the same one.
    let again = broker.join(&host, None, "web-1", Role::Agent).await.expect("known");
    assert_eq!(again.expires_ms(), identity.expires_ms());
    let other = tempfile::tempdir().expect("a temporary directory");
    let error =
        broker.join(other.path(), Some(&token), "web-2", Role::Agent).await.expect_err("used");
    assert!(error.to_string().contains("used up"), "{error}");
    let shown = format!("{identity:?} {token:?}", token = token.parse::<net::auth::JoinToken>());
    assert!(!shown.contains("PRIVATE") && !shown.contains(&token[4..26]), "{shown}");
}

/// As many as may shake hands at once begin and say no more; those behind them get their turn.
#[tokio::test]
async fn who_stalls_in_the_handshake_keeps_nobody_waiting_for_long() {
    let broker = Broker::start().await;
    let stalled = stall(&broker, &hello(&broker)).await;
    let begin = std::time::Instant::now();
    let host = tempfile::tempdir().expect("a temporary directory");
    let token = broker.token(Role::Agent, 1);
    broker.join(host.path(), Some(&token), "web-1", Role::Agent).await.expect("joins");
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    let all = "watchfire_net_tls_handshakes_failed_total{reason=\"timeout\"} 300";
    while !broker.rendered().contains(all) {
        assert!(begin.elapsed() < Duration::from_secs(20), "{}", broker.rendered());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(broker.rendered().contains("watchfire_net_tls_handshakes_waiting 0"));
    drop(stalled);
}

/// Three hundred connections that send `bytes` and no more.
async fn stall(broker: &Broker, bytes: &[u8]) -> Vec<TcpStream> {
    let mut stalled = Vec::new();
    for _ in 0..300 {
        let mut socket = TcpStream::connect(broker.address).await.expect("a port");
        socket.write_all(bytes).await.expect("taken");
        stalled.push(socket);
    }
    stalled
}

/// What a client says first.
fn hello(broker: &Broker) -> Vec<u8> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(broker.authority.certificate().clone()).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("valid")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = rustls_pki_types::ServerName::try_from(net::tls::BROKER_NAME).expect("a name");
    let client = rustls::ClientConnection::new(Arc::new(config), name);
    let mut bytes = Vec::new();
    client.expect("valid").write_tls(&mut bytes).expect("a Vec takes every byte");
    bytes
}

/// Whoever sends half of the first record takes nobody's turn.
#[tokio::test]
async fn half_a_record_takes_no_turn() {
    let broker = Broker::start().await;
    let hello = hello(&broker);
    let stalled = stall(&broker, &hello[..hello.len() - 1]).await;
    let begin = std::time::Instant::now();
    let all = "watchfire_net_tls_handshakes_failed_total{reason=\"timeout\"} 300";
    loop {
        let rendered = broker.rendered();
        assert!(rendered.contains("watchfire_net_tls_handshakes_waiting 0"), "{rendered}");
        if rendered.contains(all) {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "{rendered}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(stalled);
}

#[tokio::test]
async fn two_hosts_of_one_name_are_told_apart_and_roles_keep_their_calls() {
    let broker = Broker::start().await;
    let token = broker.token(Role::Agent, 2);
    let mut names = Vec::new();
    for _ in 0..2 {
        let host = tempfile::tempdir().expect("a temporary directory");
        let joined = broker.join(host.path(), Some(&token), "web-1", Role::Agent).await;
        names.push(joined.expect("joins").name().to_string());
    }
    assert_eq!(names, ["web-1", "web-1-2"]);
    let console = tempfile::tempdir().expect("a temporary directory");
    let token = broker.token(Role::Console, 1);
    let refused = broker.join(console.path(), Some(&token), "c", Role::Agent).await;
    let error = refused.expect_err("another role").to_string();
    assert!(error.contains("for the role console, not agent"), "{error}");
    let joined = broker.join(console.path(), Some(&token), "c", Role::Console).await;
    let tls = joined.expect("the refusal used nothing up").tls().expect("valid");
    let status = push(&mut broker.client(&tls)).await.expect_err("not an agent");
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    let listed = broker.peers.list().expect("readable");
    let listed: Vec<_> = listed.iter().map(|peer| (peer.name.as_str(), peer.role)).collect();
    assert_eq!(listed, [("c", Role::Console), ("web-1", Role::Agent), ("web-1-2", Role::Agent)]);
}

#[tokio::test]
async fn without_a_certificate_only_enrolling_is_possible() {
    let broker = Broker::start().await;
    let tls = ClientTls::pinning(broker.authority.fingerprint()).expect("valid");
    let mut client = broker.client(&tls);
    let status = push(&mut client).await.expect_err("no certificate");
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().contains("watchfire token create"), "{status:?}");
    let status = client.renew(RenewRequest::default()).await.expect_err("no certificate");
    assert_eq!(status.code(), Code::Unauthenticated);
    for (token, code) in [
        ("", Code::InvalidArgument),
        ("wfj_x", Code::InvalidArgument),
        (&*format!("wfj_{}_{}", "a".repeat(22), "b".repeat(64)), Code::Unauthenticated),
    ] {
        let request = EnrollRequest {
            token: token.to_owned(),
            role: "agent".to_owned(),
            ..EnrollRequest::default()
        };
        let status = client.enroll(request).await.expect_err("no token");
        assert_eq!(status.code(), code, "{status:?}");
    }
}

#[tokio::test]
async fn a_revoked_host_is_cut_off_and_told_why() {
    let broker = Broker::start().await;
    let host = tempfile::tempdir().expect("a temporary directory");
    let token = broker.token(Role::Agent, 1);
    let identity = broker.join(host.path(), Some(&token), "web-1", Role::Agent).await;
    let mut client = broker.client(&identity.expect("joins").tls().expect("valid"));
    let (_, mut answers) = push(&mut client).await.expect("in");
    assert!(broker.peers.revoke("web-1", &actor()).expect("written"));
    assert!(!broker.peers.revoke("web-1", &actor()).expect("not there any more"));
    let cut = timeout(Duration::from_secs(3), answers.message()).await.expect("cut at once");
    assert!(cut.is_err(), "{cut:?}");
    let status = push(&mut client).await.expect_err("revoked");
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().contains("revoked; join again"), "{status:?}");
    assert!(broker.rendered().contains("watchfire_net_connections_cut_total 1\n"));
}

#[tokio::test]
async fn a_new_token_brings_a_revoked_host_back_and_changes_nothing_for_others() {
    let broker = Broker::start().await;
    let host = tempfile::tempdir().expect("a temporary directory");
    let file = || std::fs::read(host.path().join("identity.pem")).expect("there");
    let first = broker.token(Role::Agent, 5);
    let join = async |token: &str| {
        let joined = broker.join(host.path(), Some(token), "web-1", Role::Agent).await;
        joined.map(|identity| identity.name().to_string())
    };
    assert_eq!(join(&first).await.expect("joins"), "web-1");
    let before = file();
    assert_eq!(join(&first).await.expect("known"), "web-1");
    assert_eq!(file(), before, "the token is still on the command line");
    let second = broker.token(Role::Agent, 1);
    assert_eq!(join(&second).await.expect("known"), "web-1");
    let error = join("wfj_typo").await.expect_err("is told at once").to_string();
    assert!(error.contains("no join token"), "{error}");
    assert!(broker.peers.revoke("web-1", &actor()).expect("written"));
    assert_eq!(join(&first).await.expect("cannot know"), "web-1");
    assert_eq!(join(&second).await.expect("joins again"), "web-1");
    let identity = broker.join(host.path(), Some(&second), "web-1", Role::Agent).await;
    let mut client = broker.client(&identity.expect("known").tls().expect("valid"));
    push(&mut client).await.expect("in again");
    // A broker that is away keeps nobody from starting, whatever the token.
    let third = broker.token(Role::Agent, 1);
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1)).to_string();
    let away = Identity::load_or_join(host.path(), &nobody, Some(&third), "web-1", Role::Agent);
    assert_eq!(&*away.await.expect("known").name(), "web-1");
    // A token of another installation takes the host there.
    let other = Broker::start().await;
    let token = other.token(Role::Agent, 1);
    let moved = other.join(host.path(), Some(&token), "web-1", Role::Agent).await.expect("joins");
    push(&mut other.client(&moved.tls().expect("valid"))).await.expect("in");
}

#[tokio::test]
async fn a_renewed_certificate_is_used_and_the_one_before_still_counts() {
    let broker = Broker::start().await;
    let host = tempfile::tempdir().expect("a temporary directory");
    let token = broker.token(Role::Agent, 1);
    let identity = broker.join(host.path(), Some(&token), "web-1", Role::Agent).await;
    let identity = identity.expect("joins");
    let old_file = std::fs::read(host.path().join("identity.pem")).expect("there");
    let channel = |identity: &Arc<Identity>| {
        net::channel(&broker.target(), &identity.tls().expect("valid")).expect("valid")
    };
    identity.renew(channel(&identity), &broker.target()).await.expect("renewed");
    assert_ne!(std::fs::read(host.path().join("identity.pem")).expect("there"), old_file);
    push(&mut IngestClient::new(channel(&identity))).await.expect("in");
    // As if the file had not been written before the host stopped.
    std::fs::write(host.path().join("identity.pem"), old_file).expect("written");
    let old = broker.join(host.path(), None, "web-1", Role::Agent).await.expect("there");
    push(&mut IngestClient::new(channel(&old))).await.expect("still in");
    old.renew(channel(&old), &broker.target()).await.expect("renewed");
    old.renew(channel(&old), &broker.target()).await.expect("renewed");
    let status = push(&mut IngestClient::new(channel(&identity))).await.expect_err("too old");
    assert_eq!(status.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn brokers_of_another_authority_are_not_trusted_nor_their_hosts() {
    let (ours, theirs) = (Broker::start().await, Broker::start().await);
    let host = tempfile::tempdir().expect("a temporary directory");
    // A token leads to its own broker, whoever answers at the address.
    let token = ours.token(Role::Agent, 1);
    let refused = theirs.join(host.path(), Some(&token), "web-1", Role::Agent).await;
    let error = refused.expect_err("another authority").to_string();
    assert!(error.contains("belongs to another installation"), "{error}");
    let identity = ours.join(host.path(), Some(&token), "web-1", Role::Agent).await;
    let identity = identity.expect("the token was not used up");
    let status = push(&mut theirs.client(&identity.tls().expect("valid"))).await;
    status.expect_err("the broker is foreign to the host");
    // And the host to the broker, even if it trusts that one.
    let file = host.path().join("identity.pem");
    let own = std::fs::read_to_string(&file).expect("there");
    let end = "-----END CERTIFICATE-----\n";
    let (own, _) = own.split_at(own.find(end).expect("a certificate") + end.len());
    let their_ca = std::fs::read_to_string(theirs.directory.path().join("tls/ca.pem"));
    std::fs::write(&file, format!("{own}{}", their_ca.expect("there"))).expect("written");
    let mixed = theirs.join(host.path(), None, "web-1", Role::Agent).await.expect("parses");
    let status = push(&mut theirs.client(&mixed.tls().expect("valid"))).await;
    status.expect_err("the host is foreign to the broker");
    assert!(theirs.rendered().contains("handshakes_failed_total{reason=\"refused\"}"));
}

#[tokio::test]
async fn who_stalls_or_speaks_something_else_is_closed() {
    let broker = Broker::start().await;
    let stalled = async |bytes: &[u8]| {
        let mut socket = TcpStream::connect(broker.address).await.expect("listens");
        socket.write_all(bytes).await.expect("open");
        let mut answer = Vec::new();
        let end = timeout(Duration::from_secs(3), socket.read_to_end(&mut answer)).await;
        assert!(end.is_ok(), "{bytes:?} is still open");
        String::from_utf8_lossy(&answer).into_owned()
    };
    assert_eq!(stalled(b"").await, "");
    // A record that announces more than comes.
    assert_eq!(stalled(&[0x16, 3, 1, 2, 0, 1]).await, "");
    stalled(&[0x16, 0xff, 0xff, 0xff, 0xff, 0xff]).await;
    assert_eq!(stalled(&[0, 0, 0]).await, "");
    let answer = stalled(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("https://"), "{answer}");
    let rendered = broker.rendered();
    for line in [
        "watchfire_net_connections_silent_total 1\n",
        "handshakes_failed_total{reason=\"timeout\"} 1\n",
        "handshakes_failed_total{reason=\"plain_http\"} 1\n",
        "handshakes_failed_total{reason=\"refused\"} 2\n",
    ] {
        assert!(rendered.contains(line), "{line} {rendered}");
    }
    let closed = async {
        while broker.metrics.connections_open() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(3), closed).await.expect("all are closed");
}

#[tokio::test]
async fn a_certificate_that_has_ended_or_was_never_listed_opens_nothing() {
    let broker = Broker::start().await;
    let day = Duration::from_secs(24 * 60 * 60);
    let now = SystemTime::now();
    let key = rcgen::KeyPair::generate().expect("a key");
    let request = rcgen::CertificateParams::default().serialize_request(&key).expect("signed");
    let code = async |issued_at: SystemTime| {
        let issued = broker.authority.issue_client(request.der(), "web-1", Role::Agent, issued_at);
        let pem = format!("{}{}", key.serialize_pem(), pem(&issued.expect("issued").certificate));
        let host = tempfile::tempdir().expect("a temporary directory");
        let file = host.path().join("identity.pem");
        let ca = std::fs::read_to_string(broker.directory.path().join("tls/ca.pem"));
        std::fs::write(&file, pem + &ca.expect("there")).expect("written");
        match broker.join(host.path(), None, "web-1", Role::Agent).await {
            Err(error) => error.to_string(),
            Ok(identity) => {
                let mut client = broker.client(&identity.tls().expect("valid"));
                push(&mut client).await.expect_err("not listed").to_string()
            }
        }
    };
    // The host itself sees that it has ended, and asks for a token.
    assert!(code(now - day * 31).await.contains("has ended or is for another role"));
    assert!(code(now).await.contains("revoked"), "of the authority, but not on the list");
    // Who shows it all the same is not let in.
    let ended = broker.authority.issue_client(request.der(), "web-1", Role::Agent, now - day * 31);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(broker.authority.certificate().clone()).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("valid")
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![ended.expect("issued").certificate], key)
        .expect("they belong together");
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let socket = TcpStream::connect(broker.address).await.expect("listens");
    let name = rustls_pki_types::ServerName::try_from(net::tls::BROKER_NAME).expect("a name");
    // In TLS 1.3 the client learns of it when it first reads.
    let refused = match connector.connect(name, socket).await {
        Err(error) => error.to_string(),
        Ok(mut stream) => stream.read_u8().await.expect_err("closed").to_string(),
    };
    assert!(refused.contains("CertificateExpired"), "{refused}");
}

fn pem(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}
