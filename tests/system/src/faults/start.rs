//! Starts that must be refused, with words that help.

use std::net::TcpListener;
use std::time::Duration;

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
    is_refused(&open, &["0.0.0.0:0", "--insecure-no-auth"])?;
    let mut allowed = open.arguments(&["--insecure-no-auth"]).spawn()?;
    allowed.wait_ready()?;
    allowed.stop()?;
    Ok("refused unless allowed".to_owned())
}

pub(super) fn bad_configuration(scratch: &Scratch) -> Result<String> {
    let cases = [
        ("storage:\n  retentoin: 3d\n", "retentoin"),
        ("storage:\n  retention: soon\n", "storage.retention"),
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
