//! The program as a process: started on a directory, asked, stopped or killed, restarted.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process_group};

use super::Client;

/// How long a start may take on a slow, busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(2);

/// How the program is to be started. Configuration, standard output and standard error lie beside
/// the data directory, so that they are kept with it.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    binary: PathBuf,
    role: Option<&'static str>,
    data: PathBuf,
    beside: PathBuf,
    config: Option<String>,
    arguments: Vec<String>,
    under: Vec<String>,
    /// Words before all others: on another host.
    on: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Launch {
    /// `watchfire broker` on a free loopback port, storing in `data`.
    pub(crate) fn broker(data: &Path) -> Self {
        Launch { role: Some("broker"), ..Self::all(data) }
    }

    /// `watchfire agent` on a free loopback port, spooling in `data`.
    pub(crate) fn agent(data: &Path) -> Self {
        Launch { role: Some("agent"), ..Self::all(data) }
    }

    /// `watchfire console` on a free loopback port, with its certificate in `data`.
    pub(crate) fn console(data: &Path) -> Self {
        Launch { role: Some("console"), ..Self::all(data) }
    }

    /// `watchfire` with all roles on a free loopback port, storing in `data`.
    pub(crate) fn all(data: &Path) -> Self {
        Launch {
            binary: binary(),
            role: None,
            data: data.to_owned(),
            beside: data.parent().expect("data lies in a test's directory").to_owned(),
            config: None,
            arguments: Vec::new(),
            under: Vec::new(),
            on: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// Sets the configuration file's text.
    pub(crate) fn config(mut self, yaml: &str) -> Self {
        self.config = Some(yaml.to_owned());
        self
    }

    /// Adds command line arguments; a later `--listen` wins over the free port.
    pub(crate) fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    /// Starts it below another program, such as `strace …`.
    pub(crate) fn under(mut self, command: &[&str]) -> Self {
        self.under = command.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Starts it on another host; `words` are [`super::network::Network::on`]'s, which become the
    /// program rather than stay around it.
    pub(crate) fn on(mut self, words: Vec<String>) -> Self {
        self.on = words;
        self
    }

    /// Sets an environment variable.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Puts configuration and output into `directory` instead of beside the data.
    pub(crate) fn beside(mut self, directory: &Path) -> Self {
        self.beside = directory.to_owned();
        self
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// It ended, or was not ready in a minute; the error holds what it wrote to standard error.
    pub(crate) fn start(&self) -> Result<Server> {
        let mut server = self.spawn()?;
        server.wait_ready()?;
        Ok(server)
    }

    /// Starts it and returns at once. Only [`Server::wait_ready`] makes [`Server::client`] usable.
    pub(crate) fn spawn(&self) -> Result<Server> {
        let mut words = self.on.clone();
        words.extend(self.under.iter().cloned());
        words.push(self.binary.display().to_string());
        words.extend(self.role.map(str::to_owned));
        words.extend(["--data".to_owned(), self.data.display().to_string()]);
        if !self.arguments.iter().any(|argument| argument == "--listen") {
            words.extend(["--listen".to_owned(), "127.0.0.1:0".to_owned()]);
        }
        if let Some(yaml) = &self.config {
            let path = self.beside.join("watchfire.yml");
            std::fs::write(&path, yaml).with_context(|| format!("write {}", path.display()))?;
            words.extend(["--config".to_owned(), path.display().to_string()]);
        }
        words.extend(self.arguments.iter().cloned());
        let stdout = File::create(self.beside.join("stdout.log")).context("make stdout.log")?;
        let stderr_path = self.beside.join("stderr.log");
        let mut stderr = OpenOptions::new().create(true).append(true).open(&stderr_path)?;
        let stderr_start = stderr.seek(SeekFrom::End(0))?;
        let child = Command::new(&words[0])
            .args(&words[1..])
            .envs(QUIET)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {}", words[0]))?;
        Ok(Server {
            child,
            client: None,
            stdout_path: self.beside.join("stdout.log"),
            stderr_path,
            stderr_start,
            is_wrapped: !self.under.is_empty(),
            spawned: Instant::now(),
            ready_after: Duration::ZERO,
        })
    }
}

/// Tests count what is stored: what a program stores by itself is for those to ask for that want it.
const QUIET: [(&str, &str); 2] =
    [("WATCHFIRE_OWN_METRICS", "false"), ("WATCHFIRE_BUILTIN_RULES", "false")];

/// Where the program under test lies: `WATCHFIRE_BIN`, else beside this test program.
pub(crate) fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("WATCHFIRE_BIN") {
        return PathBuf::from(path);
    }
    let own = std::env::current_exe().expect("a running program has a path");
    own.with_file_name("watchfire")
}

/// A running program. Killed when dropped.
pub(crate) struct Server {
    child: Child,
    client: Option<Client>,
    stdout_path: PathBuf,
    stderr_path: PathBuf,
    stderr_start: u64,
    is_wrapped: bool,
    spawned: Instant,
    ready_after: Duration,
}

impl Server {
    /// Waits for the banner and for `/-/ready`.
    ///
    /// # Errors
    /// As [`Launch::start`].
    pub(crate) fn wait_ready(&mut self) -> Result<()> {
        while self.spawned.elapsed() < START_TIMEOUT {
            if let Some(status) = self.child.try_wait()? {
                bail!("ended at its start with {status}: {}", self.stderr());
            }
            if let Some(address) = self.announced()? {
                let client = Client::new(address);
                if client.get("/-/ready").is_ok_and(|response| response.status == 200) {
                    self.client = Some(client);
                    self.ready_after = self.spawned.elapsed();
                    return Ok(());
                }
            }
            std::thread::sleep(POLL);
        }
        bail!("not ready after {START_TIMEOUT:?}: {}", self.stderr())
    }

    /// Whether it answers that it is ready, without waiting.
    pub(crate) fn is_ready(&self) -> bool {
        let address = self.announced().ok().flatten();
        let answer = address.and_then(|address| Client::new(address).get("/-/ready").ok());
        answer.is_some_and(|answer| answer.status == 200)
    }

    /// The address in the banner, once it is there.
    fn announced(&self) -> Result<Option<SocketAddr>> {
        let text = std::fs::read_to_string(&self.stdout_path).context("read stdout.log")?;
        let Some((_, rest)) = text.split_once("http://") else { return Ok(None) };
        // An agent's banner names a path as well.
        let Some((address, _)) = rest.split_once(['\n', '/']) else { return Ok(None) };
        address.trim().parse().map(Some).with_context(|| format!("banner names {address:?}"))
    }

    /// A client of this server.
    ///
    /// # Panics
    /// It was never ready.
    pub(crate) fn client(&self) -> Client {
        self.client.expect("the server became ready")
    }

    /// Time from the start of the process until it was ready.
    pub(crate) fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// What this process has written to standard error.
    pub(crate) fn stderr(&self) -> String {
        let mut text = Vec::new();
        if let Ok(mut file) = File::open(&self.stderr_path) {
            let _ = file.seek(SeekFrom::Start(self.stderr_start));
            let _ = file.read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// What it has written to standard output.
    pub(crate) fn stdout(&self) -> String {
        std::fs::read_to_string(&self.stdout_path).unwrap_or_default()
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Process id of the program itself, also when it runs below another one.
    pub(crate) fn pid(&self) -> Result<u32> {
        let own = self.child.id();
        if !self.is_wrapped {
            return Ok(own);
        }
        let children = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children"))
            .context("list the children of the wrapping program")?;
        children
            .split_whitespace()
            .next()
            .and_then(|word| word.parse().ok())
            .ok_or_else(|| anyhow!("the wrapping program has no child"))
    }

    /// Largest resident memory the process ever had, bytes.
    pub(crate) fn peak_resident_bytes(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?))
            .context("read the process' status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes: u64 = line
            .and_then(|text| text.trim().strip_suffix(" kB")?.parse().ok())
            .ok_or_else(|| anyhow!("no VmHWM in the process' status"))?;
        Ok(kilobytes * 1_024)
    }

    /// Sends a signal to the program and what it runs below.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(group) = Pid::from_raw(self.child.id().cast_signed()) {
            // It may have ended by itself, which the caller sees from its status.
            let _ = kill_process_group(group, signal);
        }
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.signal(Signal::KILL);
        self.child.wait().context("wait for the killed process")?;
        Ok(())
    }

    /// SIGTERM; waits until it has ended well.
    ///
    /// # Errors
    /// It ended with another status than 0 or not within a minute.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.signal(Signal::TERM);
        let status = self.wait_end(START_TIMEOUT)?;
        if !status.success() {
            bail!("stopping ended with {status}: {}", self.stderr());
        }
        Ok(())
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// It still runs after `timeout`.
    pub(crate) fn wait_end(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let begin = Instant::now();
        while begin.elapsed() < timeout {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(POLL);
        }
        bail!("still running after {timeout:?}: {}", self.stderr())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.is_running() {
            self.signal(Signal::KILL);
            let _ = self.child.wait();
        }
    }
}
