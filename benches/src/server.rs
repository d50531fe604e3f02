//! The servers under test: started one at a time, on an empty directory, with their defaults, but that all
//! keep samples for a month.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::answers::Answer;
use crate::http::{Client, url_encode};
use crate::{environment, usage};

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    Watchfire,
    VictoriaMetrics,
    Prometheus,
    /// Of logs; Debian does not have it.
    #[value(skip)]
    VictoriaLogs,
    /// Takes alerts and notifies.
    #[value(skip)]
    Alertmanager,
}

/// How often Watchfire flushes when its work put off shall fall into the measured time.
const FLUSH_SECONDS: u64 = 20;
/// How long samples are kept: as long as VictoriaMetrics keeps them by default, so that all may be
/// asked for a month.
const RETENTION_DAYS: u32 = 31;
/// Nothing is believed to be quiet before: all put-off work that starts by the clock has started.
const SETTLE: Duration = Duration::from_secs(FLUSH_SECONDS + 15);
/// Quiet is less than [`QUIET_SHARE`] of one core over this long.
const QUIET_WINDOW: Duration = Duration::from_secs(5);
const QUIET_SHARE: f64 = 0.02;
const QUIET_LIMIT: Duration = Duration::from_secs(900);
const READY_LIMIT: Duration = Duration::from_secs(300);
const STOP_LIMIT: Duration = Duration::from_secs(120);

impl Kind {
    pub(crate) const ALL: [Kind; 3] = [Kind::Watchfire, Kind::VictoriaMetrics, Kind::Prometheus];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Watchfire => "watchfire",
            Kind::VictoriaMetrics => "victoria-metrics",
            Kind::Prometheus => "prometheus",
            Kind::VictoriaLogs => "victoria-logs",
            Kind::Alertmanager => "prometheus-alertmanager",
        }
    }

    /// The program's file.
    ///
    /// # Errors
    /// If it is missing, with how to get it.
    pub(crate) fn binary(self) -> Result<PathBuf> {
        if self == Kind::Watchfire {
            let own = std::env::current_exe().context("find this program's own directory")?;
            let binary = own.with_file_name("watchfire");
            ensure!(
                binary.is_file(),
                "{} is missing: run this through `cargo xtask bench`, which builds it",
                binary.display()
            );
            return Ok(binary);
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .map(|directory| directory.join(self.name()))
            .find(|file| file.is_file())
            .with_context(|| match self {
                Kind::VictoriaLogs => "victoria-logs is missing: build it from its module for Go, \
                                       github.com/VictoriaMetrics/VictoriaLogs, and put it into PATH"
                    .to_owned(),
                _ => format!(
                    "{0} is missing: install Debian's package `{0}` (apt-get install {0})",
                    self.name()
                ),
            })
    }

    /// Name and version.
    pub(crate) fn version(self) -> Result<String> {
        let is_packaged = !matches!(self, Kind::Watchfire | Kind::VictoriaLogs);
        let package = is_packaged.then(|| self.name());
        let mut version = environment::version(&self.binary()?, package)?;
        if let (Kind::Watchfire, Some(commit)) = (self, environment::commit()) {
            version = format!("{version} ({commit})");
        }
        Ok(format!("{} {version}", self.name()))
    }

    /// Path that answers 200 as soon as the server says it is ready.
    fn ready_path(self) -> &'static str {
        match self {
            Kind::Watchfire | Kind::Prometheus | Kind::Alertmanager => "/-/ready",
            Kind::VictoriaMetrics | Kind::VictoriaLogs => "/health",
        }
    }

    /// What a query's URL must carry so that no cached answer is measured.
    pub(crate) fn uncached(self) -> &'static str {
        if self == Kind::Prometheus { "" } else { "&nocache=1" }
    }
}

/// What work put off is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flushing {
    /// So often that it falls into the measured time.
    Soon,
    /// As the server does by default.
    Default,
}

/// How a server is started, besides its defaults.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) flushing: Flushing,
    /// What it scrapes, as a `prometheus.yml`.
    pub(crate) scrape_config: Option<String>,
    /// Rules that are evaluated, as a file of Prometheus.
    pub(crate) rules: Option<String>,
    /// Who is told of alerts, as an `alertmanager.yml`.
    pub(crate) alertmanager_config: Option<String>,
    /// Where Watchfire takes agents.
    pub(crate) peer_listen: Option<SocketAddr>,
    /// Connections that Watchfire takes, if not as many as by default.
    pub(crate) max_connections: Option<usize>,
    /// More of Watchfire's command line.
    pub(crate) arguments: Vec<String>,
    /// More of its environment.
    pub(crate) environment: Vec<(&'static str, &'static str)>,
    /// More of its configuration.
    pub(crate) config: String,
}

