//! Every kind of secret the program takes, each with a text of its own, and then a look at
//! everything it gives out: answers of all routes to all kinds of callers, logs at their most
//! talkative, its files, its command line. A text may be found where it has to be and nowhere else.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::harness::process::binary;
use crate::harness::{Launch, Scratch, Server};

/// One kind of secret.
struct Canary {
    what: &'static str,
    text: String,
}

/// All secrets, and what was found where it should not be.
#[derive(Default)]
struct Watch {
    canaries: Vec<Canary>,
    leaks: Vec<String>,
    places: usize,
}

impl Watch {
    /// A new secret, sixteen characters or more, as passwords and tokens are.
    fn plant(&mut self, what: &'static str) -> String {
        let text = format!("canary{}x{}", self.canaries.len() + 10, what.replace([' ', '_'], "z"));
        self.add(what, &text);
        text
    }

    /// A secret that the program made.
    fn add(&mut self, what: &'static str, text: &str) {
        assert!(text.len() >= 8, "{what} is too short to be looked for: {text:?}");
        self.canaries.push(Canary { what, text: text.to_owned() });
    }

    /// Looks for all of them in what came out at `place`, but for those that must be there.
    fn look(&mut self, place: &str, text: &[u8], allowed: &[&str]) {
        self.places += 1;
        for canary in &self.canaries {
            let is_there =
                text.windows(canary.text.len()).any(|part| part == canary.text.as_bytes());
            if is_there && !allowed.contains(&canary.what) {
                let at = text.windows(canary.text.len()).position(|p| p == canary.text.as_bytes());
                let start = at.unwrap_or(0).saturating_sub(120);
                let end = (start + 300).min(text.len());
                let around = String::from_utf8_lossy(&text[start..end]);
                self.leaks.push(format!("{} in {place}: …{around}…", canary.what));
            }
        }
    }
}

pub(super) fn stay_secret(scratch: &Scratch) -> Result<String> {
    let mut watch = Watch::default();
    let targets = Targets::start()?;
    let config = scratch.join("prometheus.yml");
    let password_file = scratch.join("password");
    let in_file = watch.plant("password_file");
    std::fs::write(&password_file, &in_file)?;
    let yaml = prometheus_config(&mut watch, targets.address, &password_file)?;
    std::fs::write(&config, &yaml)?;
    let proxy = watch.plant("proxy of the environment");
    let environment = watch.plant("environment");
    let data = scratch.join("data");
    let server = Launch::broker(&data)
        .config("auth: {login: true}\n")
        .arguments(&["--log", "trace", "--peer-listen", "127.0.0.1:0"])
        .arguments(&["--prometheus-config", &config.display().to_string()])
        .env("HTTP_PROXY", &format!("http://user:{proxy}@{}", targets.address))
        .env("WATCHFIRE_PASSWORD", &environment)
        .env("SOME_TOKEN", &environment)
        .spawn()?;
    let setup = wait_for(|| setup_token(&server)).context("no setup link was printed")?;
    let address = https_address(&server)?;
    let web = Web { address, ca: data.join("tls/ca.pem") };
    watch.add("setup token", &setup);
    let callers = log_in(&web, &mut watch, &data, &setup)?;
    add_private_keys(&mut watch, &data)?;
    wait_for(|| all_scraped(&web, &callers[1]).ok()).context("not every job was scraped")?;
    let used = targets.received.lock().expect("no thread panicked").clone();
    sent_where_they_belong(&watch, &used)?;

    let asked = ask_everything(&web, &callers, &mut watch)?;
    refused_credentials(&web, &mut watch)?;
    at_the_places_of_protocols(&web, &callers, &mut watch)?;
    faulty_configuration(&web, &callers[1], &mut watch, &config, scratch)?;

    watch.look("standard output", server.stdout().as_bytes(), &["setup token"]);
    let command_line = std::fs::read(format!("/proc/{}/cmdline", server.pid()?))?;
    watch.look("the command line", &command_line, &[]);
    let log = server.stderr();
    ensure!(log.contains("TRACE") || log.contains("DEBUG"), "the log is not at its most talkative");
    server.stop()?;
    watch.look("the log", log.as_bytes(), &[]);
    let files = look_at_files(&mut watch, &data)?;
    ensure!(watch.leaks.is_empty(), "{} leaks:\n{}", watch.leaks.len(), watch.leaks.join("\n"));
    Ok(format!(
        "{} secrets in {} places: {asked} answers, {files} files, {} KiB of log",
        watch.canaries.len(),
        watch.places,
        log.len() >> 10
    ))
}

