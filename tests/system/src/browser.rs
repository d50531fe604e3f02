//! The console in Debian's Chromium, driven by `tests/browser/run.mjs`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::harness::ports::free_ports;
use crate::harness::process::binary;
use crate::harness::{Group, Launch, Scratch, Server};

/// The pages as a user meets them.
pub(crate) const GROUP: Group = Group { name: "browser", tests: &[("console", console)] };

/// One target that is down, and one that relabeling drops.
const TARGETS: &str = "\
scrape_configs:
  - job_name: away
    scrape_interval: 5s
    static_configs: [{targets: ['127.0.0.1:1', 'dropped:1'], labels: {team: night}}]
    relabel_configs:
      - {source_labels: [__address__], regex: 'dropped:.*', action: drop}
";

/// A rule that fires and one that fails.
const RULES: &str = "\
groups:
  - name: browser
    interval: 2s
    rules:
      - {alert: Busy, expr: 'node_load1 >= 0', labels: {severity: page}, annotations: {summary: 'Load is {{ $value }}'}}
      - {alert: Unclear, expr: 'node_cpu_seconds_total * on (instance) node_cpu_seconds_total'}
";

/// Two receivers that tell the script.
fn receivers(port: u16) -> String {
    format!(
        "route:\n  receiver: hook\n  group_by: [alertname]\n  group_wait: 1s\n  group_interval: 5s\n  \
         routes: [{{receiver: pager, matchers: ['severity=\"page\"']}}]\nreceivers:\n  \
         - {{name: hook, webhook_configs: [{{url: 'http://127.0.0.1:{port}/'}}]}}\n  \
         - {{name: pager, webhook_configs: [{{url: 'http://127.0.0.1:{port}/pager'}}]}}\n"
    )
}

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).expect("the package lies in tests/system").to_owned()
}

/// Runs every check of the script and passes its lines through: whoever sums the counts that are
/// printed gets the script's as well.
fn console(scratch: &Scratch) -> Result<String> {
    let directory = root().join("tests/browser");
    ensure!(
        directory.join("node_modules/playwright-core").is_dir(),
        "run `npm ci` in {} first",
        directory.display()
    );
    let targets = scratch.join("prometheus.yml");
    std::fs::write(&targets, TARGETS).context("write prometheus.yml")?;
    let (rules, notifying) = (scratch.join("rules.yml"), scratch.join("alertmanager.yml"));
    let hook = free_ports(1)?[0];
    std::fs::write(&rules, RULES).context("write rules.yml")?;
    std::fs::write(&notifying, receivers(hook)).context("write alertmanager.yml")?;
    let (targets, notifying) = (targets.display().to_string(), notifying.display().to_string());
    let server = Launch::all(&scratch.join("data"))
        .config(&format!("rules: {{files: ['{}']}}\n", rules.display()))
        .arguments(&["--prometheus-config", &targets, "--alertmanager-config", &notifying])
        .start()?;
    let beside = scratch.join("login");
    std::fs::create_dir(&beside).context("make a directory for the second server")?;
    let guarded = Launch::all(&beside.join("data"))
        .config("auth: {login: true}\n")
        .arguments(&["--peer-listen", "127.0.0.1:0"])
        .spawn()?;
    let setup_link = wait_for_setup_link(&guarded)?;
    let store = format!("file://{}", scratch.join("store").display());
    let founder = Launch::broker(&scratch.join("founder"))
        .arguments(&["--store", &store, "--peer-listen", "127.0.0.1:0", "--name", "founder"])
        .start()?;
    let joined = join_others(scratch, &store)?;
    wait_for_host(&server.client())?;
    let mut child = Command::new("node")
        .args(["run.mjs", &url(&server), &setup_link, &url(&founder)])
        .current_dir(&directory)
        .env("ALERTS_HOOK", hook.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("start node; install Debian's nodejs or a newer one")?;
    let output = child.stdout.take().expect("standard output is piped");
    let mut failures = Vec::new();
    let mut checks = 0;
    for line in BufReader::new(output).lines() {
        let line = line.context("read the script's output")?;
        println!("  {line}");
        checks += u64::from(line.ends_with(" ok"));
        if line.contains(" FAIL: ") {
            failures.push(line);
        }
    }
    let status = child.wait()?;
    ensure!(failures.is_empty(), "{} checks failed: {}", failures.len(), failures.join("; "));
    ensure!(status.success(), "the script ended with {status}");
    ensure!(checks > 0, "the script checked nothing");
    server.stop()?;
    guarded.stop()?;
    founder.stop()?;
    for other in joined {
        other.stop()?;
    }
    Ok(format!("{checks} checks"))
}

/// Three more brokers: one stays, one is drained on the page, and one is lost from the beginning, so that it has
/// been silent for long when the page takes it out.
fn join_others(scratch: &Scratch, store: &str) -> Result<Vec<Server>> {
    let mut running = Vec::new();
    for name in ["stays", "drained", "lost"] {
        let made = Command::new(binary())
            .args(["token", "create", "--role", "broker", "--data"])
            .arg(scratch.join("founder"))
            .output()
            .context("start watchfire token create")?;
        let command = String::from_utf8(made.stdout).context("a command is text")?;
        let words: Vec<&str> = command.split_whitespace().collect();
        let at = words.iter().position(|word| *word == "--join");
        let at = at.with_context(|| format!("no command to join: {command:?}"))?;
        let mut arguments = vec!["--store", store, "--peer-listen", "127.0.0.1:0", "--name", name];
        arguments.extend(&words[at..]);
        running.push(Launch::broker(&scratch.join(name)).arguments(&arguments).start()?);
    }
    running.pop().expect("three were started").kill()?;
    Ok(running)
}

fn url(server: &Server) -> String {
    format!("http://{}", server.client().address())
}

/// What a server that wants a login prints while there is no user.
fn wait_for_setup_link(server: &Server) -> Result<String> {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(20) {
        let text = server.stdout();
        // Half a line may be there already; a whole one ends.
        let line = text.lines().find(|line| line.contains("/setup#"));
        if let Some(link) = line.filter(|line| text.contains(&format!("{line}\n"))) {
            return Ok(link.trim().to_owned());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    bail!("no setup link was printed: {}{}", server.stdout(), server.stderr())
}

/// The first seconds have nothing to draw a line of.
fn wait_for_host(client: &crate::harness::Client) -> Result<()> {
    let begin = Instant::now();
    let query = [("query", "count_over_time(node_load1[1m]) >= 5")];
    while client.data("/api/v1/query", &query)?["result"].as_array().is_none_or(Vec::is_empty) {
        ensure!(begin.elapsed() < Duration::from_secs(20), "no five samples of this host");
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}
