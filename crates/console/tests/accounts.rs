//! Login, users, tokens and joining over the routes of the console.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use console::Joining;
use http::{Request, header};
use http_body_util::BodyExt;
use net::auth::{Accounts, CredentialStore, FileStore, JoinToken, JoinTokens, SessionLife};
use net::{Access, NetMetrics, Peers, Route};
use serde_json::{Value, json};
use tower::ServiceExt;

const PASSWORD: &str = "a long enough password";
const ORIGIN: &str = "http://console.example";

struct Console {
    _directory: tempfile::TempDir,
    accounts: Arc<Accounts>,
    router: Router,
    open: Router,
    table: Vec<Route>,
}

impl Console {
    fn new() -> Console {
        Console::of(true)
    }

    fn of(is_cluster: bool) -> Console {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = FileStore::open(&directory.path().join("credentials")).expect("empty");
        let store: Arc<dyn CredentialStore> = Arc::new(store);
        let metrics = Arc::new(NetMetrics::default());
        let accounts = Accounts::new(Arc::clone(&store), SessionLife::default(), metrics);
        let joining = Joining {
            tokens: JoinTokens::new(
                Arc::clone(&store),
                "ab".repeat(32).parse().expect("a fingerprint"),
            ),
            peers: Peers::new(store),
            broker: "broker.example:9596".to_owned(),
            is_cluster,
        };
        let routes =
            || console::account_routes(&accounts).merge(console::joining_routes(joining.clone()));
        let table = routes().table().to_vec();
        let router = accounts.layer(routes().into_router());
        let open = accounts.open_layer(routes().into_router());
        Console { _directory: directory, accounts, router, open, table }
    }

    async fn ask(
        &self,
        method: &str,
        path: &str,
        credential: (&str, &str),
        body: Option<Value>,
    ) -> (u16, Value, Option<String>) {
        let mut request = Request::builder().method(method).uri(path);
        request = request.header(header::HOST, "console.example").header(header::ORIGIN, ORIGIN);
        request = request.header(credential.0, credential.1);
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        answer(&self.router, request.body(Body::from(body)).expect("a valid request")).await
    }

    /// Makes the first user and yields their cookie.
    async fn set_up(&self) -> String {
        let token = self.accounts.setup_token().expect("readable").expect("nobody yet");
        let body = json!({ "token": token.reveal(), "user": "Root", "password": PASSWORD });
        let (code, answer, cookie) = self.ask("POST", "/api/v1/setup", NOBODY, Some(body)).await;
        assert_eq!((code, &answer["data"]["user"]), (200, &json!("root")));
        cookie.expect("a session")
    }
}

const NOBODY: (&str, &str) = ("x-nothing", "1");

async fn answer(router: &Router, request: Request<Body>) -> (u16, Value, Option<String>) {
    let response = router.clone().oneshot(request).await.expect("a router always answers");
    let status = response.status().as_u16();
    let cookie = response.headers().get(header::SET_COOKIE);
    let cookie = cookie.and_then(|value| value.to_str().ok()?.split(';').next());
    let cookie = cookie.map(str::to_owned);
    let body = response.into_body().collect().await.expect("a body in memory").to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null), cookie)
}

#[tokio::test]
async fn everything_but_becoming_known_needs_an_administrator() {
    let console = Console::new();
    let cookie = console.set_up().await;
    let admin = ("cookie", cookie.as_str());
    let body = json!({ "name": "grafana", "scopes": ["read", "write"] });
    let (_, made, _) = console.ask("POST", "/api/v1/tokens", admin, Some(body)).await;
    let bearer = format!("Bearer {}", made["data"]["token"].as_str().expect("a token"));
    let mut guarded = 0;
    for route in &console.table {
        let path = route.path.replace("{name}", "nobody").replace("{id}", "00000000");
        for method in &route.methods {
            let (method, body) = (method.as_str(), (*method != "GET").then(|| json!({})));
            let nobody = console.ask(method, &path, NOBODY, body.clone()).await.0;
            let token =
                console.ask(method, &path, ("authorization", &bearer), body.clone()).await.0;
            match route.access {
                Access::Admin => {
                    assert_eq!((nobody, token), (401, 403), "{method} {path}");
                    guarded += 1;
                    let known = console.ask(method, &path, admin, body).await.0;
                    assert!([200, 400, 404].contains(&known), "{method} {path}: {known}");
                }
                Access::Public => assert!(nobody != 401 || method == "POST", "{method} {path}"),
                other => panic!("{path} is for {other}"),
            }
        }
    }
    assert_eq!(guarded, 15);
}

