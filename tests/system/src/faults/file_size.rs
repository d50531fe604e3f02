//! A limit of the size of files, as `ulimit -f` and units of systemd set it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::expect;
use crate::harness::{Launch, Scratch, WriteBody, now_ms};

/// The kernel ends a process that writes beyond it, unless it does not want to be.
const LIMIT: &str = "--fsize=300000";
const PATIENCE: Duration = Duration::from_secs(60);

/// The limit is an error like a full disk, not a death; and writes go on in the next file.
pub(super) fn file_size_limit(scratch: &Scratch) -> Result<String> {
    let launch = Launch::broker(&scratch.join("data"));
    let server = launch.clone().under(&["prlimit", LIMIT]).start().context("start with a limit")?;
    let client = server.client();
    let begin = Instant::now();
    let mut acknowledged = 0_i64;
    loop {
        ensure!(begin.elapsed() < PATIENCE, "{acknowledged} writes, and no file is full");
        let t_ms = now_ms();
        let samples: Vec<(i64, f64)> =
            (0..2_000).map(|n| (t_ms - 60_000 + n, (acknowledged + n) as f64 * 0.7)).collect();
        let name = format!("m{acknowledged}");
        let answer =
            client.write(&WriteBody::new().series(&[("__name__", &name)], &samples).snappy())?;
        if answer.status != 204 {
            expect(&answer, 507, &["no space left", "ulimit -f"])?;
            break;
        }
        acknowledged += 1;
    }
    let all = [("query", "count({__name__=~\"m.+\"})")];
    let found = client.data("/api/v1/query", &all)?;
    ensure!(client.get("/-/healthy")?.status == 200, "not healthy");
    server.kill()?;
    let server = launch.start().context("start without the limit")?;
    let again = server.client().data("/api/v1/query", &all)?;
    let wanted = acknowledged.to_string();
    for (answer, when) in [(&found, "before"), (&again, "after")] {
        let count = &answer["result"][0]["value"][1];
        ensure!(count == wanted.as_str(), "{count} of {wanted} {when} the restart");
    }
    server.stop()?;
    Ok(format!("{acknowledged} writes kept, the next refused with 507, the process lives"))
}
