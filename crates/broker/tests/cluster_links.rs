//! Three brokers over real sockets: they join by token, agree over mutual TLS, and nobody else gets a
//! word in.

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use blockstore::MemoryDisk;
use broker::cluster::{CatalogFeed, Links, cluster_service};
use broker::rpc::ingest_service;
use bytes::Bytes;
use catalog::{BrokerId, CatalogError, Command, Expected, Outcome, State, StoreId};
use consensus::{Consensus, ConsensusConfig, Member, Observer, Transport, TransportError};
use net::auth::{Actor, CredentialStore, FileStore, JoinTokens, Principal};
use net::tls::{MutualTls, ServerCertificate};
use net::{Authority, Enrollment, Identity, IdentityError, Peers, Role, Server};
use support::*;
use tokio::sync::oneshot;

clock!(CLOCK, now_ms);

const PATIENCE: Duration = Duration::from_secs(20);

struct Nobody;

impl Observer for Nobody {
    fn applied(&self, _: &Command, _: &Result<Outcome, CatalogError>, _: &State) {}
    fn replaced(&self, _: &State) {}
}

/// A broker's peer port and its part in the consensus.
struct Site {
    directory: tempfile::TempDir,
    identity: Arc<Identity>,
    tokens: JoinTokens,
    peers: Arc<Peers>,
    consensus: Consensus,
    member: Member,
    stop: oneshot::Sender<()>,
}