/// A job for every way to give a secret to one.
fn prometheus_config(
    watch: &mut Watch,
    targets: SocketAddr,
    password_file: &Path,
) -> Result<String> {
    let mut yaml =
        "global: {scrape_interval: 1s, scrape_timeout: 900ms}\nscrape_configs:\n".to_owned();
    let statics = format!("static_configs: [{{targets: ['{targets}']}}]");
    let mut job = |name: &str, keys: String| {
        yaml.push_str(&format!("- job_name: {name}\n{keys}\n"));
    };
    let password = watch.plant("password");
    job("basic", format!("  basic_auth: {{username: u, password: {password}}}\n  {statics}"));
    let file = password_file.display();
    job("file", format!("  basic_auth: {{username: u, password_file: '{file}'}}\n  {statics}"));
    let token = watch.plant("credentials");
    job("token", format!("  authorization: {{credentials: {token}}}\n  {statics}"));
    let bearer = watch.plant("bearer_token");
    job("failing", format!("  bearer_token: {bearer}\n  metrics_path: /failing\n  {statics}"));
    let client = watch.plant("client_secret");
    job(
        "oauth",
        format!(
            "  oauth2: {{client_id: i, client_secret: {client}, \
             token_url: 'http://{targets}/failing'}}\n  {statics}"
        ),
    );
    let header = watch.plant("http_headers");
    job("header", format!("  http_headers: {{X-Key: {{secrets: [{header}]}}}}\n  {statics}"));
    let proxy = watch.plant("proxy_url");
    job("proxy", format!("  proxy_url: 'http://u:{proxy}@{targets}'\n  {statics}"));
    // The environment's proxy is never used for addresses of this host.
    let remote = "static_configs: [{targets: ['target.example:80']}]";
    job("proxy-of-environment", format!("  proxy_from_environment: true\n  {remote}"));
    let found = watch.plant("url of http_sd");
    let failing = watch.plant("url of http_sd that fails");
    let discovered = watch.plant("password of http_sd");
    job(
        "found",
        format!(
            "  http_sd_configs:\n  - url: 'http://u:{found}@{targets}/sd'\n  \
             - url: 'http://u:{failing}@{targets}/failing'\n  - url: 'http://{targets}/sd'\n    \
             basic_auth: {{username: u, password: {discovered}}}"
        ),
    );
    let (certificate, key) = made_by_openssl()?;
    watch.add("key of tls_config", longest_line(&key)?);
    let indented = |pem: &str| pem.trim().replace('\n', "\n      ");
    job(
        "tls",
        format!(
            "  scheme: https\n  tls_config:\n    cert: |\n      {}\n    key: |\n      {}\n  {statics}",
            indented(&certificate),
            indented(&key)
        ),
    );
    // What has no effect here is read all the same, and may be told.
    let consul = watch.plant("token of consul");
    let amazon = watch.plant("secret_key of ec2");
    job(
        "elsewhere",
        format!(
            "  consul_sd_configs: [{{server: 'c:1', token: {consul}}}]\n  \
             ec2_sd_configs: [{{region: r, access_key: a, secret_key: {amazon}}}]"
        ),
    );
    let (url, write) = (watch.plant("url of remote_write"), watch.plant("remote_write"));
    let alerts = watch.plant("alertmanager");
    yaml.push_str(&format!(
        "remote_write:\n- url: 'http://u:{url}@{targets}/write'\n- url: 'http://{targets}/write'\n  \
         basic_auth: {{username: u, password: {write}}}\nalerting:\n  alertmanagers:\n  \
         - basic_auth: {{username: u, password: {alerts}}}\n    {statics}\n"
    ));
    Ok(yaml)
}

