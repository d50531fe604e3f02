//! The README's commands, as written, in a clean clone.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

use crate::browser::root;
use crate::harness::{Client, Group, Scratch, now_ms};

/// What somebody does who has just found the repository.
pub(crate) const GROUP: Group =
    Group { name: "quickstart", tests: &[("readme-commands", readme_commands)] };

/// A release build from nothing on two cores takes some minutes.
const BUILD_TIMEOUT: Duration = Duration::from_secs(20 * 60);
const ADDRESS: &str = "127.0.0.1:9595";

/// The commands are as written; only the compiler is asked for less, since what is proven here is
/// that they work, not how fast the program is.
const BUILT_QUICKLY: [(&str, &str); 4] = [
    ("CARGO_INCREMENTAL", "1"),
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "64"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "false"),
];

/// Runs the first `sh` block, which serves, and the others while it does, from a clone of HEAD.
///
/// `WATCHFIRE_QUICKSTART_DEBUG=1` leaves out `--release` where time matters more than truth.
fn readme_commands(scratch: &Scratch) -> Result<String> {
    let address = ADDRESS.parse().expect("a loopback address");
    let client = Client::new(address);
    ensure!(client.connect().is_err(), "something already listens on {ADDRESS}; stop it first");
    let clone = fresh_clone()?;
    let blocks = shell_blocks(&clone.join("README.md"))?;
    let translated = shell_blocks(&clone.join("README.zh-CN.md"))?;
    ensure!(blocks == translated, "the READMEs tell different commands");
    let [serve, others @ ..] = blocks.as_slice() else { bail!("README.md has no sh block") };
    let begin = Instant::now();
    let mut running = Running::start(&clone, serve, &scratch.join("first"))?;
    let visible = running.wait_visible(&client)?;
    let built = begin.elapsed();
    ensure!(visible <= 2.0, "this host was visible {visible:.2} s after the start, wanted 2 s");
    for block in others {
        let output = shell(&clone, block).output().context("run a block of the README")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success() && !text.trim().is_empty(), "{block}: {text} {told}");
        if block.contains("query node_load1") {
            ensure!(text.contains("node_load1"), "{block} printed {text}");
        }
    }
    let before = samples(&client)?;
    running.interrupt()?;
    ensure!(clone.join("watchfire-data").is_dir(), "no ./watchfire-data");
    // "Starting again goes on where it was."
    let mut again = Running::start(&clone, serve, &scratch.join("second"))?;
    again.wait_visible(&client)?;
    wait_continued(&client, &before)?;
    again.interrupt()?;
    std::fs::remove_dir_all(&clone).context("remove the clone")?;
    Ok(format!(
        "{} blocks; built and started in {} s, host visible {:.0} ms after the start",
        blocks.len(),
        built.as_secs(),
        visible * 1e3
    ))
}

/// `quickstart` in the target directory this program was built in: the clone, and beside it what
/// cargo builds of it. That stays, so that a second run compiles no dependency again, and apart
/// from this working tree's own, which it would overwrite.
fn directory() -> PathBuf {
    let own = std::env::current_exe().expect("a running program has a path");
    own.ancestors().nth(2).expect("a program lies in target/PROFILE").join("quickstart")
}

/// HEAD as others would get it.
fn fresh_clone() -> Result<PathBuf> {
    let clone = directory().join("clone");
    if clone.exists() {
        std::fs::remove_dir_all(&clone).context("remove an old clone")?;
    }
    let status = Command::new("git")
        .args(["clone", "--quiet", "--no-local"])
        .arg(root())
        .arg(&clone)
        .status()
        .context("start git")?;
    ensure!(status.success(), "git clone ended with {status}");
    Ok(clone)
}

/// The commands of each ```` ```sh ```` block.
fn shell_blocks(readme: &Path) -> Result<Vec<String>> {
    let text =
        std::fs::read_to_string(readme).with_context(|| format!("read {}", readme.display()))?;
    let blocks = text.split("```sh\n").skip(1);
    Ok(blocks.filter_map(|rest| Some(rest.split_once("```")?.0.trim().to_owned())).collect())
}

/// A block as a shell would get it, in the clone.
fn shell(clone: &Path, block: &str) -> Command {
    let is_debug = std::env::var_os("WATCHFIRE_QUICKSTART_DEBUG").is_some_and(|word| word == "1");
    let block = if is_debug { block.replace(" --release", "") } else { block.to_owned() };
    let mut command = Command::new("sh");
    command
        .args(["-e", "-c", &block])
        .current_dir(clone)
        .env("CARGO_TARGET_DIR", directory().join("build"))
        .envs(BUILT_QUICKLY)
        .env_remove("WATCHFIRE_BIN")
        .stdin(Stdio::null());
    command
}

/// The block that serves. Ended when dropped.
struct Running {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Running {
    fn start(clone: &Path, block: &str, log: &Path) -> Result<Running> {
        let (stdout, stderr) = (log.with_extension("out"), log.with_extension("err"));
        let child = shell(clone, block)
            .stdout(File::create(&stdout)?)
            .stderr(File::create(&stderr)?)
            .process_group(0)
            .spawn()
            .context("start a shell")?;
        Ok(Running { child, stdout, stderr })
    }

    fn told(&self) -> String {
        let text = std::fs::read_to_string(&self.stderr).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// Waits for the URL and for this host; yields seconds between the program's start and the
    /// moment the API had the host.
    fn wait_visible(&mut self, client: &Client) -> Result<f64> {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("ended with {status}: {}", self.told());
            }
            let printed = std::fs::read_to_string(&self.stdout).unwrap_or_default();
            if printed.contains(&format!("http://{ADDRESS}")) {
                break;
            }
            ensure!(begin.elapsed() < BUILD_TIMEOUT, "no URL printed: {}", self.told());
            std::thread::sleep(Duration::from_millis(10));
        }
        let printed = Instant::now();
        let query = [("query", "node_load1")];
        while client.data("/api/v1/query", &query)?["result"].as_array().is_none_or(Vec::is_empty) {
            ensure!(printed.elapsed() < Duration::from_secs(10), "this host never became visible");
            std::thread::sleep(Duration::from_millis(10));
        }
        let visible_s = now_ms() as f64 / 1e3;
        Ok(visible_s - client.metric("process_start_time_seconds")?)
    }

    /// Ctrl-C: the terminal signals everything in the foreground.
    fn interrupt(mut self) -> Result<()> {
        self.signal(Signal::INT);
        let begin = Instant::now();
        while self.child.try_wait()?.is_none() {
            ensure!(begin.elapsed() < Duration::from_secs(20), "still runs 20 s after Ctrl-C");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = Pid::from_raw(self.child.id().cast_signed()) {
            // It may have ended by itself.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// Samples of `node_load1` within the last hour, by time.
fn samples(client: &Client) -> Result<Vec<Value>> {
    let data = client.data("/api/v1/query", &[("query", "node_load1[1h]")])?;
    let samples = data["result"][0]["values"].as_array().context("this host's load")?;
    Ok(samples.clone())
}

/// Waits until the samples of before the restart are followed by new ones. The host is visible at
/// once after a restart, by its older samples, so the first new one may be a second away.
fn wait_continued(client: &Client, before: &[Value]) -> Result<()> {
    let begin = Instant::now();
    loop {
        let after = samples(client)?;
        ensure!(after.starts_with(before), "{before:?} before the restart, {after:?} after it");
        if after.len() > before.len() {
            return Ok(());
        }
        ensure!(begin.elapsed() < Duration::from_secs(5), "nothing new within 5 s of the restart");
        std::thread::sleep(Duration::from_millis(50));
    }
}
