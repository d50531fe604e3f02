//! Who may use which route, over real sockets: every kind of credential against every route.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::extract::Request;
use axum::response::IntoResponse;
use http::Method;
use net::auth::{
    Accounts, Actor, Connection, FileStore, LocalAccess, NewSession, Principal, Scope, SessionLife,
    Tenants, write_local_access,
};
use net::tls::{ServerCertificate, ServerTls};
use net::{
    Access, Authority, Detour, NetMetrics, OriginPolicy, Passed, Routes, Server, ServerSettings,
};
use settings::Secret;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

const PASSWORD: &str = "a long enough password";

struct Site {
    directory: tempfile::TempDir,
    address: SocketAddr,
    accounts: Arc<Accounts>,
    certificate: Option<Arc<ServerCertificate>>,
    metrics: Arc<NetMetrics>,
    table: Vec<net::Route>,
    _stop: oneshot::Sender<()>,
}

fn routes() -> Routes {
    let who = async |principal: Principal| format!("hello {} {}", principal.name, principal.scopes);
    let anyone = async |principal: Option<Principal>| match principal {
        Some(principal) => format!("hello {}", principal.name),
        None => "hello stranger".to_owned(),
    };
    Routes::new()
        .route("/public", [Method::GET, Method::POST], Access::Public, anyone)
        .route("/read", [Method::GET, Method::POST], Access::Read, who)
        .route("/write", [Method::POST, Method::PUT], Access::Write, who)
        .route("/admin", [Method::GET, Method::DELETE], Access::Admin, who)
        .route("/mixed", [Method::GET], Access::Read, who)
        .route("/mixed", [Method::POST], Access::Admin, who)
        .route("/things/{name}", [Method::GET], Access::Read, who)
        .route_any("/any", Access::Write, who)
        .fallback(Access::Public, async || "page")
        .by_way_of(Some(Arc::new(Elsewhere)))
        .route("/away", [Method::GET], Access::Read, who)
}

/// Answers what nobody asked it to let through.
struct Elsewhere;

impl Detour for Elsewhere {
    fn pass(&self, request: Request) -> Pin<Box<dyn Future<Output = Passed> + Send + '_>> {
        Box::pin(async move {
            if request.headers().contains_key("x-go-on") {
                return Passed::Continue(request);
            }
            let who = request.extensions().get::<Principal>().map(|who| who.name.to_string());
            Passed::Break(format!("away {}", who.unwrap_or_default()).into_response())
        })
    }
}

impl Site {
    async fn start(with_tls: bool) -> Site {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = FileStore::open(&directory.path().join("credentials")).expect("empty");
        let metrics = Arc::new(NetMetrics::default());
        let accounts = Accounts::new(Arc::new(store), SessionLife::default(), Arc::clone(&metrics));
        let bound = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a port");
        let address = bound.local_addr();
        let settings = ServerSettings {
            first_bytes_timeout: Duration::from_millis(500),
            header_timeout: Duration::from_millis(500),
            ..ServerSettings::default()
        };
        let mut bound = bound.with_settings(settings).with_metrics(Arc::clone(&metrics));
        let certificate = with_tls.then(|| {
            let now = SystemTime::now();
            let authority = Authority::open(&directory.path().join("tls"), now).expect("made");
            ServerCertificate::issued(Arc::new(authority), Vec::new(), now).expect("issued")
        });
        if let Some(certificate) = &certificate {
            bound = bound.with_tls(ServerTls::new(Arc::clone(certificate)).expect("valid"));
        }
        let routes = routes();
        let table = routes.table().to_vec();
        let router = accounts.layer(routes.into_router());
        let policy = OriginPolicy::new(address).with_hosts(["mon.example".to_owned()]);
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(bound.serve(policy.layer(router), async move {
            let _ = stopped.await;
        }));
        Site { directory, address, accounts, certificate, metrics, table, _stop: stop }
    }