/// A certificate for clients and its key, in PEM.
fn made_by_openssl() -> Result<(String, String)> {
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-subj", "/CN=client", "-keyout", "-", "-out", "-"])
        .output()
        .context("start openssl")?;
    let pem = String::from_utf8(output.stdout)?;
    let begin = pem.find("-----BEGIN CERTIFICATE").context("no certificate was made")?;
    let (key, certificate) = pem.split_at(begin);
    Ok((certificate.to_owned(), key.to_owned()))
}

fn longest_line(pem: &str) -> Result<&str> {
    let lines = pem.lines().filter(|line| !line.starts_with('-'));
    lines.max_by_key(|line| line.len()).context("an empty key")
}

/// Speaks to the guarded server.
struct Web {
    address: String,
    ca: PathBuf,
}

/// Someone who asks, with the header that says who.
struct Caller {
    name: &'static str,
    header: Option<String>,
}

impl Web {
    /// The whole answer, status line and headers included.
    fn ask(
        &self,
        caller: &Caller,
        method: &str,
        path: &str,
        body: Option<&str>,
    ) -> Result<(u16, Vec<u8>)> {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--include", "--globoff", "--max-time", "20"]);
        command.arg("--cacert").arg(&self.ca).args(["--request", method, "--http1.1"]);
        if let Some(header) = &caller.header {
            command.args(["--header", header]);
        }
        if let Some(body) = body {
            command.args(["--header", "Content-Type: application/json", "--data-binary", body]);
        }
        let url = format!("https://{}{path}", self.address);
        let output = command.arg(url).stdin(Stdio::null()).output().context("start curl")?;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.stdout.is_empty(), "{method} {path} by {}: {told}", caller.name);
        let status = output.stdout.get(9..12).and_then(|code| std::str::from_utf8(code).ok());
        let status = status.and_then(|code| code.parse().ok()).context("no status line")?;
        Ok((status, output.stdout))
    }

    /// `data` of an answer that must be well.
    fn data(&self, caller: &Caller, method: &str, path: &str, body: &str) -> Result<Value> {
        let body = (!body.is_empty()).then_some(body);
        let (status, answer) = self.ask(caller, method, path, body)?;
        let text = String::from_utf8_lossy(&answer);
        ensure!(status == 200, "{method} {path} by {}: {text}", caller.name);
        let start = text.find("\r\n\r\n").context("no body")?;
        let mut envelope: Value = serde_json::from_str(&text[start + 4..])?;
        Ok(envelope["data"].take())
    }
}

fn setup_token(server: &Server) -> Option<String> {
    let text = server.stdout();
    let (_, rest) = text.split_once("/setup#")?;
    let (token, _) = rest.split_once('\n')?;
    Some(token.trim().to_owned())
}

fn https_address(server: &Server) -> Result<String> {
    let text = server.stdout();
    let (_, rest) = text.split_once("https://").context("no address was printed")?;
    Ok(rest.split(['/', '\n', ' ']).next().unwrap_or_default().to_owned())
}

/// Makes the first user and a token of each kind; yields everyone who can ask. The second is an
/// administrator.
fn log_in(web: &Web, watch: &mut Watch, data: &Path, setup: &str) -> Result<Vec<Caller>> {
    let nobody = Caller { name: "nobody", header: None };
    let password = watch.plant("user's password");
    let body = json!({ "token": setup, "user": "ann", "password": password }).to_string();
    let (status, answer) = web.ask(&nobody, "POST", "/api/v1/setup", Some(&body))?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    ensure!(status == 200, "{answer}");
    watch.look("the answer to the setup", answer.as_bytes(), &[]);
    let cookie = answer.lines().find_map(|line| line.split_once("__Host-")).context("no cookie")?;
    let cookie = cookie.1.split(';').next().unwrap_or_default();
    let session = cookie.split_once('=').context("no session")?.1.to_owned();
    let local = std::fs::read_to_string(data.join("local.token")).context("read local.token")?;
    let local: Value = serde_json::from_str(&local).context("read local.token")?;
    let local = local["token"].as_str().context("no token in local.token")?.to_owned();
    let bearer = |token: &str| Some(format!("Authorization: Bearer {token}"));
    let mut callers = vec![nobody, Caller { name: "local", header: bearer(&local) }];
    for scope in ["read", "write", "admin"] {
        let body = json!({ "name": scope, "scopes": [scope] }).to_string();
        let made = web.data(&callers[1], "POST", "/api/v1/tokens", &body)?;
        let token = made["token"].as_str().context("no token")?.to_owned();
        watch.add("API token", &token);
        callers.push(Caller { name: scope, header: bearer(&token) });
    }
    let made = web.data(&callers[1], "POST", "/api/v1/join-tokens", "{}")?;
    watch.add("join token", made["token"].as_str().context("no join token")?);
    watch.add("session", &session);
    watch.add("local token", &local);
    let header = Some(format!("Cookie: __Host-{cookie}"));
    callers.push(Caller { name: "session", header });
    let basic = base64(format!("ann:{password}").as_bytes());
    watch.add("user's password in base64", &basic);
    callers.push(Caller { name: "basic", header: Some(format!("Authorization: Basic {basic}")) });
    Ok(callers)
}