impl From<Flushing> for Setup {
    fn from(flushing: Flushing) -> Self {
        Setup {
            flushing,
            scrape_config: None,
            rules: None,
            alertmanager_config: None,
            peer_listen: None,
            max_connections: None,
            arguments: Vec::new(),
            environment: Vec::new(),
            config: String::new(),
        }
    }
}

/// A running server. Dropping it kills it and removes its directory.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) kind: Kind,
    child: Child,
    address: SocketAddr,
    directory: TempDir,
    setup: Setup,
}

impl Server {
    /// Starts a server on an empty directory and waits until it is ready.
    pub(crate) fn start(kind: Kind, setup: impl Into<Setup>) -> Result<Server> {
        let setup = setup.into();
        let directory = tempfile::Builder::new()
            .prefix("watchfire-bench-")
            .tempdir()
            .context("make a directory")?;
        let address = free_address()?;
        let child = spawn(kind, &setup, directory.path(), address)?;
        let mut server = Server { kind, child, address, directory, setup };
        server.wait_ready()?;
        Ok(server)
    }

    /// Kills the server as a power cut of the process would, and starts it again on its data.
    /// Yields the moment of the new start.
    pub(crate) fn kill_and_start_again(&mut self) -> Result<Instant> {
        self.kill()?;
        let started = Instant::now();
        self.start_again()?;
        Ok(started)
    }

    /// Kills the server; its data stays.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill().context("kill the server")?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts a server that has ended again on its data, as it was started, and does not wait for it.
    pub(crate) fn start_again(&mut self) -> Result<()> {
        self.child = spawn(self.kind, &self.setup, self.directory.path(), self.address)?;
        Ok(())
    }

    /// Waits until the server says it is ready.
    pub(crate) fn wait_ready(&mut self) -> Result<()> {
        self.wait_answering(self.kind.ready_path())
    }