    async fn ask(&self, method: &str, path: &str, headers: &[&str]) -> (u16, String) {
        let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|header| header.starts_with("Host:")) {
            request += &format!("Host: {}\r\n", self.address);
        }
        for header in headers {
            request += &format!("{header}\r\n");
        }
        let request = format!("{request}Content-Length: 0\r\n\r\n");
        let socket = TcpStream::connect(self.address).await.expect("listens");
        let answer = match &self.certificate {
            None => talk(socket, &request).await,
            Some(_) => talk(self.encrypt(socket, &[]).await, &request).await,
        };
        let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
        (code.unwrap_or(0), answer)
    }

    /// TLS that trusts the certificate in the file that browsers would import.
    async fn encrypt(
        &self,
        socket: TcpStream,
        protocols: &[&[u8]],
    ) -> tokio_rustls::client::TlsStream<TcpStream> {
        use rustls_pki_types::pem::PemObject;
        let file = self.directory.path().join("tls/ca.pem");
        let authority = rustls_pki_types::CertificateDer::from_pem_file(file).expect("a PEM file");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority).expect("an authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("valid")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        let name = rustls_pki_types::ServerName::try_from("127.0.0.1").expect("an address");
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        connector.connect(name, socket).await.expect("trusted")
    }

    async fn user(&self, name: &str, scopes: &[Scope]) {
        let scopes = scopes.iter().copied().collect();
        let made = self
            .accounts
            .create_user(name, PASSWORD.into_secret(), scopes, Tenants::All, &actor())
            .await;
        made.expect("made");
    }

    async fn token(&self, scopes: &[Scope], life: Option<Duration>) -> (String, String) {
        let scopes = scopes.iter().copied().collect();
        let made = self
            .accounts
            .create_token("test", scopes, Tenants::All, life, &actor())
            .await
            .expect("made");
        (made.0.reveal().to_owned(), made.1.id)
    }

    async fn log_in(&self, name: &str) -> String {
        let over_tls = self.certificate.is_some();
        let from = SocketAddr::from(([127, 0, 0, 1], 1));
        let session = self.accounts.log_in(name, &PASSWORD.into_secret(), from, over_tls).await;
        cookie(&session.expect("right"))
    }

    fn rendered(&self) -> String {
        let mut out = Vec::new();
        self.metrics.render(&mut wire::text_encode::TextEncoder::new(&mut out));
        String::from_utf8(out).expect("metrics are text")
    }
}

trait IntoSecret {
    fn into_secret(self) -> Secret;
}

impl IntoSecret for &str {
    fn into_secret(self) -> Secret {
        Secret::new(self)
    }
}

fn actor() -> Actor {
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    Actor { principal: Principal::anonymous(), address }
}

/// The `Cookie` header that answers a `Set-Cookie`.
fn cookie(session: &NewSession) -> String {
    let set = session.cookie.to_str().expect("text");
    format!("Cookie: {}", set.split(';').next().expect("a name and a value"))
}

fn basic(user: &str, password: &str) -> String {
    use base64::Engine;
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    format!("Authorization: Basic {pair}")
}

async fn talk<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.expect("open");
    let mut answer = Vec::new();
    let end = timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
    assert!(end.is_ok(), "still open after {:?}", String::from_utf8_lossy(&answer));
    String::from_utf8_lossy(&answer).into_owned()
}

