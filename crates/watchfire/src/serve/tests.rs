//! Every route times every kind of caller.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use broker::Broker;
use http::{Method, Request, StatusCode, header};
use net::auth::{Scope, Scopes};
use net::{Access, NetMetrics, Route};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::cli::{Cli, Command};
use crate::config::ConsoleRole;

pub(super) struct Served {
    pub(super) router: Router,
    table: Vec<Route>,
    /// Scopes and a token that has them; the first has none and no token.
    pub(super) callers: Vec<(Scopes, Option<String>)>,
    /// None where the process is a console.
    broker: Option<Broker>,
    directory: tempfile::TempDir,
}

impl Served {
    pub(super) fn stop(self) {
        if let Some(broker) = self.broker {
            broker.stop();
        }
    }
}

const PEER: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7)), 40_000);

async fn serve_with_login() -> Served {
    serve_in(tempfile::tempdir().expect("a temporary directory")).await
}

async fn serve_in(directory: tempfile::TempDir) -> Served {
    serve_by(directory, &[]).await
}

/// With flags besides those that every server here has.
pub(super) async fn serve_by(directory: tempfile::TempDir, flags: &[&str]) -> Served {
    let data = directory.path().to_str().expect("UTF-8");
    let words = ["watchfire", "broker", "--data", data, "--listen", "0.0.0.0:0"];
    let words = words.iter().chain(flags);
    let Some(Command::Broker(arguments)) =
        <Cli as clap::Parser>::try_parse_from(words).expect("valid flags").command
    else {
        panic!("not a broker")
    };
    let config = Config::load(&arguments).expect("a valid configuration");
    assert!(config.needs_login, "an open address needs a login");
    let metrics = Arc::new(NetMetrics::default());
    let security =
        Security::open(&config, None, Arc::clone(&metrics)).expect("the directory is usable");
    let broker = Broker::open(
        broker_config(&config, governor::Governor::new(config.memory)),
        Arc::clone(&metrics),
    )
    .expect("a store");
    let telemetry = Telemetry::new(broker.clone(), Arc::clone(&metrics), None);
    let telling = Telling::new(&config, false, &broker, None, None);
    let nobody = ruler::Seat::default();
    let of_alerting = alerting::routes(&nobody, &broker, "http://h:1".to_owned(), 0, metrics);
    let routes =
        all_routes(telling, &broker, telemetry, &security, Some(PEER.to_string()), None, None)
            .merge(of_alerting);
    with_callers(routes, &security, Some(broker), directory).await
}

async fn serve_console_with_login() -> Served {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let data = directory.path().to_str().expect("UTF-8");
    let words = ["watchfire", "console", "--data", data, "--listen", "0.0.0.0:0"];
    // Nobody answers there.
    let words = words.into_iter().chain(["--broker", "127.0.0.1:9"]);
    let Some(Command::Console(arguments)) =
        <Cli as clap::Parser>::try_parse_from(words).expect("valid flags").command
    else {
        panic!("not a console")
    };
    let role = ConsoleRole::load(&arguments).expect("a valid configuration");
    assert!(role.config.needs_login, "an open address needs a login");
    let metrics = Arc::new(NetMetrics::default());
    let security = Security::open(&role.config, None, Arc::clone(&metrics)).expect("usable");
    let governor = governor::Governor::unlimited();
    let brokers = console::Brokers::new(console::RemoteSettings {
        clusters: vec![console::ClusterSettings {
            name: String::new(),
            brokers: role.clusters[0].brokers.clone(),
            tls: net::tls::ClientTls::pinning("ab".repeat(32).parse().expect("valid"))
                .expect("valid"),
        }],
        cluster_label: None,
        limits: role.config.limits.clone(),
        tenants: std::collections::BTreeMap::new(),
        max_query_bytes: role.config.max_query_bytes,
        governor: Arc::clone(&governor),
    });
    let brokers = brokers.expect("valid addresses");
    let routes = console_role::routes(&role, &brokers, governor, metrics, &security);
    with_callers(routes, &security, None, directory).await
}

