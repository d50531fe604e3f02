//! The console in Debian's Chromium, driven by `tests/browser/run.mjs`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::harness::{Group, Launch, Scratch};

/// The pages as a user meets them.
pub(crate) const GROUP: Group = Group { name: "browser", tests: &[("console", console)] };

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
    let server = Launch::all(&scratch.join("data")).start()?;
    wait_for_host(&server.client())?;
    let mut child = Command::new("node")
        .args(["run.mjs", &format!("http://{}", server.client().address())])
        .current_dir(&directory)
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
    Ok(format!("{checks} checks"))
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
