//! A credential is bound to one tenant or to all; the header only narrows.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::harness::process::binary;
use crate::harness::{Launch, Scratch, Server};

/// Makes a token with the command line.
fn token(scratch: &Scratch, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(binary());
    command.args(["token", "create", "--data"]).arg(scratch.join("data")).args(arguments);
    let made = command.output().context("run watchfire token create")?;
    let error = String::from_utf8_lossy(&made.stderr).into_owned();
    ensure!(made.status.success(), "{error}");
    Ok(String::from_utf8_lossy(&made.stdout).trim().to_owned())
}

/// Somebody with a credential, who asks with curl: where there is a login, there is TLS.
#[derive(Debug, Clone)]
struct Caller {
    url: String,
    ca: PathBuf,
    credential: Vec<String>,
    tenant: Option<String>,
}

impl Caller {
    fn new(url: &str, scratch: &Scratch, credential: &[&str]) -> Self {
        let credential = credential.iter().map(|word| (*word).to_owned()).collect();
        let ca = scratch.join("data/tls/ca.pem");
        Caller { url: url.to_owned(), ca, credential, tenant: None }
    }

    fn with_token(url: &str, scratch: &Scratch, token: &str) -> Self {
        Caller::new(url, scratch, &["-H", &format!("Authorization: Bearer {token}")])
    }

    fn for_tenant(&self, tenant: &str) -> Self {
        Caller { tenant: Some(tenant.to_owned()), ..self.clone() }
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
        self.ask_with(method, path, &[], body)
    }

    fn ask_with(
        &self,
        method: &str,
        path: &str,
        headers: &[&str],
        body: &str,
    ) -> Result<(u16, String)> {
        let mut command = Command::new("curl");
        command.args(["-sS", "--cacert"]).arg(&self.ca).args(&self.credential);
        command.args(["-X", method, "-w", "\n%{http_code}"]);
        if let Some(tenant) = &self.tenant {
            // With a semicolon curl sends a header that is empty.
            let colon = if tenant.is_empty() { ";" } else { ": " };
            command.args(["-H", &format!("X-Scope-OrgID{colon}{tenant}")]);
        }
        for header in headers {
            command.args(["-H", header]);
        }
        if method != "GET" {
            command.args(["--data-binary", "@-"]);
        }
        command.arg(format!("{}{path}", self.url));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("start curl")?;
        child.stdin.take().expect("piped").write_all(body.as_bytes())?;
        let output = child.wait_with_output().context("wait for curl")?;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "curl {method} {path}: {error}");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (text, status) = text.rsplit_once('\n').context("a status")?;
        Ok((status.parse()?, text.to_owned()))
    }

    fn data(&self, path: &str) -> Result<Value> {
        let (status, text) = self.ask("GET", path, "")?;
        ensure!(status == 200, "{path}: {status} {text}");
        let mut envelope: Value = serde_json::from_str(&text)?;
        Ok(envelope["data"].take())
    }

    fn value(&self) -> Result<Option<String>> {
        let data = self.data("/api/v1/query?query=mine")?;
        Ok(data["result"][0]["value"][1].as_str().map(str::to_owned))
    }

    fn write(&self, value: u8) -> Result<u16> {
        Ok(self.ask("POST", "/api/v1/import/prometheus", &format!("mine {value}\n"))?.0)
    }
}