async fn with_callers(
    routes: Routes,
    security: &Security,
    broker: Option<Broker>,
    directory: tempfile::TempDir,
) -> Served {
    let table = routes.table().to_vec();
    let router = security.guard(routes.into_router());
    let local = security.accounts.local_token().reveal().to_owned();
    let mut callers = vec![(Scopes::NONE, None)];
    for scope in [Scope::Read, Scope::Write, Scope::Admin] {
        let body = format!(r#"{{"name":"t","scopes":["{scope}"]}}"#);
        let request = request(&Method::POST, "/api/v1/tokens", Some(&local), &body);
        let answer = router.clone().oneshot(request).await.expect("answers");
        assert_eq!(answer.status(), StatusCode::OK, "a {scope} token is made");
        let bytes = axum::body::to_bytes(answer.into_body(), 1 << 16).await.expect("a body");
        let made: Value = serde_json::from_slice(&bytes).expect("JSON");
        let token = made["data"]["token"].as_str().expect("the token").to_owned();
        callers.push(([scope].into_iter().collect(), Some(token)));
    }
    Served { router, table, callers, broker, directory }
}

pub(super) fn request(
    method: &Method,
    path: &str,
    token: Option<&str>,
    body: &str,
) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    request = request.header(header::CONTENT_TYPE, "application/json");
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let mut request = request.body(Body::from(body.to_owned())).expect("a request");
    request.extensions_mut().insert(ConnectInfo(PEER));
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_lets_in_whom_it_should_and_nobody_else() {
    let (broker, console) = (serve_with_login().await, serve_console_with_login().await);
    assert!(broker.table.len() > 40, "{} routes", broker.table.len());
    // A console refuses what it cannot do, so that nobody reads "not found" and looks elsewhere.
    let other: Vec<_> = broker.table.iter().filter(|one| !console.table.contains(one)).collect();
    assert!(other.is_empty() && console.table.len() == broker.table.len(), "{other:?}");
    for served in [broker, console] {
        everybody_is_met(served).await;
    }
}

async fn everybody_is_met(served: Served) {
    for route in &served.table {
        let methods =
            if route.methods.is_empty() { vec![Method::GET] } else { route.methods.clone() };
        // What stands for a parameter exists nowhere, so that nothing is changed by asking.
        let path = route.path.replace("{*", "{").replace('*', "/nowhere");
        let path: String =
            path.split('{').map(|part| part.split_once('}').map_or(part, |(_, rest)| rest)).fold(
                String::new(),
                |path, part| {
                    if path.is_empty() { part.to_owned() } else { path + "x" + part }
                },
            );
        for method in methods {
            for (scopes, token) in &served.callers {
                let request = request(&method, &path, token.as_deref(), "");
                let answer = served.router.clone().oneshot(request).await.expect("answers");
                let status = answer.status();
                let is_refused = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
                let may = route.access.scope().is_none_or(|scope| scopes.contains(scope));
                let what = format!("{method} {path} ({}) by {scopes:?}: {status}", route.access);
                if may {
                    // Logging in with nothing is refused by the route itself.
                    assert!(!is_refused || route.access == Access::Public, "{what}");
                } else {
                    let wanted = match token {
                        None => StatusCode::UNAUTHORIZED,
                        Some(_) => StatusCode::FORBIDDEN,
                    };
                    assert_eq!(status, wanted, "{what}");
                }
            }
        }
    }
    served.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_holds_no_data_is_public() {
    let served = serve_with_login().await;
    let public: Vec<_> = served
        .table
        .iter()
        .filter(|route| route.access == Access::Public)
        .map(|route| route.path.as_str())
        .collect();
    let mut sorted = public.clone();
    sorted.sort_unstable();
    assert_eq!(
        sorted,
        [
            "*",
            "/-/healthy",
            "/-/ready",
            "/alertmanager/-/ready",
            "/api",
            "/api/",
            "/api/v1/login",
            "/api/v1/logout",
            "/api/v1/password",
            "/api/v1/setup",
            "/api/v1/whoami",
            "/api/{*rest}",
            "/health",
            "/influx/health",
            "/influx/ping",
            "/influx/query",
            "/ping",
            "/query",
            "/ready",
        ]
    );
    served.stop();
}

/// A path with each parameter as `<>`, in code `{name}` and in the document `<name>`.
fn without_parameters(path: &str, open: char, close: char) -> String {
    let mut out = String::new();
    let mut rest = path;
    while let Some((before, behind)) = rest.split_once(open) {
        out.push_str(before);
        out.push_str("<>");
        rest = behind.split_once(close).map_or("", |(_, rest)| rest);
    }
    out + rest
}

/// `/a/{b,c}` is `/a/b` and `/a/c`.
fn alternatives(path: &str) -> Vec<String> {
    match path.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?))) {
        Some((before, (choices, behind))) if choices.contains(',') => {
            choices.split(',').map(|choice| format!("{before}{choice}{behind}")).collect()
        }
        _ => vec![path.to_owned()],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_is_documented_and_no_other() {
    let served = serve_with_login().await;
    let there: BTreeSet<String> = served
        .table
        .iter()
        .map(|route| without_parameters(&route.path, '{', '}'))
        // The catch-all of unknown paths, and the grouping key, which is more than one segment.
        .filter(|path| {
            path != "*" && !["/api", "/api/", "/api/<>", "/metrics/<>"].contains(&&**path)
        })
        .collect();
    let pages = [
        include_str!("../../../../docs/operating/api.md"),
        include_str!("../../../../docs/operating/logs-reading.md"),
    ];
    let documented: BTreeSet<String> = pages
        .iter()
        .flat_map(|page| page.split('`').skip(1).step_by(2))
        .flat_map(|code| code.split(' '))
        .filter(|word| word.starts_with('/') && !["/", "/api", "/api/v1"].contains(word))
        .flat_map(|path| alternatives(path.trim_end_matches([',', '.'])))
        .map(|path| without_parameters(&path, '<', '>'))
        .collect();
    let missing: Vec<_> = there.difference(&documented).collect();
    assert!(missing.is_empty(), "docs/operating/api.md and logs-reading.md lack {missing:?}");
    for path in &documented {
        let path = path.replace("<>", "x").replace("/x{/x/x}", "/x");
        let request = request(&Method::GET, &path, None, "");
        let status = served.router.clone().oneshot(request).await.expect("answers").status();
        assert_ne!(
            status,
            StatusCode::NOT_FOUND,
            "{path} is documented and there is no such route"
        );
    }
    served.stop();
}

impl Served {
    /// Asks as who has `scope`.
    async fn ask(&self, method: Method, path: &str, scope: Scope, body: &str) -> (u16, Value) {
        let wanted: Scopes = [scope].into_iter().collect();
        let caller = self.callers.iter().find(|(scopes, _)| *scopes == wanted).expect("there is");
        let request = request(&method, path, caller.1.as_deref(), body);
        let answer = self.router.clone().oneshot(request).await.expect("answers");
        let status = answer.status().as_u16();
        let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20).await.expect("a body");
        (status, serde_json::from_slice(&bytes).expect("JSON"))
    }

    async fn put_view(&self, name: &str, body: Value) -> (u16, Value) {
        let path = format!("/api/v1/views/{name}");
        self.ask(Method::PUT, &path, Scope::Write, &body.to_string()).await
    }

    async fn views(&self) -> Vec<Value> {
        let (status, answer) = self.ask(Method::GET, "/api/v1/views", Scope::Read, "").await;
        assert_eq!(status, 200, "{answer}");
        answer["data"]["views"].as_array().expect("a list").clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn saved_views_are_shared_versioned_and_survive_a_restart() {
    let served = serve_with_login().await;
    let body = |params: &str| json!({ "page": "hosts", "params": params });
    let (status, answer) = served.put_view("full%20disks%2F%E7%A3%81", body("sort=disk")).await;
    assert_eq!((status, &answer["data"]["changed_by"]), (200, &json!("t")), "{answer}");
    let first = answer["data"]["version"].as_u64().expect("a version");
    served.put_view("all", body("")).await;
    let names: Vec<Value> = served.views().await.iter().map(|view| view["name"].clone()).collect();
    assert_eq!(names, [json!("all"), json!("full disks/磁")]);

    // Two people who change the same one: the second is told.
    let replacing =
        |version: u64| json!({ "page": "hosts", "params": "sort=cpu", "version": version });
    let (status, answer) = served.put_view("full%20disks%2F%E7%A3%81", replacing(0)).await;
    assert_eq!(status, 409, "there is one of that name: {answer}");
    let (status, answer) = served.put_view("full%20disks%2F%E7%A3%81", replacing(first)).await;
    assert_eq!(status, 200, "{answer}");
    let (status, answer) = served.put_view("full%20disks%2F%E7%A3%81", replacing(first)).await;
    assert_eq!(status, 409, "{answer}");

    let served = restart(served).await;
    let views = served.views().await;
    assert_eq!((views.len(), &views[1]["params"]), (2, &json!("sort=cpu")));
    let (status, _) = served.ask(Method::DELETE, "/api/v1/views/all", Scope::Write, "").await;
    assert_eq!(status, 200);
    let (status, _) = served.ask(Method::DELETE, "/api/v1/views/all", Scope::Write, "").await;
    assert_eq!(status, 404);
    let served = restart(served).await;
    assert_eq!(served.views().await.len(), 1);
    served.stop();
}

async fn restart(served: Served) -> Served {
    let Served { router, broker, directory, .. } = served;
    drop(router);
    let broker = broker.expect("the process of a broker");
    broker.stop();
    // The last handle lets go of the directory.
    drop(broker);
    serve_in(directory).await
}

#[tokio::test(flavor = "multi_thread")]
async fn saved_views_have_limits() {
    let served = serve_with_login().await;
    let long_name = "n".repeat(81);
    let long_params = "q".repeat(4097);
    for (name, page, params, told) in [
        (long_name.as_str(), "hosts", "", "1 to 80"),
        ("%20a", "hosts", "", "space"),
        ("a%0Ab", "hosts", "", "control"),
        ("a", "../evil", "", "small letters"),
        ("a", "", "", "small letters"),
        ("a", "hosts", long_params.as_str(), "the limit is 4096"),
        ("a", "hosts", "q=\n", "control"),
    ] {
        let body = json!({ "page": page, "params": params });
        let (status, answer) = served.put_view(name, body).await;
        let error = answer["error"].as_str().unwrap_or_default();
        assert!(status == 400 && error.contains(told), "{name} {page}: {status} {answer}");
    }
    for n in 0..500 {
        let (status, answer) =
            served.put_view(&format!("v{n}"), json!({ "page": "hosts", "params": "" })).await;
        assert_eq!(status, 200, "{answer}");
    }
    let body = json!({ "page": "hosts", "params": "sort=cpu" });
    let (status, answer) = served.put_view("one-more", body.clone()).await;
    assert!(
        status == 409 && answer["error"].as_str().is_some_and(|e| e.contains("500")),
        "{answer}"
    );
    let (status, answer) = served.put_view("v7", body).await;
    assert_eq!(status, 200, "one of them may still change: {answer}");
    served.stop();
}