/// Credentials by name, with the header and the scopes it should open; `None` opens nothing and is
/// not known.
async fn credentials(site: &Site) -> Vec<(&'static str, String, Option<Vec<Scope>>)> {
    use Scope::{Admin, Read, Write};
    site.user("root", &[Admin]).await;
    site.user("reader", &[Read]).await;
    let bearer = |token: &str| format!("Authorization: Bearer {token}");
    let (read, _) = site.token(&[Read], None).await;
    let (write, _) = site.token(&[Write], Some(Duration::from_secs(60))).await;
    let (admin, _) = site.token(&[Admin], None).await;
    let (both, _) = site.token(&[Read, Write], None).await;
    let (ended, _) = site.token(&[Admin], Some(Duration::from_millis(1))).await;
    let (revoked, id) = site.token(&[Admin], None).await;
    assert!(site.accounts.revoke_token(&id, &actor()).await.expect("written"));
    tokio::time::sleep(Duration::from_millis(5)).await;
    let foreign = format!("wft_{}", "A".repeat(43));
    let origin = format!("Origin: http://{}", site.address);
    let session = |cookie: String| format!("{cookie}\r\n{origin}");
    let local = site.accounts.local_token().reveal().to_owned();
    let other = if local.ends_with('x') { 'y' } else { 'x' };
    vec![
        ("nothing", "X-Nothing: 1".to_owned(), None),
        ("a read token", bearer(&read), Some(vec![Read])),
        ("a write token", bearer(&write), Some(vec![Write])),
        ("an admin token", bearer(&admin), Some(vec![Admin])),
        ("a read and write token", bearer(&both), Some(vec![Read, Write])),
        ("a token as password", basic("grafana", &read), Some(vec![Read])),
        ("an ended token", bearer(&ended), None),
        ("a revoked token", bearer(&revoked), None),
        ("a foreign token", bearer(&foreign), None),
        ("half a token", bearer(&admin[..20]), None),
        ("a token in the wrong case", bearer(&admin.to_lowercase()), None),
        ("the local token", bearer(&local), Some(vec![Admin])),
        ("almost the local token", bearer(&format!("{}{other}", &local[..local.len() - 1])), None),
        ("a user", basic("Reader", PASSWORD), Some(vec![Read])),
        ("an administrator", basic("root", PASSWORD), Some(vec![Admin])),
        ("a wrong password", basic("root", "another password"), None),
        ("an unknown user", basic("nobody", PASSWORD), None),
        ("no Base64", "Authorization: Basic ???".to_owned(), None),
        ("another scheme", "Authorization: Digest x".to_owned(), None),
        ("two at once", format!("{}\r\n{}", bearer(&admin), bearer(&admin)), None),
        ("a session", session(site.log_in("reader").await), Some(vec![Read])),
        ("an administrator's session", session(site.log_in("root").await), Some(vec![Admin])),
        ("an invented session", session(format!("Cookie: watchfire={}", "A".repeat(43))), None),
    ]
}

fn is_guess(what: &str) -> bool {
    matches!(what, "a wrong password" | "an unknown user")
}

fn opens(scopes: &Option<Vec<Scope>>, access: Access) -> u16 {
    let Some(needed) = access.scope() else { return 200 };
    match scopes {
        None => 401,
        Some(scopes) if scopes.contains(&needed) || scopes.contains(&Scope::Admin) => 200,
        Some(_) => 403,
    }
}

#[tokio::test]
async fn every_credential_opens_its_routes_and_no_other() {
    let site = Site::start(false).await;
    let credentials = credentials(&site).await;
    let mut asked = 0;
    for route in site.table.clone() {
        let path = match route.path.as_str() {
            "*" => "/some/page".to_owned(),
            path => path.replace("{name}", "x"),
        };
        let any = [Method::GET, Method::POST, Method::DELETE];
        let methods = if route.methods.is_empty() { any.to_vec() } else { route.methods.clone() };
        for method in methods {
            for (what, header, scopes) in &credentials {
                let (code, answer) = site.ask(method.as_str(), &path, &[header]).await;
                let mut expected = opens(scopes, route.access);
                if code == 429 && is_guess(what) {
                    // It was tried too often by now.
                    expected = 429;
                }
                assert_eq!(code, expected, "{method} {path} with {what}: {answer}");
                let challenged = answer.contains("www-authenticate: Bearer");
                assert_eq!(challenged, expected == 401, "{answer}");
                if expected == 403 {
                    let scope = route.access.scope().expect("not public");
                    let remedy = format!("needs {scope}; let an administrator make a token with");
                    assert!(answer.contains(&remedy), "{answer}");
                }
                asked += 1;
            }
        }
    }
    assert!(asked > 300, "{asked}");
    // HEAD is GET, and other methods do not exist, whoever asks.
    assert_eq!(site.ask("HEAD", "/read", &[]).await.0, 401);
    assert_eq!(site.ask("PATCH", "/read", &[]).await.0, 405);
}