/// Starts a server that wants a login; yields its URL when it is ready.
fn start(launch: &Launch, scratch: &Scratch) -> Result<(Server, String)> {
    let server = launch.spawn()?;
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(60) {
        let text = server.stdout();
        let url = text.split_whitespace().find(|word| word.starts_with("https://"));
        if let Some(url) = url.filter(|_| text.contains("Grafana")) {
            let url = url.trim_end_matches('/').to_owned();
            if Caller::new(&url, scratch, &[]).ask("GET", "/-/ready", "")?.0 == 200 {
                return Ok((server, url));
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!("not ready: {}{}", server.stdout(), server.stderr())
}

pub(super) fn bound(scratch: &Scratch) -> Result<String> {
    let launch = Launch::broker(&scratch.join("data")).config("auth:\n  login: true\n");
    let (server, url) = start(&launch, scratch)?;
    let acme = token(scratch, &["--scope", "read,write", "--name", "a", "--tenant", "acme"])?;
    let all = token(scratch, &["--scope", "read,write", "--name", "all"])?;
    let admin = token(scratch, &["--scope", "admin", "--name", "root"])?;
    let refused = token(scratch, &["--scope", "admin", "--name", "x", "--tenant", "acme"]);
    let refused = format!("{:#}", refused.expect_err("an administrator of one tenant"));
    ensure!(refused.contains("reaches every tenant"), "{refused}");
    let acme_token = acme;
    let [acme, all, admin] =
        [&acme_token, &all, &admin].map(|token| Caller::with_token(&url, scratch, token));
    ensure!(acme.write(1)? == 204, "the bound token may not write");
    ensure!(acme.for_tenant("acme").write(1)? == 204, "nor with its own name");
    ensure!(all.write(2)? == 204, "the default tenant");
    ensure!(all.for_tenant("globex").write(3)? == 204, "another tenant");
    for (who, wanted) in [
        (acme.clone(), Some("1")),
        (acme.for_tenant("acme"), Some("1")),
        (all.clone(), Some("2")),
        (all.for_tenant("acme"), Some("1")),
        (all.for_tenant("globex"), Some("3")),
        (admin.for_tenant("globex"), Some("3")),
        (admin.for_tenant("nobody"), None),
    ] {
        let found = who.value()?;
        ensure!(found.as_deref() == wanted, "{:?} reads {found:?}", who.tenant);
    }
    // The header names another one: for reads, writes and pages alike.
    for (method, path) in
        [("GET", "/api/v1/query?query=mine"), ("POST", "/api/v1/write"), ("GET", "/api/v1/tenants")]
    {
        for other in ["globex", "default", "ACME"] {
            let (status, text) = acme.for_tenant(other).ask(method, path, "")?;
            ensure!(status == 403, "{path} of {other}: {status} {text}");
            ensure!(text.contains("is for the tenant acme and not for"), "{text}");
        }
    }
    for bad in ["a|b", "../x", "", "*", "a b", &"x".repeat(65)] {
        for path in ["/api/v1/query?query=mine", "/api/v1/labels", "/metrics"] {
            let (status, text) = all.for_tenant(bad).ask("GET", path, "")?;
            ensure!(status == 400, "{path} of {bad:?}: {status} {text}");
            ensure!(text.contains("1 to 64") && text.contains("one tenant"), "{text}");
        }
    }
    let own = ["X-Scope-OrgID: acme"];
    let path = "/api/v1/query?query=mine";
    let (status, text) = all.for_tenant("acme").ask_with("GET", path, &own, "")?;
    ensure!(status == 400 && text.contains("more than once"), "{status} {text}");
    let listed = |caller: &Caller| -> Result<Vec<String>> {
        let data = caller.data("/api/v1/tenants")?;
        let rows: Vec<Value> = data["tenants"].as_array().cloned().unwrap_or_default();
        Ok(rows.iter().filter_map(|row| row["name"].as_str().map(str::to_owned)).collect())
    };
    ensure!(listed(&acme)? == ["acme"], "{:?}", listed(&acme)?);
    ensure!(listed(&admin)? == ["acme", "default", "globex"], "{:?}", listed(&admin)?);
    let who = acme.data("/api/v1/whoami")?;
    ensure!(who["principal"]["tenant"] == "acme", "{who}");
    // What is the process' own, or of other tenants, stays out of its metrics.
    let (_, page) = acme.ask("GET", "/metrics", "")?;
    ensure!(page.contains("tenant_samples_total{tenant=\"acme\"}"), "{page}");
    ensure!(!page.contains("globex") && !page.contains("_agent"), "{page}");
    users(&url, scratch, &admin)?;
    server.stop()?;
    // The binding is kept.
    let (server, url) = start(&launch, scratch)?;
    let again = Caller::with_token(&url, scratch, &acme_token);
    ensure!(again.value()? == Some("1".to_owned()), "not after a restart");
    let (status, _) = again.for_tenant("globex").ask("GET", "/api/v1/labels", "")?;
    ensure!(status == 403, "not after a restart: {status}");
    server.stop()?;
    Ok("3 tokens, 2 users".to_owned())
}

/// Users are bound as tokens are, and an administrator changes it.
fn users(url: &str, scratch: &Scratch, admin: &Caller) -> Result<()> {
    let change = |method: &str, path: &str, body: &str| {
        admin.ask_with(method, path, &["Content-Type: application/json"], body)
    };
    let make = |name: &str, scope: &str, tenant: &str| {
        let body = format!(
            r#"{{"name":"{name}","password":"correct horse","scopes":["{scope}"],"tenant":"{tenant}"}}"#
        );
        change("POST", "/api/v1/users", &body)
    };
    let (status, text) = make("ann", "read", "acme")?;
    ensure!(status == 200 && text.contains(r#""tenant":"acme""#), "{status} {text}");
    let (status, text) = make("eve", "admin", "acme")?;
    ensure!(status == 400 && text.contains("reaches every tenant"), "{status} {text}");
    let (status, text) = make("eve", "read", "a|b")?;
    ensure!(status == 400 && text.contains("1 to 64"), "{status} {text}");
    let ann = Caller::new(url, scratch, &["-u", "ann:correct horse"]);
    let ask = |tenant: &str| ann.for_tenant(tenant).ask("GET", "/api/v1/query?query=mine", "");
    let (status, text) = ask("acme")?;
    ensure!(status == 200 && text.contains("\"1\""), "{status} {text}");
    ensure!(ask("globex")?.0 == 403, "a user reads what is of another tenant");
    let set = |tenant: &str| {
        change("PUT", "/api/v1/users/ann/tenant", &format!(r#"{{"tenant":"{tenant}"}}"#))
    };
    ensure!(set("globex")?.0 == 200, "not changed");
    ensure!((ask("acme")?.0, ask("globex")?.0) == (403, 200), "not changed");
    ensure!(set("*")?.0 == 200, "not set free");
    ensure!((ask("acme")?.0, ask("globex")?.0) == (200, 200), "not all");
    let (status, text) = change("PUT", "/api/v1/users/ann/scopes", r#"{"scopes":["admin"]}"#)?;
    ensure!(status == 200, "{status} {text}");
    let (status, text) = set("acme")?;
    ensure!(status == 400, "an administrator of one tenant: {status} {text}");
    Ok(())
}

/// A connection that is open ends with the token by which it was opened, and says why; another one goes
/// on.
pub(super) fn live_ends(scratch: &Scratch) -> Result<String> {
    let launch = Launch::broker(&scratch.join("data")).config("auth:\n  login: true\n");
    let (server, url) = start(&launch, scratch)?;
    let tokens = ["ends", "stays"]
        .map(|name| token(scratch, &["--scope", "read", "--name", name, "--tenant", "acme"]));
    let [ends, stays] = tokens;
    let (ends, stays) = (ends?, stays?);
    let open = |token: &str| {
        let mut command = Command::new("curl");
        command.args(["-sSN", "--http1.1", "--cacert"]).arg(scratch.join("data/tls/ca.pem"));
        command.args(["-H", "Connection: Upgrade", "-H", "Upgrade: websocket"]);
        command.args(["-H", "Sec-WebSocket-Version: 13"]);
        command.args(["-H", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]);
        command.args(["-H", &format!("Authorization: Bearer {token}")]);
        command.arg(format!("{url}/api/v1/live")).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("start curl")
    };
    let (mut ending, mut staying) = (open(&ends)?, open(&stays)?);
    std::thread::sleep(Duration::from_millis(2_500));
    ensure!(ending.try_wait()?.is_none(), "the connection does not stay open");
    let listed = Command::new(binary())
        .args(["token", "list", "--data"])
        .arg(scratch.join("data"))
        .output()
        .context("run watchfire token list")?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let id = listed.lines().find(|line| line.contains("ends"));
    let id = id.and_then(|line| line.split_whitespace().next()).context(listed.clone())?;
    let revoked = Command::new(binary())
        .args(["token", "revoke", id, "--data"])
        .arg(scratch.join("data"))
        .output()
        .context("run watchfire token revoke")?;
    ensure!(revoked.status.success(), "{revoked:?}");
    let begin = Instant::now();
    while ending.try_wait()?.is_none() {
        if begin.elapsed() > Duration::from_secs(5) {
            ending.kill()?;
            staying.kill()?;
            bail!("the connection goes on without its token");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let took = begin.elapsed();
    let told = String::from_utf8_lossy(&ending.wait_with_output()?.stdout).into_owned();
    ensure!(told.contains("revoked"), "no reason is told: {told:?}");
    let is_open = staying.try_wait()?.is_none();
    staying.kill()?;
    staying.wait()?;
    ensure!(is_open, "the other connection ended as well");
    server.stop()?;
    Ok(format!("closed after {took:.1?}"))
}
