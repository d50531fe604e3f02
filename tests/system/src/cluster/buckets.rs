//! The same over S3, as moto speaks it: found, write, flush, start again; and a bucket that is not there.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::site::{free_address, launch};
use crate::harness::random::Random;
use crate::harness::{Launch, Scratch};
use crate::ledger::Ledger;

const PATIENCE: Duration = Duration::from_secs(60);

/// Ends with the test.
struct Moto(Child);

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn moto(scratch: &Scratch, port: u16) -> Result<Moto> {
    let own = std::env::current_exe().context("find this program")?;
    let target = own.ancestors().nth(2).context("this program lies in no target")?;
    let log = std::fs::File::create(scratch.join("moto.log"))?;
    let child = Command::new("/usr/bin/python3")
        .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()])
        .env("PYTHONPATH", target.join("python-packages"))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("start moto; is it installed?")?;
    let moto = Moto(child);
    let begin = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        ensure!(begin.elapsed() < PATIENCE, "moto does not answer");
        sleep(Duration::from_millis(20));
    }
    let bucket = format!("http://127.0.0.1:{port}/bucket");
    let made = Command::new("curl").args(["-sS", "-f", "-X", "PUT", &bucket]).output()?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Ok(moto)
}

fn with_credentials(launch: Launch) -> Launch {
    launch.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test")
}

pub(super) fn in_a_bucket(scratch: &Scratch) -> Result<String> {
    let port = free_address()?.port();
    let _moto = moto(scratch, port)?;
    let url = |bucket: &str| format!("s3://{bucket}/watchfire?endpoint=http://127.0.0.1:{port}");
    let (broker, _) = launch(scratch, "broker", free_address()?)?;
    let broker = with_credentials(broker);
    let mut server = broker.clone().arguments(&["--store", &url("nowhere")]).spawn()?;
    ensure!(!server.wait_end(PATIENCE)?.success(), "there is no such bucket");
    let said = server.stderr();
    ensure!(said.contains("NoSuchBucket") && said.contains("create the bucket"), "{said}");

    let server = broker.clone().arguments(&["--store", &url("bucket")]).start()?;
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
