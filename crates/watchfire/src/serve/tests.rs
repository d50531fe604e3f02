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
use tower::ServiceExt;

use super::*;
use crate::cli::{Cli, Command};

struct Served {
    router: Router,
    table: Vec<Route>,
    /// Scopes and a token that has them; the first has none and no token.
    callers: Vec<(Scopes, Option<String>)>,
    broker: Broker,
    _directory: tempfile::TempDir,
}

const PEER: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7)), 40_000);

async fn serve_with_login() -> Served {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let data = directory.path().to_str().expect("UTF-8");
    let words = ["watchfire", "broker", "--data", data, "--listen", "0.0.0.0:0"];
    let Some(Command::Broker(arguments)) =
        <Cli as clap::Parser>::try_parse_from(words).expect("valid flags").command
    else {
        panic!("not a broker")
    };
    let config = Config::load(&arguments).expect("a valid configuration");
    assert!(config.needs_login, "an open address needs a login");
    let metrics = Arc::new(NetMetrics::default());
    let security = Security::open(&config, Arc::clone(&metrics)).expect("the directory is usable");
    let broker = Broker::open(broker_config(&config), Arc::clone(&metrics)).expect("a store");
    let telemetry = Telemetry::new(broker.clone(), metrics, None);
    let routes =
        all_routes(&config, false, &broker, telemetry, &security, Some(PEER.to_string()), None);
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
        let made: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
        let token = made["data"]["token"].as_str().expect("the token").to_owned();
        callers.push(([scope].into_iter().collect(), Some(token)));
    }
    Served { router, table, callers, broker, _directory: directory }
}

fn request(method: &Method, path: &str, token: Option<&str>, body: &str) -> Request<Body> {
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
    let served = serve_with_login().await;
    assert!(served.table.len() > 40, "{} routes", served.table.len());
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
    served.broker.stop();
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
            "/api",
            "/api/",
            "/api/v1/login",
            "/api/v1/logout",
            "/api/v1/password",
            "/api/v1/setup",
            "/api/v1/whoami",
            "/api/{*rest}",
        ]
    );
    served.broker.stop();
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
    let page = include_str!("../../../../docs/operating/api.md");
    let documented: BTreeSet<String> = page
        .split('`')
        .skip(1)
        .step_by(2)
        .flat_map(|code| code.split(' '))
        .filter(|word| word.starts_with('/') && !["/", "/api", "/api/v1"].contains(word))
        .flat_map(|path| alternatives(path.trim_end_matches([',', '.'])))
        .map(|path| without_parameters(&path, '<', '>'))
        .collect();
    let missing: Vec<_> = there.difference(&documented).collect();
    assert!(missing.is_empty(), "docs/operating/api.md lacks {missing:?}");
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
    served.broker.stop();
}