/// The lines of every private key that the program made for itself.
fn add_private_keys(watch: &mut Watch, data: &Path) -> Result<()> {
    let mut keys = 0;
    for name in ["ca-key.pem", "server-key.pem"] {
        let pem = std::fs::read_to_string(data.join("tls").join(name))?;
        watch.add("private key", longest_line(&pem)?);
        keys += 1;
    }
    ensure!(keys == 2, "no keys");
    Ok(())
}

fn all_scraped(web: &Web, caller: &Caller) -> Result<()> {
    let data = web.data(caller, "GET", "/api/v1/targets", "")?;
    let active = data["activeTargets"].as_array().context("no targets")?;
    let unknown = active.iter().filter(|target| target["health"] == "unknown").count();
    let jobs: BTreeSet<&str> = active.iter().filter_map(|t| t["scrapePool"].as_str()).collect();
    ensure!(unknown == 0 && jobs.len() >= 10, "{} jobs, {unknown} unknown", jobs.len());
    Ok(())
}

/// A secret that nobody used would prove nothing.
fn sent_where_they_belong(watch: &Watch, received: &str) -> Result<()> {
    let basic = |user: &str, what: &str| -> Result<String> {
        let canary = watch.canaries.iter().find(|canary| canary.what == what);
        let canary = canary.with_context(|| format!("no secret {what}"))?;
        Ok(base64(format!("{user}:{}", canary.text).as_bytes()))
    };
    for what in ["credentials", "bearer_token", "http_headers"] {
        let canary = watch.canaries.iter().find(|canary| canary.what == what);
        let text = &canary.with_context(|| format!("no secret {what}"))?.text;
        ensure!(received.contains(text.as_str()), "{what} was never sent");
    }
    for what in ["password", "password_file", "proxy_url", "url of http_sd", "password of http_sd"]
    {
        ensure!(received.contains(&basic("u", what)?), "{what} was never sent");
    }
    ensure!(received.contains(&basic("i", "client_secret")?), "client_secret was never sent");
    let proxy = basic("user", "proxy of the environment")?;
    ensure!(received.contains(&proxy), "the environment's proxy was never used");
    Ok(())
}

/// Every path of the API's page, by everyone, with every method. Yields how many answers came.
fn ask_everything(web: &Web, callers: &[Caller], watch: &mut Watch) -> Result<usize> {
    let paths = documented_paths()?;
    ensure!(paths.len() > 40, "only {} paths are documented", paths.len());
    let parameters = "query=up&match[]=up&start=0&end=9999999999&step=300000000&scrapePool=basic\
                      &labels=%7B%7D&state=any";
    let mut asked = 0;
    for path in &paths {
        for caller in callers {
            let with = format!("{path}?{parameters}");
            let (_, answer) = web.ask(caller, "GET", &with, None)?;
            watch.look(&format!("GET {path} by {}", caller.name), &answer, &[]);
            asked += 1;
        }
        // Once each is enough for what a method without a body or with an empty one says; ending
        // the session or the server's users is not wanted.
        for method in ["POST", "PUT", "DELETE"] {
            if path.ends_with("/logout") || path.contains("/admin/") {
                continue;
            }
            // Making a token answers with that token, which is not known before.
            let (_, answer) = web.ask(&callers[1], method, path, Some("{\"x\":1}"))?;
            watch.look(&format!("{method} {path}"), &answer, &[]);
            asked += 1;
        }
    }
    Ok(asked)
}