    /// Asks for `path` each 2 ms until the answer is a success.
    pub(crate) fn wait_answering(&mut self, path: &str) -> Result<()> {
        let started = Instant::now();
        let mut last = None;
        while started.elapsed() < READY_LIMIT {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}:\n{}", self.kind.name(), self.last_words());
            }
            match self.client().and_then(|mut client| client.get(path)) {
                Ok(answer) if answer.status == 200 => return Ok(()),
                other => last = Some(other),
            }
            sleep(Duration::from_millis(2));
        }
        bail!(
            "{} did not answer {path} within {READY_LIMIT:?}, at last {last:?}:\n{}",
            self.kind.name(),
            self.last_words()
        )
    }

    pub(crate) fn client(&self) -> Result<Client> {
        Client::connect(self.address)
    }

    /// Where it takes HTTP, also while it does not run.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it takes agents.
    pub(crate) fn peers(&self) -> Option<SocketAddr> {
        self.setup.peer_listen
    }

    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        usage::cpu_seconds(self.child.id())
    }

    pub(crate) fn memory(&self) -> Result<usage::Memory> {
        usage::memory(self.child.id())
    }

    /// Bytes it has read since it was started, of files, whether cached or not, and of sockets.
    pub(crate) fn read_bytes(&self) -> Result<u64> {
        usage::read_bytes(self.child.id())
    }

    /// What its files occupy, without the space that Watchfire reserves to be able to delete on a
    /// full disk: it holds no data and does not grow.
    pub(crate) fn disk_bytes(&self) -> Result<u64> {
        let reserved = std::fs::metadata(self.data().join(RESERVED)).map_or(0, |file| file.len());
        Ok(usage::disk_bytes(&self.data())?.saturating_sub(reserved))
    }

    /// Waits until all work put off is done: the server has used next to no CPU for a while.
    pub(crate) fn wait_quiet(&self) -> Result<()> {
        let started = Instant::now();
        sleep(SETTLE - QUIET_WINDOW);
        loop {
            let before = self.cpu_seconds()?;
            sleep(QUIET_WINDOW);
            let share = (self.cpu_seconds()? - before) / QUIET_WINDOW.as_secs_f64();
            if share < QUIET_SHARE {
                return Ok(());
            }
            ensure!(
                started.elapsed() < QUIET_LIMIT,
                "{} still uses {:.0} % of a core {QUIET_LIMIT:?} after the load",
                self.kind.name(),
                share * 100.0
            );
        }
    }

    /// Asks the server to end, waits for it, and yields what its data occupies then.
    pub(crate) fn stop(mut self) -> Result<u64> {
        self.end()?;
        self.disk_bytes()
    }

    /// Asks the server to end and waits for it; its data stays.
    pub(crate) fn end(&mut self) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).context("ask the server to end")?;
        let started = Instant::now();
        while self.child.try_wait()?.is_none() {
            ensure!(
                started.elapsed() < STOP_LIMIT,
                "{} did not end within {STOP_LIMIT:?}:\n{}",
                self.kind.name(),
                self.last_words()
            );
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The end of what the server logged.
    pub(crate) fn last_words(&self) -> String {
        let log = std::fs::read(self.directory.path().join(LOG)).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(2_000)..]).into_owned()
    }

    /// A console in a process of its own, of a broker's address for peers; like a server that
    /// stores nothing.
    pub(crate) fn start_console(broker: &str, token: &str) -> Result<Server> {
        let directory = tempfile::Builder::new()
            .prefix("watchfire-bench-")
            .tempdir()
            .context("make a directory")?;
        let address = free_address()?;
        let log = File::create(directory.path().join(LOG))?;
        let child = Command::new(Kind::Watchfire.binary()?)
            .args(["console", "--broker", broker, "--join", token, "--log", "warn"])
            .args(["--listen", &address.to_string(), "--data"])
            .arg(directory.path().join(DATA))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start watchfire console")?;
        let setup = Flushing::Default.into();
        let mut server = Server { kind: Kind::Watchfire, child, address, directory, setup };
        server.wait_ready()?;
        Ok(server)
    }

    /// A token with which so many agents may join.
    pub(crate) fn join_token(&self, uses: usize) -> Result<String> {
        self.token(&["--uses", &uses.to_string()])
    }

    /// A token with which a broker may join.
    pub(crate) fn broker_token(&self) -> Result<String> {
        self.token(&["--role", "broker"])
    }

    /// A token with which a console may join.
    pub(crate) fn console_token(&self) -> Result<String> {
        self.token(&["--role", "console"])
    }

    /// A token from `watchfire token create`.
    fn token(&self, options: &[&str]) -> Result<String> {
        // The commands of this host find the server by it; it is written when the server answers already.
        let started = Instant::now();
        while !self.data().join(LOCAL_TOKEN).exists() {
            ensure!(started.elapsed() < STOP_LIMIT, "there is no {LOCAL_TOKEN}");
            sleep(Duration::from_millis(20));
        }
        let output = Command::new(self.kind.binary()?)
            .args(["token", "create"])
            .args(options)
            .arg("--data")
            .arg(self.data())
            .output()
            .context("start watchfire token create")?;
        let said = String::from_utf8_lossy(&output.stdout);
        let token = said.split_whitespace().find(|word| word.starts_with("wfj_"));
        token.map(str::to_owned).with_context(|| {
            format!("no token in {said:?}: {}", String::from_utf8_lossy(&output.stderr))
        })
    }

    /// The value that the server's own `/metrics` has for a series, written as there.
    pub(crate) fn metric(&self, series: &str) -> Result<f64> {
        let body = self.client()?.get("/metrics")?.successful()?;
        metric(&String::from_utf8_lossy(&body), series)
    }

    /// The sum of an instant query's values.
    pub(crate) fn query_total(&self, expression: &str) -> Result<f64> {
        let path = format!("/api/v1/query?query={}", url_encode(expression));
        let body = self.client()?.get(&path)?.successful()?;
        Ok(Answer::parse(&body)?.total())
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join(DATA)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if the server has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const DATA: &str = "data";
const RESERVED: &str = "ballast";
const LOCAL_TOKEN: &str = "local.token";
const LOG: &str = "log.txt";
const CONFIG: &str = "config.yml";
const SCRAPE_CONFIG: &str = "prometheus.yml";
const RULES: &str = "rules.yml";
const ALERTMANAGER_CONFIG: &str = "alertmanager.yml";

fn spawn(kind: Kind, setup: &Setup, directory: &Path, address: SocketAddr) -> Result<Child> {
    let data = directory.join(DATA);
    let config = directory.join(CONFIG);
    std::fs::create_dir_all(&data)?;
    let log = File::options().create(true).append(true).open(directory.join(LOG))?;
    for (name, text) in [(RULES, &setup.rules), (ALERTMANAGER_CONFIG, &setup.alertmanager_config)] {
        if let Some(text) = text {
            std::fs::write(directory.join(name), text)?;
        }
    }
    let mut command = Command::new(kind.binary()?);
    match kind {
        Kind::Watchfire => {
            command.arg("broker").arg("--data").arg(&data);
            command.args(["--listen", &address.to_string(), "--log", "warn"]);
            if let Some(address) = setup.peer_listen {
                command.args(["--peer-listen", &address.to_string()]);
            }
            command.args(&setup.arguments).envs(setup.environment.iter().copied());
            let mut yaml = format!("storage:\n  retention: {RETENTION_DAYS}d\n");
            if setup.flushing == Flushing::Soon {
                yaml.push_str(&format!("  flush_interval: {FLUSH_SECONDS}s\n"));
            }
            if let Some(connections) = setup.max_connections {
                yaml.push_str(&format!("http:\n  max_connections: {connections}\n"));
            }
            if setup.rules.is_some() {
                yaml.push_str(&format!("rules: {{files: [{RULES}], builtin: false}}\n"));
            }
            yaml.push_str(&setup.config);
            std::fs::write(&config, yaml)?;
            command.arg("--config").arg(&config);
            if let Some(yaml) = &setup.scrape_config {
                let scrape_config = directory.join(SCRAPE_CONFIG);
                std::fs::write(&scrape_config, yaml)?;
                command.arg("--prometheus-config").arg(&scrape_config);
            }
            if setup.alertmanager_config.is_some() {
                command.arg("--alertmanager-config").arg(directory.join(ALERTMANAGER_CONFIG));
            }
        }
        Kind::VictoriaMetrics => {
            command.arg(format!("-storageDataPath={}", data.display()));
            command.arg(format!("-httpListenAddr={address}"));
            // Only lifts a limit; at 1,000,000 series `count` over all is refused otherwise.
            command.args(["-search.maxUniqueTimeseries=10000000", "-loggerLevel=WARN"]);
        }
        Kind::VictoriaLogs => {
            command.arg(format!("-storageDataPath={}", data.display()));
            command.arg(format!("-httpListenAddr={address}"));
            command.args(["-loggerLevel=WARN", &format!("-retentionPeriod={RETENTION_DAYS}d")]);
        }
        Kind::Prometheus => {
            let nothing = "global: {scrape_interval: 15s}\n";
            let mut yaml = setup.scrape_config.clone().unwrap_or_else(|| nothing.to_owned());
            if setup.rules.is_some() {
                yaml.push_str(&format!("rule_files: [{RULES}]\n"));
            }
            std::fs::write(&config, yaml)?;
            command.arg(format!("--config.file={}", config.display()));
            command.arg(format!("--storage.tsdb.path={}", data.display()));
            command.arg(format!("--web.listen-address={address}"));
            command.arg(format!("--storage.tsdb.retention.time={RETENTION_DAYS}d"));
            command.args(["--web.enable-remote-write-receiver", "--log.level=warn"]);
        }
        Kind::Alertmanager => {
            let config = directory.join(ALERTMANAGER_CONFIG);
            command.arg(format!("--config.file={}", config.display()));
            command.arg(format!("--storage.path={}", data.display()));
            command.arg(format!("--web.listen-address={address}"));
            // One alone: without an address it waits for no peers.
            command.args(["--cluster.listen-address=", "--log.level=warn"]);
        }
    }
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("start {}", kind.name()))
}

/// The value of a series in a text exposition.
pub(crate) fn metric(page: &str, series: &str) -> Result<f64> {
    let value = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    let value = value.with_context(|| format!("/metrics has no {series}"))?;
    value.trim().parse().with_context(|| format!("{series} is {value:?}"))
}

/// A port nobody listens on now. Another program could take it before the server does; that run
/// then fails.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?.local_addr()?)
}
