//! Starts that must be refused, with words that help.

use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::harness::{Launch, Scratch};

const PATIENCE: Duration = Duration::from_secs(20);

/// Starts it, and checks that it ends with a failure that says all of `words`.
fn is_refused(launch: &Launch, words: &[&str]) -> Result<()> {
    let mut server = launch.spawn()?;
    let status = server.wait_end(PATIENCE)?;
    let said = server.stderr();
    ensure!(status.code().is_some_and(|code| code != 0), "ended with {status}: {said}");
    for word in words {
        ensure!(said.contains(word), "it does not say {word:?}: {said}");
    }
    ensure!(!said.contains("panicked"), "{said}");
    Ok(())
}

pub(super) fn data_in_use(scratch: &Scratch) -> Result<String> {
    let launch = Launch::broker(&scratch.join("data"));
    let first = launch.start()?;
    let pid = first.pid()?.to_string();
    let elsewhere = scratch.join("second");
    std::fs::create_dir_all(&elsewhere)?;
    is_refused(
        &launch.clone().beside(&elsewhere),
        &["in use by process", &pid, "choose another directory"],
    )?;
    ensure!(first.client().get("/-/ready")?.status == 200, "the first process is harmed");
    first.kill()?;
    launch.start()?.stop()?;
    Ok("the second process is refused and names the first".to_owned())
}

pub(super) fn port_in_use(scratch: &Scratch) -> Result<String> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    is_refused(
        &Launch::broker(&scratch.join("data")).arguments(&["--listen", &address]),
        &[&address, "--listen"],
    )?;
    Ok("refused, names the address".to_owned())
}

pub(super) fn open_to_the_network(scratch: &Scratch) -> Result<String> {
    let open = Launch::broker(&scratch.join("data")).arguments(&["--listen", "0.0.0.0:0"]);
    let is_open = Launch::broker(&scratch.join("data"))
        .config("auth:\n  login: false\n")
        .arguments(&["--listen", "0.0.0.0:0"]);
    is_refused(&is_open, &["0.0.0.0:0", "--insecure-no-auth"])?;
    let closed = open.spawn()?;
    let begin = Instant::now();
    let url = loop {
        let told = closed.stdout();
        let url = told.lines().find_map(|line| line.trim().strip_prefix("console "));
        if let Some(url) = url {
            break url.trim().to_owned();
        }
        ensure!(begin.elapsed() < PATIENCE, "not started: {}", closed.stderr());
        std::thread::sleep(Duration::from_millis(20));
    };
    ensure!(url.starts_with("https://"), "{url}");
    ensure!(closed.stdout().contains("/setup#"), "no setup link: {}", closed.stdout());
    let query = format!("{url}/api/v1/query?query=up");
    let plain = query.replace("https://", "http://");
    let ca_file = scratch.join("data/tls/ca.pem");
    for (url, wanted) in [(query, "401"), (format!("{url}/-/healthy"), "200"), (plain, "400")] {
        let output = Command::new("curl")
            .args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--cacert"])
            .arg(&ca_file)
            .arg(&url)
            .output()
            .context("start curl")?;
        let status = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(status == wanted, "{url} answers {status}, wanted {wanted}");
    }
    closed.stop()?;
    let mut allowed = open.arguments(&["--insecure-no-auth"]).spawn()?;
    allowed.wait_ready()?;
    allowed.stop()?;
    Ok("TLS and login unless something else is insisted on".to_owned())
}

pub(super) fn bad_configuration(scratch: &Scratch) -> Result<String> {
    let cases = [
        ("storage:\n  retentoin: 3d\n", "retentoin"),
        ("storage:\n  retention: soon\n", "watchfire.yml:2:14"),
        ("limits: [1, 2]\n", "limits"),
        ("listen: nowhere\n", "nowhere"),
        ("\u{0}\u{1}\u{2}", "watchfire.yml"),
        ("a: &a [*a, *a]\n", "watchfire.yml"),
    ];
    for (yaml, word) in cases {
        is_refused(&Launch::broker(&scratch.join("data")).config(yaml), &[word])
            .with_context(|| format!("{yaml:?}"))?;
    }
    Ok(format!("{} mistakes named", cases.len()))
}