/// The paths of `docs/operating/api.md`, which a test compares with the routes there are.
fn documented_paths() -> Result<BTreeSet<String>> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operating/api.md");
    let page = std::fs::read_to_string(page).context("read docs/operating/api.md")?;
    let words = page.split('`').skip(1).step_by(2).flat_map(|code| code.split(' '));
    let mut paths = BTreeSet::new();
    for word in words.filter(|word| word.starts_with('/')) {
        let word = word.trim_end_matches([',', '.']);
        let choices = word.split_once('{').and_then(|(before, rest)| {
            let (choices, behind) = rest.split_once('}')?;
            Some(choices.split(',').map(|one| format!("{before}{one}{behind}")).collect())
        });
        let is_choice = word.contains('{') && word.contains(',');
        let all: Vec<String> = choices.filter(|_| is_choice).unwrap_or(vec![word.to_owned()]);
        for path in all {
            let path = path.split('{').next().unwrap_or_default().to_owned();
            let mut plain = String::new();
            for (index, part) in path.split(['<', '>']).enumerate() {
                plain.push_str(if index % 2 == 0 { part } else { "job" });
            }
            paths.insert(plain);
        }
    }
    Ok(paths)
}

/// What is sent and refused is not told either.
fn refused_credentials(web: &Web, watch: &mut Watch) -> Result<()> {
    let guessed = watch.plant("guessed password");
    let body = json!({ "user": "ann", "password": guessed }).to_string();
    let nobody = Caller { name: "nobody", header: None };
    let (status, answer) = web.ask(&nobody, "POST", "/api/v1/login", Some(&body))?;
    ensure!(status == 401, "a wrong password was answered {status}");
    watch.look("a refused login", &answer, &[]);
    let foreign = watch.plant("foreign token");
    let header = Some(format!("Authorization: Bearer wft_{foreign}"));
    let (status, answer) =
        web.ask(&Caller { name: "stranger", header }, "GET", "/api/v1/query?query=1", None)?;
    ensure!(status == 401, "a foreign token was answered {status}");
    watch.look("a refused token", &answer, &[]);
    Ok(())
}

/// A token where other protocols bear it, in URLs among them: it lets in there, and nothing tells it.
fn at_the_places_of_protocols(web: &Web, callers: &[Caller], watch: &mut Watch) -> Result<()> {
    let bearer = |caller: &&Caller| {
        let header = caller.header.as_deref().filter(|_| caller.name == "write");
        header.and_then(|header| header.strip_prefix("Authorization: Bearer ").map(str::to_owned))
    };
    let token = callers.iter().find_map(|caller| bearer(&caller)).context("no token to write")?;
    let foreign = format!("wft_{}", watch.plant("foreign token of a protocol"));
    for (text, is_known) in [(&token, true), (&foreign, false)] {
        for (method, path, header) in [
            ("POST", format!("/write?db=d&u=ann&p={text}"), None),
            ("POST", format!("/api/v2/write?bucket=d&u=ann&p={text}"), None),
            ("POST", "/write".to_owned(), Some(format!("Authorization: Token ann:{text}"))),
            ("GET", format!("/datadog/api/v1/validate?api_key={text}"), None),
            ("GET", "/datadog/api/v1/validate".to_owned(), Some(format!("DD-API-KEY: {text}"))),
            // Not a place of theirs.
            ("GET", format!("/api/v1/query?query=1&api_key={text}&u=ann&p={text}"), None),
            ("POST", format!("/api/v1/import?api_key={text}"), None),
        ] {
            let is_theirs = !path.starts_with("/api/v1/");
            let caller = Caller { name: "a protocol's client", header };
            let body = (method == "POST").then_some("m value=1");
            let (status, answer) = web.ask(&caller, method, &path, body)?;
            let is_in = status / 100 == 2;
            ensure!(is_in == (is_known && is_theirs), "{method} {path:.30} was answered {status}");
            ensure!(is_in || status == 401, "{method} {path:.30} was answered {status}");
            watch.look(&format!("{method} {path:.30}"), &answer, &[]);
        }
    }
    Ok(())
}

