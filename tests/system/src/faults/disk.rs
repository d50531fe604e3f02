//! Disks that are full and disks that fail.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::expect;
use crate::harness::image::Image;
use crate::harness::{Client, Launch, Scratch, Server, WriteBody, now_ms};
use crate::ledger::Ledger;

const DISK_MEGABYTES: u64 = 16;
/// Left free at first: what the writers fill up.
const LEFT_BYTES: u64 = 150 << 10;
/// After space returned, writes must go on in this time, and a flush must succeed in twice that.
const RESUME: Duration = Duration::from_secs(15);
const FLUSHING: &str = "storage:\n  flush_interval: 200ms\n";

/// A full disk: writes are refused, reads go on, a start succeeds, and all is well when there is
/// space again.
pub(super) fn full(scratch: &Scratch) -> Result<String> {
    let image = Image::create(scratch.path(), DISK_MEGABYTES)?;
    let filler = image.path().join("filler");
    fill(&filler)?;
    let launch = Launch::broker(&image.path().join("data")).beside(scratch.path());
    let mut ledger = Ledger::new(&scratch.join("ledger"), 2, 1)?;
    let server = launch.start()?;
    write_until_full(&mut ledger, server.client())?;
    let before = ledger.acknowledged_samples();
    refuses_and_reads(server.client(), &ledger)?;
    server.kill()?;

    // Now with flushes that fail all the time.
    let launch = launch.config(FLUSHING);
    let server = launch.start().context("start on a full disk")?;
    let client = server.client();
    std::thread::sleep(Duration::from_secs(1));
    refuses_and_reads(client, &ledger).context("after a start on a full disk")?;

    std::fs::remove_file(&filler).context("free space")?;
    let freed = Instant::now();
    while ledger.write_once(client)? != [204].into() {
        ensure!(
            freed.elapsed() < RESUME,
            "writes are still refused {RESUME:?} after space is back"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let resumed = freed.elapsed();
    let flushes = client.metric("watchfire_broker_flushes_total")?;
    while client.metric("watchfire_broker_flushes_total")? <= flushes {
        ensure!(freed.elapsed() < 2 * RESUME, "no flush succeeds: {}", server.stderr());
        std::thread::sleep(Duration::from_millis(50));
    }
    ledger.check(client).context("after space is back")?;
    server.kill()?;
    let server = launch.start()?;
    ledger.check(server.client()).context("after a crash")?;
    server.stop()?;
    Ok(format!(
        "{before} samples until full, all readable; writes went on {} ms after space was back",
        resumed.as_millis()
    ))
}

/// Takes all space but what the writers are to fill.
fn fill(filler: &Path) -> Result<()> {
    let mut file = OpenOptions::new().create_new(true).write(true).open(filler)?;
    let zeros = vec![0; 64 << 10];
    while file.write_all(&zeros).is_ok() {}
    let size = file.metadata()?.len();
    file.set_len(size.saturating_sub(LEFT_BYTES)).context("give some space back")?;
    file.sync_all().context("sync the filler")
}

fn write_until_full(ledger: &mut Ledger, client: Client) -> Result<()> {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(60) {
        if ledger.write_once(client)? == [507].into() {
            return Ok(());
        }
        ledger.write_while(client, || {
            std::thread::sleep(Duration::from_millis(200));
            Ok(())
        })?;
    }
    bail!("the disk does not get full in a minute")
}

fn refuses_and_reads(client: Client, ledger: &Ledger) -> Result<()> {
    // Larger than the last free bytes of a block.
    let samples: Vec<(i64, f64)> = (0..2_000).map(|n| (now_ms() - n, n as f64 * 0.7)).collect();
    let body = WriteBody::new().series(&[("__name__", "too_late")], &samples).snappy();
    let words = ["no space left", "nothing of this request was stored", "storage.retention"];
    expect(&client.write(&body)?, 507, &words)?;
    let found = client.data("/api/v1/query", &[("query", "too_late")])?;
    ensure!(found["result"].as_array().is_some_and(Vec::is_empty), "refused and visible");
    ensure!(client.metric("watchfire_broker_commits_refused_full_total")? > 0.0, "not counted");
    ensure!(client.get("/-/healthy")?.status == 200, "not healthy");
    ledger.check(client).context("while the disk is full")
}

/// Syncs that fail: the process stops and says so, and what it acknowledged is there.
pub(super) fn failed_sync(scratch: &Scratch) -> Result<String> {
    let launch =
        Launch::broker(&scratch.join("data")).config("storage:\n  flush_interval: 100ms\n");
    let mut ledger = Ledger::new(&scratch.join("ledger"), 3, 2)?;
    launch.start()?.stop()?;
    let (mut at_start, mut while_writing) = (0, 0);
    for calls in ["fdatasync,fsync", "fsync"] {
        for first in [1, 2, 3, 5, 8, 13, 21] {
            let place = format!("EIO from call {first} of {calls} on");
            let inject = format!("inject={calls}:error=EIO:when={first}+");
            let trace = format!("trace={calls}");
            let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
            let mut server = launch.clone().under(&strace).spawn()?;
            if server.wait_ready().is_ok() {
                while_writing += 1;
                let client = server.client();
                ledger.write_while(client, || says_why(&mut server)).context(place.clone())?;
            } else {
                at_start += 1;
                says_why(&mut server).context(place.clone())?;
            }
            let server = launch.start().with_context(|| format!("after {place}"))?;
            ledger.check_counts(server.client()).with_context(|| format!("after {place}"))?;
            server.kill()?;
        }
        let server = launch.start()?;
        ledger.check(server.client())?;
        server.kill()?;
    }
    ensure!(while_writing > 0 && at_start > 0, "{at_start} at start, {while_writing} later");
    Ok(format!(
        "{at_start} at start, {while_writing} while writing: stopped with a message, {} samples \
         acknowledged, 0 lost",
        ledger.acknowledged_samples()
    ))
}

/// A file system that becomes read-only under the program.
pub(super) fn read_only(scratch: &Scratch) -> Result<String> {
    let mut image = Image::create(scratch.path(), DISK_MEGABYTES)?;
    let launch = Launch::broker(&image.path().join("data")).beside(scratch.path());
    let mut ledger = Ledger::new(&scratch.join("ledger"), 3, 3)?;
    let mut server = launch.start()?;
    ledger.write_while(server.client(), || {
        std::thread::sleep(Duration::from_millis(300));
        image.break_down()?;
        says_why(&mut server)
    })?;
    let mut refused = launch.spawn()?;
    says_why(&mut refused).context("start on a read-only disk")?;
    image.remount()?;
    let server = launch.start()?;
    ledger.check(server.client())?;
    server.stop()?;
    Ok(format!(
        "stopped with a message, {} samples acknowledged, 0 lost",
        ledger.acknowledged_samples()
    ))
}

/// Waits for the end of a process whose disk fails: not a good one, and with the system's reason.
fn says_why(server: &mut Server) -> Result<()> {
    let status = server.wait_end(Duration::from_secs(60))?;
    let said = server.stderr();
    ensure!(status.code().is_some_and(|code| code != 0), "ended with {status}: {said}");
    let reasons = ["Input/output error", "Read-only file system", "Structure needs cleaning"];
    ensure!(reasons.iter().any(|reason| said.contains(reason)), "it does not say why: {said}");
    // After a failed sync nothing may be tried again: the second sync would find nothing wrong.
    ensure!(!said.contains("tried again"), "{said}");
    ensure!(!said.contains("panicked"), "{said}");
    Ok(())
}
