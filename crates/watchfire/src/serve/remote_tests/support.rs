//! Brokers and consoles of one process, which talk over real sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use broker::Broker;
use console::Brokers;
use http::{Request, StatusCode, header};
use model::{MetricBatch, TenantId};
use net::NetMetrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tower::ServiceExt;

use super::super::{
    Config, PeerPort, Routes, Security, Telling, all_routes, broker_config, console_role,
    peer_port, words,
};
use crate::cli::{Cli, Command};
use crate::config::ConsoleRole;
use crate::metrics::Telemetry;

const PEER: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 40_000);

/// A broker with ports for consoles.
pub(super) struct Stored {
    pub(super) broker: Broker,
    /// As many brokers of one cluster have: the same data and the same authority behind each.
    ports: Vec<Option<PeerPort>>,
    addresses: Vec<String>,
    /// What the process of the broker answers.
    pub(super) direct: Router,
    _directory: tempfile::TempDir,
}

/// A console.
pub(super) struct Shown {
    /// What its process answers.
    pub(super) remote: Router,
    pub(super) brokers: Brokers,
    _directory: tempfile::TempDir,
}

fn command(words: &[&str]) -> Command {
    let cli = <Cli as clap::Parser>::try_parse_from(words).expect("valid flags");
    cli.command.expect("a subcommand")
}

impl Stored {
    pub(super) async fn start(yaml: &str, ports: usize) -> Stored {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| directory.path().join(name).to_str().expect("UTF-8").to_owned();
        let file = path("watchfire.yml");
        std::fs::write(&file, yaml).expect("written");
        let (data, away) = (path("broker"), "127.0.0.1:0");
        let words = ["watchfire", "broker", "--data", &data, "--listen", away, "--config", &file];
        let Command::Broker(arguments) = command(&words) else { panic!("not a broker") };
        let config = Config::load(&arguments).expect("valid");
        let metrics = Arc::new(NetMetrics::default());
        let security = Security::open(&config, None, Arc::clone(&metrics)).expect("usable");
        let broker = Broker::open(
            broker_config(&config, governor::Governor::new(config.memory)),
            Arc::clone(&metrics),
        )
        .expect("opens");
        let telling = Telling::new(&config, false, &broker, None, None);
        let mut open = Vec::new();
        for _ in 0..ports {
            let url = "http://b:9595".to_owned();
            let alerting = || ruler::rules::rule_routes(&ruler::Seat::default());
            let reads = telling.to_consoles(&broker, &config, url, None, alerting);
            let bound = PeerPort::bind(&config, Arc::clone(&metrics)).await;
            let bound = bound.expect("listens").expect("a free port");
            let calls = peer_port::calls(&config, &security, &broker, reads);
            open.push(PeerPort::serve(bound, &config, &security, calls).expect("it serves"));
        }
        let addresses: Vec<_> = open.iter().map(|port| words::elsewhere(port.address())).collect();
        let telemetry = Telemetry::new(broker.clone(), Arc::clone(&metrics), None);
        let joins = Some(addresses[0].clone());
        let routes = all_routes(telling, &broker, telemetry, &security, joins, None, None);
        let direct = net::auth::without_login(routes.into_router());
        let ports = open.into_iter().map(Some).collect();
        Stored { broker, ports, addresses, direct, _directory: directory }
    }

    pub(super) fn address(&self, port: usize) -> String {
        self.addresses[port].clone()
    }

    /// From now on nobody answers there.
    pub(super) async fn stop_port(&mut self, port: usize) {
        self.ports[port].take().expect("it is open").stop().await;
    }