/// Faults at places that hold secrets are shown without them, on reload and by `watchfire check`.
fn faulty_configuration(
    web: &Web,
    caller: &Caller,
    watch: &mut Watch,
    config: &Path,
    scratch: &Scratch,
) -> Result<()> {
    let secret = watch.plant("secret in a faulty file");
    for keys in [
        format!("basic_auth: {{username: u, pasword: {secret}}}"),
        format!("basic_auth: {{username: u, password: [{secret}]}}"),
        format!("authorization: {{credentials: {secret}, credentials_file: f}}"),
        format!("authorization: {{type: basic, credentials: {secret}}}"),
        format!("bearer_token: {{a: {secret}}}"),
        format!("proxy_url: 'http://u:{secret}@host:x/'"),
        format!("http_sd_configs: [{{url: 'http://u:{secret}@host:x/'}}]"),
        format!("http_headers: {{X-Key: {{secrets: {secret}}}}}"),
        format!("oauth2: {{client_id: i, client_secret: {secret}}}"),
        format!("tls_config: {{key: {secret}}}"),
        format!("password: {secret}"),
    ] {
        let yaml = format!("scrape_configs:\n- job_name: faulty\n  {keys}\n");
        std::fs::write(config, &yaml)?;
        let (status, answer) = web.ask(caller, "POST", "/-/reload", None)?;
        ensure!(status == 500, "a reload of {keys} was answered {status}");
        watch.look(&format!("reload of {keys:.20}"), &answer, &[]);
        let faulty = scratch.join("faulty.yml");
        std::fs::write(&faulty, &yaml)?;
        let output = Command::new(binary())
            .args(["check", "--prometheus-config", &faulty.display().to_string()])
            .output()
            .context("start watchfire check")?;
        ensure!(!output.status.success(), "{keys} passes the check");
        let told = [output.stdout, output.stderr].concat();
        watch.look(&format!("check of {keys:.20}"), &told, &[]);
    }
    Ok(())
}

/// Every file below the data directory; yields how many.
fn look_at_files(watch: &mut Watch, data: &Path) -> Result<usize> {
    let mut open = vec![data.to_owned()];
    let mut files = 0;
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            // The two places that documentation names.
            let allowed: &[&str] = match name {
                "local.token" => &["local token"],
                "ca-key.pem" | "server-key.pem" => &["private key"],
                _ => &[],
            };
            watch.look(&path.display().to_string(), &bytes, allowed);
            files += 1;
        }
    }
    ensure!(files > 5, "only {files} files");
    Ok(files)
}

/// Answers scrapes, and everything below `/failing` with an error; keeps what came.
struct Targets {
    address: SocketAddr,
    received: Arc<Mutex<String>>,
}

impl Targets {
    fn start() -> Result<Targets> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let received = Arc::new(Mutex::new(String::new()));
        let keep = Arc::clone(&received);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let keep = Arc::clone(&keep);
                // Whoever hangs up is not missed.
                std::thread::spawn(move || answer(stream, address, &keep));
            }
        });
        Ok(Targets { address, received })
    }
}

fn answer(stream: TcpStream, address: SocketAddr, keep: &Mutex<String>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let path = head.split(' ').nth(1).unwrap_or_default();
    let (status, kind, body) = if path.contains("/failing") {
        ("401 Unauthorized", "text/plain", "no".to_owned())
    } else if path.ends_with("/sd") {
        ("200 OK", "application/json", format!("[{{\"targets\":[\"{address}\"]}}]"))
    } else {
        ("200 OK", "text/plain; version=0.0.4", "up_here 1\n".to_owned())
    };
    keep.lock().expect("no thread panicked").push_str(&head);
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    reader.into_inner().write_all((head + &body).as_bytes())
}

/// Asks again and again for half a minute.
fn wait_for<T>(mut ask: impl FnMut() -> Option<T>) -> Result<T> {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(30) {
        if let Some(found) = ask() {
            return Ok(found);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    bail!("not within 30 s")
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * place) & 63) as usize];
            out.push(if place <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    out
}
