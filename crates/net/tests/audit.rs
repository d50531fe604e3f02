//! What the audit log says. Alone in its program: what is logged belongs to all its threads.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use base64::Engine;
use http::{Method, Request, header};
use net::auth::{Accounts, Actor, FileStore, Principal, Scope, SessionLife, Tenants};
use net::{Access, Routes};
use settings::Secret;
use tower::ServiceExt;

const PASSWORD: &str = "a long enough password";

/// What was logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn ask(router: &Router, authorization: &str) -> u16 {
    let mut request = Request::get("/read")
        .header(header::AUTHORIZATION, authorization)
        .body(Body::empty())
        .expect("a valid request");
    request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([192, 0, 2, 1], 7))));
    router.clone().oneshot(request).await.expect("a router always answers").status().as_u16()
}

#[tokio::test]
async fn the_audit_log_says_who_did_what_and_no_secret() {
    let lines = Lines::default();
    let writer = lines.clone();
    tracing_subscriber::fmt()
        .with_env_filter("audit=info")
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = FileStore::open(&directory.path().join("credentials")).expect("empty");
    let accounts = Accounts::new(Arc::new(store), SessionLife::default(), Arc::default());
    let routes = Routes::new().route("/read", [Method::GET], Access::Read, async || "x");
    let router = accounts.layer(routes.into_router());
    let from = SocketAddr::from(([127, 0, 0, 1], 1));
    let by = Actor { principal: Principal::anonymous(), address: from };
    let scopes = |scope: Scope| [scope].into_iter().collect();

    let password = Secret::new(PASSWORD);
    let made = accounts
        .create_user("root", password.clone(), scopes(Scope::Admin), Tenants::All, &by)
        .await;
    made.expect("made");
    let session = accounts.log_in("root", &password, from, true).await.expect("right");
    let made = accounts.create_token("ci", scopes(Scope::Read), Tenants::All, None, &by).await;
    let (token, shown) = made.expect("made");
    assert!(accounts.revoke_token(&shown.id, &by).await.expect("written"));
    let bearer = format!("Bearer {}", token.reveal());
    for _ in 0..20 {
        assert_eq!(ask(&router, &bearer).await, 401);
    }
    let guess = format!("{}:canary password", "x".repeat(500));
    let guess = base64::engine::general_purpose::STANDARD.encode(guess);
    assert_eq!(ask(&router, &format!("Basic {guess}")).await, 401);

    let log = String::from_utf8(lines.0.lock().expect("no panic").clone()).expect("text");
    let id = &shown.id;
    for told in [
        "event=\"user_created\" what=\"root [admin] *\" by=\"anonymous\"",
        "event=\"login\" user=\"root\" from=127.0.0.1:1",
        &format!("event=\"token_created\" what=\"{id} "),
        &format!("event=\"token_revoked\" what=\"{id} "),
        "event=\"refused\" what=\"token\" user=\"\" from=192.0.2.1:7",
        "event=\"refused\" what=\"login\"",
    ] {
        assert!(log.contains(told), "{told} is not in {log}");
    }
    let told = log.matches("what=\"token\"").count();
    assert_eq!(told, 5, "a stranger cannot fill the log: {log}");
    assert!(!log.contains(&"x".repeat(65)), "{log}");
    let cookie = session.cookie.to_str().expect("text");
    let session = cookie.split(['=', ';']).nth(1).expect("a value");
    for secret in [token.reveal(), session, PASSWORD, "canary", "wft_", "wfl_", "argon2"] {
        assert!(!log.contains(secret), "{secret} is in {log}");
    }
}