    /// A join token for a console.
    pub(super) async fn token(&self) -> String {
        let request = Request::post("/api/v1/join-tokens")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(r#"{"role":"console"}"#));
        let (status, made) = send(&self.direct, request.expect("a request")).await;
        assert_eq!(status, StatusCode::OK, "{made}");
        let made: serde_json::Value = serde_json::from_str(&made).expect("JSON");
        let command = made["data"]["command"].as_str().expect("a command");
        assert!(command.starts_with("watchfire console --broker "), "{command}");
        made["data"]["token"].as_str().expect("a token").to_owned()
    }

    pub(super) async fn ingest(&self, tenant: TenantId, batch: MetricBatch) {
        assert_eq!(self.complaint(tenant, batch).await, None);
    }

    /// Some of it may be there already, with another value.
    pub(super) async fn ingest_some(&self, batch: MetricBatch) {
        let _ = self.complaint(model::DEFAULT_TENANT, batch).await;
    }

    async fn complaint(&self, tenant: TenantId, batch: MetricBatch) -> Option<String> {
        let broker = self.broker.clone();
        let stored = tokio::task::spawn_blocking(move || {
            let (done, stored) = std::sync::mpsc::channel();
            broker.ingest(tenant, &batch, move |result| {
                let _ = done.send(result.map(|outcome| outcome.complaint()));
            });
            stored.recv().expect("answered").expect("stored")
        });
        stored.await.expect("done")
    }
}

impl Shown {
    /// `flags`: those that say which brokers are asked.
    pub(super) async fn start(flags: &[&str], yaml: &str) -> Shown {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| directory.path().join(name).to_str().expect("UTF-8").to_owned();
        let (data, file) = (path("console"), path("watchfire.yml"));
        std::fs::write(&file, yaml).expect("written");
        let words = ["watchfire", "console", "--data", &data, "--config", &file];
        let words: Vec<&str> =
            words.into_iter().chain(["--name", "console-1"]).chain(flags.iter().copied()).collect();
        let Command::Console(arguments) = command(&words) else { panic!("not a console") };
        let role = ConsoleRole::load(&arguments).expect("valid");
        let governor = governor::Governor::new(role.config.memory);
        let (brokers, _) = console_role::connect(&role, &governor).await.expect("joined");
        let metrics = Arc::new(NetMetrics::default());
        let security = Security::open(&role.config, None, Arc::clone(&metrics)).expect("usable");
        let routes: Routes = console_role::routes(&role, &brokers, governor, metrics, &security);
        let remote = net::auth::without_login(routes.into_router());
        Shown { remote, brokers, _directory: directory }
    }
}

pub(super) async fn ask(router: &Router, path: &str) -> (StatusCode, String) {
    send(router, Request::get(path).body(Body::empty()).expect("a request")).await
}

/// The answer to a GET as JSON, which is a success.
pub(super) async fn json(router: &Router, path: &str) -> serde_json::Value {
    let (status, body) = ask(router, path).await;
    assert_eq!(status, StatusCode::OK, "{path}: {body}");
    serde_json::from_str(&body).expect("JSON")
}

pub(super) async fn send(router: &Router, mut request: Request<Body>) -> (StatusCode, String) {
    request.extensions_mut().insert(ConnectInfo(PEER));
    let answer = router.clone().oneshot(request).await.expect("answers");
    let status = answer.status();
    let body = axum::body::to_bytes(answer.into_body(), 64 << 20).await.expect("a body");
    (status, String::from_utf8(body.to_vec()).expect("text"))
}

/// A way to a broker, which can end, or go silent without being closed.
pub(super) struct Way {
    pub(super) address: String,
    is_silent: Arc<AtomicBool>,
    serving: JoinHandle<()>,
}

impl Way {
    pub(super) async fn to(target: String) -> Way {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let is_silent = Arc::<AtomicBool>::default();
        let silent = Arc::clone(&is_silent);
        let serving = tokio::spawn(async move {
            // They end with this task.
            let mut carrying = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(&target).await else { continue };
                let ((near_in, near_out), (far_in, far_out)) =
                    (near.into_split(), far.into_split());
                carrying.spawn(carry(near_in, far_out, Arc::clone(&silent)));
                carrying.spawn(carry(far_in, near_out, Arc::clone(&silent)));
            }
        });
        Way { address, is_silent, serving }
    }

    pub(super) fn set_silent(&self, is_silent: bool) {
        self.is_silent.store(is_silent, Ordering::Relaxed);
    }

    /// As when a broker dies: connections break, and no new one is taken.
    pub(super) fn cut(&self) {
        self.serving.abort();
    }
}

async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    is_silent: Arc<AtomicBool>,
) {
    let mut piece = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut piece).await {
        while is_silent.load(Ordering::Relaxed) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        if to.write_all(&piece[..count]).await.is_err() {
            return;
        }
    }
}
