//! A store that is full or takes no writes: named, nothing lost, and writes go on when it does.

use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::site::launch;
use crate::harness::image::Image;
use crate::harness::random::Random;
use crate::harness::{Client, Scratch, free_address};
use crate::ledger::Ledger;

const PATIENCE: Duration = Duration::from_secs(40);

fn mounted(image: &Image, how: &str) -> Result<()> {
    let status = Command::new("mount")
        .args(["-o", &format!("remount,{how}")])
        .arg(image.path())
        .status()
        .context("start mount")?;
    ensure!(status.success(), "mount -o remount,{how}");
    Ok(())
}

/// Takes the room to the last block: large files first, then ones that fit where those do not.
fn fill(directory: &Path) -> Result<()> {
    std::fs::create_dir(directory)?;
    for (step, bytes) in [1 << 20, 64 << 10, 4 << 10, 1 << 10].into_iter().enumerate() {
        for number in 0..10_000 {
            let path = directory.join(format!("{step}-{number}"));
            let synced = std::fs::write(&path, vec![1; bytes])
                .and_then(|()| std::fs::File::open(&path)?.sync_all());
            if synced.is_err() {
                break;
            }
        }
    }
    Ok(())
}

fn until(what: u16, ledger: &mut Ledger, client: Client) -> Result<()> {
    let begin = Instant::now();
    while ledger.write_once(client)? != [what].into() {
        ensure!(begin.elapsed() < PATIENCE, "not all are answered {what}");
        sleep(Duration::from_millis(50));
    }
    Ok(())
}

pub(super) fn full_and_read_only(scratch: &Scratch) -> Result<String> {
    let image = Image::create(scratch.path(), 16)?;
    let url = format!("file://{}", image.path().join("store").display());
    mounted(&image, "ro")?;
    let (broker, _) = launch(scratch, "broker", free_address()?)?;
    let first = broker.clone().arguments(&["--store", &url]);
    let mut server = first.spawn()?;
    ensure!(!server.wait_end(PATIENCE)?.success(), "it founds a cluster in what takes no writes");
    ensure!(server.stderr().contains("Read-only file system"), "{}", server.stderr());
    mounted(&image, "rw")?;
    let server = first.start()?;
    let client = server.client();
    let mut ledger = Ledger::new(&scratch.join("ledger.txt"), 2, Random::seed())?;
    until(204, &mut ledger, client)?;

    let filler = image.path().join("filler");
    fill(&filler)?;
    until(503, &mut ledger, client).context("full")?;
    ledger.check(client).context("while the store is full")?;
    let said = client.write(&[]).map(|answer| answer.status)?;
    ensure!(said == 400, "what is wrong in itself is told as before: {said}");
    // It comes back to what it has, also while there is no room.
    server.kill()?;
    let server = broker.start().context("start with a full store")?;
    let client = server.client();
    ledger.check(client).context("after a start with a full store")?;
    std::fs::remove_dir_all(&filler)?;
    until(204, &mut ledger, client).context("there is room again")?;

    mounted(&image, "ro")?;
    until(503, &mut ledger, client).context("read-only")?;
    ledger.check(client).context("while the store takes no writes")?;
    server.kill()?;
    mounted(&image, "rw")?;
    let server = broker.start()?;
    until(204, &mut ledger, server.client()).context("it takes writes again")?;
    ledger.check(server.client())?;
    server.stop()?;
    Ok(format!("{} samples", ledger.acknowledged_samples()))
}
