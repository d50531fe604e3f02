//! A broker behind its peer port, with mutual TLS.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::routing::{get, post};
use blockstore::MemoryDisk;
use broker::Broker;
use broker::rpc::{BrokerFacts, ReadSettings, ingest_service, read_service};
use net::auth::{Actor, CredentialStore, FileStore, JoinTokens, Principal};
use net::tls::{MutualTls, ServerCertificate};
use net::{Authority, Enrollment, Identity, Peers, Role, Server};
use tokio::sync::oneshot;

use super::{NEVER_MS, config, open_on};

pub(crate) struct Site {
    directory: tempfile::TempDir,
    pub(crate) disk: Arc<MemoryDisk>,
    pub(crate) broker: Broker,
    pub(crate) address: SocketAddr,
    tokens: JoinTokens,
    pub(crate) peers: Arc<Peers>,
    _stop: oneshot::Sender<()>,
}

pub(crate) fn admin() -> Actor {
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    Actor { principal: Principal::anonymous(), address }
}

impl Site {
    pub(crate) async fn start(now_ms: fn() -> i64) -> Site {
        Self::start_on(Arc::new(MemoryDisk::new()), now_ms).await
    }

    pub(crate) async fn start_on(disk: Arc<MemoryDisk>, now_ms: fn() -> i64) -> Site {
        let broker = open_on(&disk, config("unused".as_ref(), now_ms, NEVER_MS));
        Self::with_broker(disk, broker).await
    }

    pub(crate) async fn with_broker(disk: Arc<MemoryDisk>, broker: Broker) -> Site {
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
        let ingest = ingest_service(&broker, "broker-1".to_owned(), enrollment);
        let read = read_service(&broker, reads());
        let services = tonic::service::Routes::new(ingest).add_service(read);
        let bound = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a port");
        let address = bound.local_addr();
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(bound.serve_rpc(tls, services, async move {
            let _ = stopped.await;
        }));
        Site { directory, disk, broker, address, tokens, peers, _stop: stop }
    }

    /// Joins as the agent `name`, or comes back with the certificate of that name.
    pub(crate) async fn join(&self, name: &str) -> Arc<Identity> {
        self.join_as(name, Role::Agent).await
    }

    pub(crate) async fn join_as(&self, name: &str, role: Role) -> Arc<Identity> {
        let (life, now) = (Duration::from_secs(60), SystemTime::now());
        let token = self.tokens.create(role, 1, life, &admin(), now).expect("made").0;
        let token = Some(token.reveal().to_owned());
        let host = self.directory.path().join(name);
        let target = self.address.to_string();
        let joined = Identity::load_or_join(&host, &target, token.as_deref(), name, role).await;
        joined.expect("joined")
    }
}

/// What a console may ask besides the store.
fn reads() -> ReadSettings {
    let facts = || BrokerFacts {
        name: "broker-1".to_owned(),
        retention: "15d".to_owned(),
        external_labels: BTreeMap::from([("dc".to_owned(), "east".to_owned())]),
        url: "https://broker.example:9595".to_owned(),
    };
    let long = "a page ".repeat(200_000);
    let pages = Router::new().route("/long", get(async move || long));
    let of_alerting = Router::new().route("/api/v2/silences", post(async |body: String| body));
    ReadSettings { max_concurrent: 2, facts: Box::new(facts), pages, of_alerting }
}
