//! `watchfire delete` and `watchfire snapshot` against a running broker.

use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};

use super::import;
use crate::harness::process::binary;
use crate::harness::{Client, Launch, Scratch, now_ms};

pub(super) fn delete_and_snapshot(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data")).start()?;
    let client = server.client();
    let now_ms = now_ms();
    let lines = |name: &str| -> String {
        let line = |n: i64| {
            let (early, late) = (now_ms - 7_200_000, now_ms - 1_000);
            format!("{name}{{n=\"{n}\"}} 1 {early}\n{name}{{n=\"{n}\"}} 2 {late}\n")
        };
        (0..7).map(line).collect()
    };
    import(&client, &(lines("gone") + &lines("stays")))?;
    let hour_ago = ((now_ms - 3_600_000) / 1_000).to_string();

    // Looks, and deletes nothing.
    let looked = run(&client, &["delete", "--dry-run", "gone", "{__name__=\"gone\",n=\"3\"}"])?;
    let told = String::from_utf8_lossy(&looked.stdout);
    ensure!(looked.status.success() && told.starts_with("7 series on "), "{looked:?}");
    ensure!(told.contains("  gone{n=\"0\"}\n") && told.contains("and 2 more"), "{told}");
    // Nobody says yes.
    let unasked = run(&client, &["delete", "gone"])?;
    let told = String::from_utf8_lossy(&unasked.stderr);
    ensure!(!unasked.status.success() && told.contains("--yes"), "{unasked:?}");
    ensure!(samples(&client, "gone")? == 14, "something is deleted that should not be");
    for (bad, why) in [
        (&["delete", "--yes", "gone{"] as &[&str], "SELECTOR"),
        (&["delete", "--yes", "--start", "2", "--end", "1", "gone"], "later than --end"),
        (&["delete", "--yes"], "SELECTOR"),
    ] {
        let refused = run(&client, bad)?;
        let told = String::from_utf8_lossy(&refused.stderr);
        ensure!(!refused.status.success() && told.contains(why), "{bad:?}: {refused:?}");
    }

    // A copy from before is the way back.
    let copied = run(&client, &["snapshot"])?;
    ensure!(copied.status.success(), "{copied:?}");
    let name = String::from_utf8(copied.stdout)?.trim().to_owned();

    let deleted = run(&client, &["delete", "--yes", "--end", &hour_ago, "gone"])?;
    ensure!(deleted.status.success(), "{deleted:?}");
    ensure!(samples(&client, "gone")? == 7, "the samples of an hour ago are there");
    let deleted = run(&client, &["delete", "--yes", "--free-space", "gone"])?;
    ensure!(deleted.status.success(), "{deleted:?}");
    ensure!(
        samples(&client, "gone")? == 0 && samples(&client, "stays")? == 14,
        "not what was said"
    );
    let nothing = run(&client, &["delete", "gone"])?;
    let told = String::from_utf8_lossy(&nothing.stderr);
    ensure!(nothing.status.success() && told.contains("no series match"), "{nothing:?}");
    server.stop()?;

    let copy = Launch::broker(&scratch.join("data").join("snapshots").join(&name)).start()?;
    ensure!(samples(&copy.client(), "gone")? == 14, "the copy lacks something");
    copy.stop()?;
    Ok(format!("7 series, 2 deletes, the copy {name} has all"))
}

fn samples(client: &Client, name: &str) -> Result<u64> {
    let query = format!("sum(count_over_time({name}[1d]))");
    let data = client.data("/api/v1/query", &[("query", &query)])?;
    let value = data["result"][0]["value"][1].as_str().unwrap_or("0");
    value.parse().with_context(|| data.to_string())
}

fn run(client: &Client, arguments: &[&str]) -> Result<Output> {
    Command::new(binary())
        .args(arguments)
        .args(["--url", &format!("http://{}", client.address())])
        .stdin(Stdio::null())
        .output()
        .context("start the command")
}
