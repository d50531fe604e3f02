//! An S3 server as a process: moto, which keeps everything in memory.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::harness::Scratch;

const PATIENCE: Duration = Duration::from_secs(60);

/// The bucket that is there.
pub(super) const BUCKET: &str = "bucket";

/// What moto takes; it takes anything.
pub(super) const MOTO_CREDENTIALS: [(&str, &str); 2] =
    [("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")];

/// Ends with the test.
pub(super) struct Moto {
    child: Child,
    /// Where the test reaches it.
    pub(super) address: SocketAddr,
}

impl Moto {
    /// Starts it behind the words `on`, which may lead to another host, and makes [`BUCKET`].
    pub(super) fn start(scratch: &Scratch, on: &[String], address: SocketAddr) -> Result<Moto> {
        let own = std::env::current_exe().context("find this program")?;
        let target = own.ancestors().nth(2).context("this program lies in no target")?;
        let log = std::fs::File::create(scratch.join("moto.log"))?;
        let port = address.port().to_string();
        let host = if on.is_empty() { "127.0.0.1" } else { "0.0.0.0" };
        let mut words: Vec<&str> = on.iter().map(String::as_str).collect();
        words.extend(["/usr/bin/python3", "-m", "moto.server", "-H", host, "-p", &port]);
        let child = Command::new(words[0])
            .args(&words[1..])
            .env("PYTHONPATH", target.join("python-packages"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start moto; is it installed?")?;
        let moto = Moto { child, address };
        let begin = Instant::now();
        while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
            ensure!(begin.elapsed() < PATIENCE, "moto does not answer");
            sleep(Duration::from_millis(20));
        }
        let bucket = format!("http://{address}/{BUCKET}");
        let made = Command::new("curl").args(["-sS", "-f", "-X", "PUT", &bucket]).output()?;
        ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Ok(moto)
    }

    /// The store of a cluster that reaches it at `host`.
    pub(super) fn url(&self, host: IpAddr, bucket: &str) -> String {
        let port = self.address.port();
        format!("s3://{bucket}/watchfire?endpoint=http://{host}:{port}")
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