#[tokio::test]
async fn users_come_change_and_go() {
    let console = Console::new();
    let cookie = console.set_up().await;
    let admin = ("cookie", cookie.as_str());
    let who = console.ask("GET", "/api/v1/whoami", NOBODY, None).await.1["data"].clone();
    assert_eq!(who, json!({ "login": "required", "setup": false, "principal": null }));
    let who = console.ask("GET", "/api/v1/whoami", admin, None).await.1["data"].clone();
    let scopes = json!(["read", "write", "admin"]);
    let root = json!({ "name": "root", "kind": "user", "tenant": "*", "scopes": scopes });
    assert_eq!(who["principal"], root);

    let ann = json!({ "name": "ann", "password": PASSWORD, "scopes": ["read"] });
    let create = async |body: &Value| {
        let (code, answer, _) =
            console.ask("POST", "/api/v1/users", admin, Some(body.clone())).await;
        (code, answer["error"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(create(&ann).await.0, 200);
    assert_eq!(create(&ann).await.0, 409);
    for (key, value, words) in [
        ("name", json!("a b"), "letters, digits"),
        ("password", json!("short"), "at least 10"),
        ("password", json!("a@example"), "at least 10"),
        ("scopes", json!(["root"]), "no scope"),
        ("scopes", json!([]), "at least one scope"),
    ] {
        let mut body = json!({ "name": "bob", "password": PASSWORD, "scopes": ["read"] });
        body[key] = value;
        let (code, error) = create(&body).await;
        assert!(code == 400 && error.contains(words), "{code} {error}");
    }
    let body = json!({ "user": "ann", "password": PASSWORD });
    let (code, _, session) = console.ask("POST", "/api/v1/login", NOBODY, Some(body)).await;
    let session = session.expect("a session");
    assert_eq!(code, 200);
    let path = "/api/v1/users/ann/scopes";
    let body = json!({ "scopes": ["read", "admin"] });
    assert_eq!(console.ask("PUT", path, admin, Some(body)).await.0, 200);
    let list = console.ask("GET", "/api/v1/users", ("cookie", &session), None).await;
    assert_eq!(list.1["data"]["users"][0]["name"], json!("ann"), "an administrator at once");
    let shown = list.1.to_string();
    assert!(!shown.contains("argon2") && !shown.contains("password\""), "{shown}");

    let new = "another long password";
    let change = json!({ "user": "ann", "password": PASSWORD, "new_password": new });
    let (code, _, changed) = console.ask("POST", "/api/v1/password", NOBODY, Some(change)).await;
    assert!(code == 200 && changed.is_some());
    assert_eq!(console.ask("GET", "/api/v1/users", ("cookie", &session), None).await.0, 401);
    let path = "/api/v1/users/ann/password";
    let body = json!({ "password": PASSWORD });
    assert_eq!(console.ask("PUT", path, admin, Some(body)).await.0, 200);
    let path = "/api/v1/users/nobody/password";
    let body = json!({ "password": PASSWORD });
    assert_eq!(console.ask("PUT", path, admin, Some(body)).await.0, 404);
    assert_eq!(console.ask("DELETE", "/api/v1/users/ann", admin, None).await.0, 200);
    let (code, answer, _) = console.ask("DELETE", "/api/v1/users/root", admin, None).await;
    assert!(code == 409 && answer.to_string().contains("last administrator"), "{answer}");

    let (code, _, gone) = console.ask("POST", "/api/v1/logout", admin, None).await;
    assert_eq!((code, gone.as_deref()), (200, Some("watchfire=")));
    assert_eq!(console.ask("GET", "/api/v1/users", admin, None).await.0, 401);
}

#[tokio::test]
async fn tokens_are_shown_once_and_end_when_they_are_revoked() {
    let console = Console::new();
    let cookie = console.set_up().await;
    let admin = ("cookie", cookie.as_str());
    let body = json!({ "name": "ci", "scopes": ["admin"], "expires_in": "90d" });
    let (_, made, _) = console.ask("POST", "/api/v1/tokens", admin, Some(body)).await;
    let made = &made["data"];
    let lives_ms =
        made["expires_ms"].as_i64().expect("ends") - made["created_ms"].as_i64().expect("x");
    assert_eq!(lives_ms, 90 * 24 * 3_600_000);
    let token = made["token"].as_str().expect("a token");
    assert!(token.starts_with("wft_") && token.len() == 47, "{token}");
    let bearer = format!("Bearer {token}");
    let (code, list, _) =
        console.ask("GET", "/api/v1/tokens", ("authorization", &bearer), None).await;
    assert_eq!(code, 200);
    assert!(!list.to_string().contains(token), "{list}");
    assert!(list["data"]["tokens"][0]["last_used_ms"].is_i64(), "{list}");
    let path = format!("/api/v1/tokens/{}", made["id"].as_str().expect("an id"));
    assert_eq!(console.ask("DELETE", &path, admin, None).await.0, 200);
    assert_eq!(console.ask("DELETE", &path, admin, None).await.0, 404);
    assert_eq!(console.ask("GET", &path, ("authorization", &bearer), None).await.0, 405);
    assert_eq!(console.ask("GET", "/api/v1/tokens", ("authorization", &bearer), None).await.0, 401);
    for body in [
        json!({ "name": "", "scopes": ["read"] }),
        json!({ "name": "x", "scopes": [] }),
        json!({ "name": "x", "scopes": ["read"], "expires_in": "soon" }),
        json!({ "name": "x", "scopes": ["read"], "expires_in": "99y" }),
    ] {
        assert_eq!(console.ask("POST", "/api/v1/tokens", admin, Some(body)).await.0, 400);
    }
}

#[tokio::test]
async fn a_join_token_comes_with_the_command_for_the_next_host() {
    let console = Console::new();
    let cookie = console.set_up().await;
    let admin = ("cookie", cookie.as_str());
    let body = json!({ "role": "console", "uses": 3, "expires_in": "1h" });
    let (code, made, _) = console.ask("POST", "/api/v1/join-tokens", admin, Some(body)).await;
    assert_eq!(code, 200);
    let made = &made["data"];
    let token = made["token"].as_str().expect("a token");
    token.parse::<JoinToken>().expect("well-formed");
    let command = format!("watchfire console --broker broker.example:9596 --join {token}");
    assert_eq!(made["command"], json!(command));
    let (_, list, _) = console.ask("GET", "/api/v1/join-tokens", admin, None).await;
    assert_eq!(list["data"]["tokens"][0]["uses_left"], json!(3));
    assert!(!list.to_string().contains(token), "{list}");
    let path = format!("/api/v1/join-tokens/{}", made["id"].as_str().expect("an id"));
    assert_eq!(console.ask("DELETE", &path, admin, None).await.0, 200);
    for body in [
        json!({ "role": "king" }),
        json!({ "uses": 0 }),
        json!({ "expires_in": "31d" }),
        json!({ "hosts": 1 }),
    ] {
        assert_eq!(console.ask("POST", "/api/v1/join-tokens", admin, Some(body)).await.0, 400);
    }
    let (code, list, _) = console.ask("GET", "/api/v1/certificates", admin, None).await;
    assert_eq!((code, &list["data"]["certificates"]), (200, &json!([])));
    assert_eq!(console.ask("DELETE", "/api/v1/certificates/web-1", admin, None).await.0, 404);
}

#[tokio::test]
async fn where_no_login_is_needed_everyone_is_an_administrator() {
    let console = Console::new();
    let get = async |path: &str| {
        let request = Request::get(path).body(Body::empty()).expect("a valid request");
        answer(&console.open, request).await
    };
    let who = get("/api/v1/whoami").await.1["data"].clone();
    assert_eq!((&who["login"], &who["setup"]), (&json!("none"), &json!(false)));
    assert_eq!(who["principal"]["kind"], json!("anonymous"));
    let (code, token, _) = get("/api/v1/setup").await;
    let own = console.accounts.setup_token().expect("readable").expect("nobody yet");
    assert_eq!((code, &token["data"]["token"]), (200, &json!(own.reveal())));
}

/// It brings the key of the authority: a stolen token of an administrator, or a process on the same host,
/// must not get it.
#[tokio::test]
async fn brokers_are_let_in_by_who_can_read_the_data_directory_alone() {
    let console = Console::new();
    let cookie = console.set_up().await;
    let local = format!("Bearer {}", console.accounts.local_token().reveal());
    let wrong = format!("{local}x");
    let create = async |router: &Router, credential: (&str, &str)| {
        let request = Request::builder().method("POST").uri("/api/v1/join-tokens");
        let request =
            request.header(header::HOST, "console.example").header(header::ORIGIN, ORIGIN);
        let request = request.header(header::CONTENT_TYPE, "application/json");
        let body = Body::from(json!({ "role": "broker" }).to_string());
        let request = request.header(credential.0, credential.1).body(body);
        let (code, said, _) = answer(router, request.expect("a valid request")).await;
        (code, said["error"].as_str().unwrap_or_default().to_owned())
    };
    for (router, credential) in [
        (&console.router, ("cookie", cookie.as_str())),
        (&console.open, NOBODY),
        (&console.open, ("authorization", wrong.as_str())),
    ] {
        let (code, said) = create(router, credential).await;
        assert!(code == 403 && said.contains("token create --role broker"), "{code} {said}");
    }
    for router in [&console.router, &console.open] {
        assert_eq!(create(router, ("authorization", &local)).await.0, 200);
    }
    let machine = Console::of(false);
    let local = format!("Bearer {}", machine.accounts.local_token().reveal());
    let (code, said) = create(&machine.open, ("authorization", &local)).await;
    assert!(code == 409 && said.contains("one machine"), "{code} {said}");
}
