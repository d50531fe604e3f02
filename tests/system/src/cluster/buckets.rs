//! The same over S3, as moto speaks it: found, write, flush, start again; and a bucket that is not there.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::moto::{BUCKET, MOTO_CREDENTIALS, Moto};
use super::site::launch;
use crate::harness::random::Random;
use crate::harness::{Scratch, free_address};
use crate::ledger::Ledger;

const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn in_a_bucket(scratch: &Scratch) -> Result<String> {
    let moto = Moto::start(scratch, &[], free_address()?)?;
    let url = |bucket: &str| moto.url(moto.address.ip(), bucket);
    let (broker, _) = launch(scratch, "broker", free_address()?)?;
    let broker =
        MOTO_CREDENTIALS.iter().fold(broker, |broker, (name, value)| broker.env(name, value));
    let mut server = broker.clone().arguments(&["--store", &url("nowhere")]).spawn()?;
    ensure!(!server.wait_end(PATIENCE)?.success(), "there is no such bucket");
    let said = server.stderr();
    ensure!(said.contains("NoSuchBucket") && said.contains("create the bucket"), "{said}");

    let server = broker.clone().arguments(&["--store", &url(BUCKET)]).start()?;
    let mut ledger = Ledger::new(&scratch.join("ledger.txt"), 2, Random::seed())?;
    ledger.write_while(server.client(), || {
        sleep(Duration::from_secs(2));
        Ok(())
    })?;
    let begin = Instant::now();
    while server.client().metric("watchfire_broker_blocks")? == 0.0 {
        ensure!(begin.elapsed() < PATIENCE, "nothing is flushed: {}", server.stderr());
        sleep(Duration::from_millis(50));
    }
    ledger.check(server.client())?;
    let client = server.client();
    let puts =
        client.metric("watchfire_objects_requests_total{store=\"truth\",operation=\"put\"}")?;
    server.kill()?;
    let server = broker.start()?;
    ledger.check(server.client()).context("after a kill")?;
    server.stop()?;
    Ok(format!("{} samples in {puts} objects", ledger.acknowledged_samples()))
}