#[tokio::test]
async fn paths_that_look_alike_do_not_get_around_the_check() {
    let site = Site::start(false).await;
    for path in [
        "//admin",
        "/admin/",
        "/ADMIN",
        "/%61dmin",
        "/./admin",
        "/public/../admin",
        "/admin;x",
        "/admin%00",
        "/public/%2e%2e/admin",
        "/admin?/public",
        "/things/a%2F..%2F..%2Fadmin",
    ] {
        let (code, answer) = site.ask("GET", path, &[]).await;
        assert!(!answer.contains("hello"), "{path}: {answer}");
        assert!([200, 400, 401, 404].contains(&code), "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_detour_lies_behind_the_check_and_before_the_handler() {
    let site = Site::start(false).await;
    site.user("root", &[Scope::Admin]).await;
    site.user("ann", &[Scope::Read]).await;
    let cookie = site.log_in("ann").await;
    let (code, answer) = site.ask("GET", "/away", &[]).await;
    assert!(code == 401 && !answer.contains("away"), "{answer}");
    let (code, answer) = site.ask("GET", "/away", &[&cookie]).await;
    assert!(code == 200 && answer.ends_with("away ann"), "{answer}");
    let (code, answer) = site.ask("GET", "/away", &[&cookie, "X-Go-On: 1"]).await;
    assert!(code == 200 && answer.contains("hello ann"), "{answer}");
}

#[tokio::test]
async fn a_session_cannot_be_used_from_another_site() {
    let site = Site::start(false).await;
    site.user("root", &[Scope::Admin]).await;
    let cookie = site.log_in("root").await;
    let port = site.address.port();
    let origins = [
        (format!("http://127.0.0.1:{port}"), 200),
        ("https://mon.example".to_owned(), 200),
        ("https://evil.example".to_owned(), 403),
        ("http://127.0.0.1:1".to_owned(), 403),
        ("http://127.0.0.1".to_owned(), 403),
        (format!("http://localhost:{port}"), 403),
        ("null".to_owned(), 403),
    ];
    for (origin, expected) in origins {
        let origin = format!("Origin: {origin}");
        for headers in [
            ("POST", "/mixed", vec![cookie.as_str(), &origin]),
            ("DELETE", "/admin", vec![cookie.as_str(), &origin]),
            ("GET", "/read", vec![cookie.as_str(), &origin, "Upgrade: websocket"]),
        ] {
            let (method, path, headers) = headers;
            let (code, answer) = site.ask(method, path, &headers).await;
            assert_eq!(code, expected, "{method} {path} {origin}: {answer}");
        }
        // Reading is harmless: the other site does not get to see the answer.
        assert_eq!(site.ask("GET", "/read", &[&cookie, &origin]).await.0, 200, "{origin}");
    }
    let (code, answer) = site.ask("POST", "/mixed", &[&cookie]).await;
    assert!(code == 403 && answer.contains("Origin is missing"), "{answer}");
    let evil = "Origin: https://evil.example";
    let (code, _) = site.ask("POST", "/mixed", &[&basic("root", PASSWORD), evil]).await;
    assert_eq!(code, 403, "browsers add passwords by themselves, too");
    assert_eq!(site.ask("POST", "/mixed", &[&basic("root", PASSWORD)]).await.0, 200);
    assert!(site.rendered().contains("credentials_refused_total{reason=\"origin\"}"));
}

#[tokio::test]
async fn sessions_end_with_the_password_the_user_and_the_logout() {
    let site = Site::start(false).await;
    site.user("root", &[Scope::Admin]).await;
    site.user("ann", &[Scope::Read]).await;
    let from = SocketAddr::from(([127, 0, 0, 1], 1));
    let code = async |cookie: &str| site.ask("GET", "/read", &[cookie]).await.0;
    let first = site.log_in("ann").await;
    assert_eq!(code(&first).await, 200);
    let mut headers = http::HeaderMap::new();
    let value = first.strip_prefix("Cookie: ").expect("a header");
    headers.insert(http::header::COOKIE, value.parse().expect("a header's value"));
    site.accounts.log_out(&headers, false).await.expect("written");
    assert_eq!(code(&first).await, 401);
    let second = site.log_in("ann").await;
    let new = "an even longer password";
    let change = async |current: &str| {
        let current = current.into_secret();
        site.accounts.change_password("ann", &current, new.into_secret(), from, false).await
    };
    change("not the password").await.expect_err("wrong");
    let third = cookie(&change(PASSWORD).await.expect("right"));
    assert_eq!((code(&second).await, code(&third).await), (401, 200));
    // Basic auth with the old password was remembered, and must not be any more.
    assert_eq!(code(&basic("ann", new)).await, 200);
    site.accounts.reset_password("ann", PASSWORD.into_secret(), &actor()).await.expect("reset");
    assert_eq!(code(&basic("ann", new)).await, 401);
    assert_eq!((code(&third).await, code(&basic("ann", PASSWORD)).await), (401, 200));
    let scopes = [Scope::Write].into_iter().collect();
    site.accounts.set_scopes("ann", scopes, &actor()).await.expect("changed");
    assert_eq!(code(&basic("ann", PASSWORD)).await, 403, "scopes hold at once");
    site.accounts.delete_user("ann", &actor()).await.expect("deleted");
    assert_eq!(code(&basic("ann", PASSWORD)).await, 401);
    let last = site.accounts.delete_user("root", &actor()).await.expect_err("the last one");
    assert!(last.to_string().contains("last administrator"), "{last}");
    let scopes = [Scope::Read].into_iter().collect();
    site.accounts.set_scopes("root", scopes, &actor()).await.expect_err("the last one");
}

#[tokio::test]
async fn guessing_is_slowed_down_and_the_owner_still_gets_in() {
    let site = Site::start(false).await;
    site.user("root", &[Scope::Admin]).await;
    assert_eq!(site.ask("GET", "/read", &[&basic("root", PASSWORD)]).await.0, 200);
    let mut codes = Vec::new();
    for number in 0..12 {
        codes.push(site.ask("GET", "/read", &[&basic("root", &format!("guess {number}"))]).await);
    }
    assert_eq!(codes[0].0, 401);
    let (code, answer) = codes.last().expect("twelve");
    assert!(*code == 429 && answer.contains("retry-after: "), "{answer}");
    assert!(answer.contains("admin reset-password"), "{answer}");
    // Who was right a moment ago is not asked again, and a token is not concerned.
    assert_eq!(site.ask("GET", "/read", &[&basic("root", PASSWORD)]).await.0, 200);
    let (token, _) = site.token(&[Scope::Read], None).await;
    assert_eq!(site.ask("GET", "/read", &[&basic("root", &token)]).await.0, 200);
    assert!(site.rendered().contains("credentials_refused_total{reason=\"throttled\"}"));
}

#[tokio::test]
async fn an_unknown_user_takes_as_long_as_a_wrong_password() {
    let site = Site::start(false).await;
    site.user("root", &[Scope::Admin]).await;
    let time = async |user: &str| {
        let mut best = Duration::MAX;
        for number in 0..4 {
            let header = basic(user, &format!("guess {number}"));
            let begin = Instant::now();
            assert_eq!(site.ask("GET", "/read", &[&header]).await.0, 401);
            best = best.min(begin.elapsed());
        }
        best.as_secs_f64()
    };
    let ratio = time("root").await / time("nobody").await;
    // Without a password to verify it would be a thousand times less; a busy machine may double it.
    assert!((0.2..5.0).contains(&ratio), "{ratio}");
}

#[tokio::test]
async fn the_first_user_is_made_with_the_setup_link_and_only_once() {
    let site = Site::start(true).await;
    let from = SocketAddr::from(([192, 0, 2, 1], 1));
    let token = site.accounts.setup_token().expect("readable").expect("nobody there yet");
    let again = site.accounts.setup_token().expect("readable").expect("nobody there yet");
    assert_eq!(token.reveal(), again.reveal());
    let set_up = async |token: &Secret, password: &str| {
        site.accounts.set_up(token, "Root", password.into_secret(), from, true).await
    };
    set_up(&Secret::new("guess"), PASSWORD).await.expect_err("not the token");
    for weak in ["short", "aaaaaaaaaaaaaa"] {
        set_up(&token, weak).await.expect_err("not a password");
    }
    let session = set_up(&token, PASSWORD).await.expect("made");
    assert_eq!(session.user, "root");
    let set = session.cookie.to_str().expect("text").to_owned();
    for attribute in ["__Host-watchfire=", "; Secure", "; HttpOnly", "; SameSite=Lax", "; Path=/;"]
    {
        assert!(set.contains(attribute), "{set}");
    }
    assert!(!set.to_ascii_lowercase().contains("domain"), "{set}");
    let (code, answer) = site.ask("GET", "/admin", &[&cookie(&session)]).await;
    assert!(code == 200 && answer.contains("hello root"), "{answer}");
    assert_eq!(site.accounts.setup_token().expect("readable"), None);
    set_up(&token, PASSWORD).await.expect_err("used");
    let shown =
        format!("{:?} {:?} {token:?} {session:?}", site.accounts, site.accounts.list_users());
    assert!(!shown.contains(token.reveal()) && !shown.contains("argon2"), "{shown}");
    let value = set.split(['=', ';']).nth(1).expect("a value");
    assert!(!shown.contains(value), "{shown}");
}

#[tokio::test]
async fn https_is_spoken_in_both_versions_and_plain_http_is_told() {
    let site = Site::start(true).await;
    let (code, answer) = site.ask("GET", "/public", &[]).await;
    assert!(code == 200 && answer.contains("hello stranger"), "{answer}");
    let socket = TcpStream::connect(site.address).await.expect("listens");
    let plain = talk(socket, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(plain.starts_with("HTTP/1.1 400 ") && plain.contains("use https://"), "{plain}");
    for (offered, chosen) in [
        // Whoever can speak both, such as curl, gets the one in which queries can be typed.
        (&[&b"h2"[..], b"http/1.1"][..], Some(&b"http/1.1"[..])),
        (&[b"h2"], Some(b"h2")),
        (&[b"http/1.1"], Some(b"http/1.1")),
        (&[], None),
    ] {
        let socket = TcpStream::connect(site.address).await.expect("listens");
        let stream = site.encrypt(socket, offered).await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), chosen);
    }
    // HTTP/2 in which nothing is ever asked.
    let socket = TcpStream::connect(site.address).await.expect("listens");
    let mut stream = site.encrypt(socket, &[b"h2"]).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    stream.write_all(preface).await.expect("open");
    let mut rest = Vec::new();
    let end = timeout(Duration::from_secs(3), stream.read_to_end(&mut rest)).await;
    assert!(end.is_ok(), "still open");
    assert!(site.rendered().contains("watchfire_net_connections_cut_total 1\n"));
    // A handshake that succeeded, and then silence.
    let socket = TcpStream::connect(site.address).await.expect("listens");
    let mut stream = site.encrypt(socket, &[b"h2"]).await;
    let end = timeout(Duration::from_secs(3), stream.read_to_end(&mut rest)).await;
    assert!(end.is_ok(), "still open");
}

#[tokio::test]
async fn the_command_line_finds_its_server_and_no_other() {
    for with_tls in [false, true] {
        let site = Site::start(with_tls).await;
        let data = site.directory.path();
        let missing = LocalAccess::read(data).expect_err("not written yet").to_string();
        assert!(missing.contains("--data"), "{missing}");
        let scheme = if with_tls { "https" } else { "http" };
        let url = format!("{scheme}://{}", site.address);
        let print = site.certificate.as_ref().map(|own| own.fingerprint().expect("parses"));
        write_local_access(data, &url, site.accounts.local_token(), print).expect("written");
        let local = LocalAccess::read(data).expect("readable");
        let (status, body) = local.request(Method::GET, "/admin", None).await.expect("answers");
        assert_eq!((status.as_u16(), &body[..]), (200, &b"hello local read,write,admin"[..]));
        assert!(!format!("{local:?}").contains("wfl_"));
        let other = Site::start(with_tls).await;
        if with_tls {
            // The same file, but someone else answers at the address.
            let url = format!("https://{}", other.address);
            write_local_access(data, &url, site.accounts.local_token(), print).expect("written");
            let local = LocalAccess::read(data).expect("readable");
            local.request(Method::GET, "/admin", None).await.expect_err("not the server");
        }
    }
}

#[tokio::test]
async fn handlers_learn_the_address_and_the_encryption() {
    let show = async |connection: Connection| format!("{connection:?}");
    let routes = Routes::new().route("/", [Method::GET], Access::Public, show);
    let bound = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a port");
    let address = bound.local_addr();
    tokio::spawn(bound.serve(routes.into_router(), std::future::pending()));
    let socket = TcpStream::connect(address).await.expect("listens");
    let own = socket.local_addr().expect("connected");
    let answer = talk(socket, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(answer.contains(&format!("address: {own}, over_tls: false")), "{answer}");
}