impl Site {
    /// The first of a cluster, or one that joins at `seed`.
    async fn start(id: u64, seed: Option<&Site>) -> Site {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (tls, name) = (directory.path().join("tls"), format!("broker-{id}"));
        if let Some(seed) = seed {
            let joined =
                seed.let_in(&tls, &name, Role::Broker).await.expect("a token of that role");
            assert_eq!(*joined.name(), *name);
        }
        let now = SystemTime::now();
        let authority = Arc::new(Authority::open(&tls, now).expect("the authority"));
        let store = FileStore::open(&directory.path().join("credentials")).expect("empty");
        let store: Arc<dyn CredentialStore> = Arc::new(store);
        let tokens = JoinTokens::new(Arc::clone(&store), authority.fingerprint());
        let peers = Peers::new(store);
        peers.trust_brokers(true);
        let identity =
            Identity::issue_own(&tls, &name, &authority, &peers, now).expect("a certificate");
        let certificate =
            ServerCertificate::issued(Arc::clone(&authority), Vec::new(), now).expect("issued");
        let enrollment =
            Enrollment::new(tokens.clone(), Arc::clone(&authority), Arc::clone(&peers));
        let bound = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a port");
        let address = bound.local_addr().to_string();
        let member = Member { name, address, zone: String::new() };
        let links = Arc::new(Links::new(&identity).expect("a sound certificate"));
        let disk = Arc::new(MemoryDisk::new());
        let settings = ConsensusConfig::new(id, member.clone());
        let on_failure = Arc::new(|error: &consensus::Failure<'_>| panic!("{error}"));
        let consensus = Consensus::start(disk, settings, links, Arc::new(Nobody), on_failure);
        let consensus = consensus.await.expect("a sound disk");
        let store = config(Path::new("unused"), now_ms, NEVER_MS);
        let store = open_on(&Arc::new(MemoryDisk::new()), store);
        let ingest = ingest_service(&store, member.name.clone(), enrollment);
        let services = tonic::service::Routes::new(ingest)
            .add_service(cluster_service(consensus.clone(), CatalogFeed::new(BrokerId(id))));
        let mutual = MutualTls::new(certificate, &authority, Arc::clone(&peers)).expect("valid");
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(bound.serve_rpc(mutual, services, async move {
            let _ = stopped.await;
        }));
        match seed {
            None => consensus.begin().await.expect("begins"),
            Some(seed) => {
                let seeds = [seed.member.clone()];
                consensus.join(&seeds, PATIENCE).await.expect("admitted");
            }
        }
        Site { directory, identity, tokens, peers, consensus, member, stop }
    }

    async fn let_in(
        &self,
        tls: &Path,
        name: &str,
        role: Role,
    ) -> Result<Arc<Identity>, IdentityError> {
        let token = self.token(role);
        Identity::load_or_join(tls, &self.member.address, Some(&token), name, role).await
    }

    fn token(&self, role: Role) -> String {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let admin = Actor { principal: Principal::anonymous(), address };
        let (life, now) = (Duration::from_secs(60), SystemTime::now());
        self.tokens.create(role, 1, life, &admin, now).expect("made").0.reveal().to_owned()
    }

    async fn put(&self, key: &str) -> Result<Outcome, consensus::ProposeError> {
        let (key, value) = (key.to_owned(), b"value".to_vec());
        self.consensus.propose(Command::Put { key, value, expected: Expected::Any }, PATIENCE).await
    }

    fn has(&self, key: &str) -> bool {
        self.consensus.read(|state| state.get(key).is_some())
    }
}

async fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let end = tokio::time::Instant::now() + PATIENCE;
    while !is_so() {
        assert!(tokio::time::Instant::now() < end, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_brokers_agree_and_one_may_go() {
    let first = Site::start(1, None).await;
    first.put("one").await.expect("alone it is a majority");
    let second = Site::start(2, Some(&first)).await;
    // The token was good for one: the next one needs another, and any broker knows the way.
    let third = Site::start(3, Some(&first)).await;
    let sites = [&first, &second, &third];
    wait_until("all have votes", || {
        let voters = |site: &&Site| {
            let status = site.consensus.status();
            status
                .members
                .values()
                .filter(|(_, voting)| *voting == consensus::Voting::Voter)
                .count()
        };
        sites.iter().all(|site| voters(site) == 3)
    })
    .await;
    let links = Links::new(&second.identity).expect("a sound certificate");
    let about = links.about(&first.member.address, PATIENCE).await.expect("a broker asks");
    assert_eq!(
        (about.name.as_str(), about.cluster.len()),
        ("broker-1", 0),
        "no store is named yet"
    );
    let store = Command::CreateStore { store: StoreId([7; 16]) };
    first.consensus.propose(store, PATIENCE).await.expect("a leader");
    let about = links.about(&first.member.address, PATIENCE).await.expect("a broker asks");
    assert_eq!(about.cluster, [7; 16][..]);
    // Whoever is asked passes it on.
    for (site, key) in [(&second, "two"), (&third, "three")] {
        site.put(key).await.expect("a majority");
        assert!(site.has(key), "an outcome comes when it is applied here");
    }
    for key in ["one", "two", "three"] {
        wait_until("all have all", || sites.iter().all(|site| site.has(key))).await;
    }

    // Without its leader the others go on, soon.
    let Site { consensus, stop, .. } = first;
    consensus.stop().await;
    drop(stop);
    let began = tokio::time::Instant::now();
    second.put("four").await.expect("two of three are a majority");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    wait_until("the third has it", || third.has("four")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_but_brokers_gets_a_word_in() {
    let first = Site::start(1, None).await;
    let request = || Bytes::from_static(b"not of the protocol");
    let ask = |identity: &Arc<Identity>, to: u64, address: &str| {
        let links = Links::new(identity).expect("a sound certificate");
        let member = Member { address: address.to_owned(), ..Member::default() };
        let call = links.call(to, &member, request(), PATIENCE);
        async move { call.await.map(|_| ()) }
    };
    let address = first.member.address.clone();
    for role in [Role::Agent, Role::Console] {
        let host = first.directory.path().join(role.as_str());
        let identity = first.let_in(&host, "host", role).await.expect("a token of that role");
        let refused = ask(&identity, 1, &address).await.expect_err("not a broker");
        let TransportError::Unreached(words) = refused else { panic!("{refused:?}") };
        assert!(words.contains("which is for broker"), "{words}");
        assert!(!host.join("ca-key.pem").exists(), "only brokers get the key");
        // Nor does a token for one role make a broker.
        let token = first.token(role);
        let other = first.directory.path().join("other");
        let joined =
            Identity::load_or_join(&other, &address, Some(&token), "x", Role::Broker).await;
        assert!(joined.expect_err("of another role").to_string().contains("token"));
        assert!(!other.join("ca-key.pem").exists());
    }
    // Bytes that are none of a member's are answered, and change nothing.
    ask(&first.identity, 1, &address).await.expect("an answer");
    let wrong = ask(&first.identity, 7, &address).await.expect_err("another member is meant");
    assert!(wrong.to_string().contains("not broker 7"), "{wrong}");
    // Nobody there.
    let gone = ask(&first.identity, 1, "127.0.0.1:1").await.expect_err("nobody listens");
    assert!(matches!(gone, TransportError::Unreached(_)), "{gone:?}");

    // Another installation's broker is a stranger.
    let stranger = Site::start(1, None).await;
    let refused = ask(&stranger.identity, 1, &address).await.expect_err("of another authority");
    assert!(matches!(refused, TransportError::Unreached(_)), "{refused:?}");
    // … and does not become one of ours with the data it has.
    let tls = stranger.directory.path().join("tls");
    std::fs::remove_file(tls.join("identity.pem")).expect("it is there");
    let joined =
        first.let_in(&tls, "stranger", Role::Broker).await.expect_err("it has an authority");
    assert!(joined.to_string().contains("another installation"), "{joined}");

    // One whose certificate has ended makes the next by itself; it is on no list, and need not be.
    let tls = first.directory.path().join("tls");
    std::fs::remove_file(tls.join("identity.pem")).expect("it is there");
    let now = SystemTime::now();
    let authority = Authority::open(&tls, now).expect("the authority");
    let unlisted = Identity::issue_unlisted(&tls, "broker-1", &authority, now).expect("issued");
    assert_ne!(unlisted.expires_ms(), 0);
    ask(&unlisted, 1, &address).await.expect("an answer");
    let again = Identity::issue_unlisted(&tls, "broker-1", &authority, now).expect("kept");
    assert_eq!(again.expires_ms(), unlisted.expires_ms());

    // A broker that is sent away is not heard any more, once the list is complete.
    let tls = first.directory.path().join("second");
    let second = first.let_in(&tls, "second", Role::Broker).await.expect("joins");
    ask(&second, 1, &address).await.expect("an answer");
    first.peers.trust_brokers(false);
    ask(&second, 1, &address).await.expect("it is on the list");
    let address_of = SocketAddr::from(([127, 0, 0, 1], 1));
    let admin = Actor { principal: Principal::anonymous(), address: address_of };
    assert!(first.peers.revoke("second", &admin).expect("written"));
    let refused = ask(&second, 1, &address).await.expect_err("revoked");
    assert!(refused.to_string().contains("revoked"), "{refused}");
}
