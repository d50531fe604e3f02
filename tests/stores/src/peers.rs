//! The programs that are asked, besides those that `tests/system` has as well: moto for S3, and what makes
//! certificates for all of them.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::harness::Scratch;
use crate::harness::peer::{Host, Peer};
use crate::harness::ports::free_ports;

/// An authority, and a certificate of it for 127.0.0.1 with its key: `ca.pem`, `cert.pem`, `key.pem`.
pub(crate) fn certificates(scratch: &Scratch) -> Result<()> {
    std::fs::write(scratch.join("san.cnf"), "subjectAltName=IP:127.0.0.1\n")?;
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let commands: [Vec<&str>; 3] = [
        [&["req", "-x509", "-days", "2", "-subj", "/CN=ca", "-keyout", "ca-key.pem"], &key[..]]
            .concat(),
        [&["req", "-subj", "/CN=store", "-keyout", "key.pem", "-out", "request.pem"], &key[..]]
            .concat(),
        [
            "x509",
            "-req",
            "-days",
            "2",
            "-in",
            "request.pem",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca-key.pem",
        ]
        .into_iter()
        .chain(["-CAcreateserial", "-extfile", "san.cnf", "-out", "cert.pem"])
        .collect(),
    ];
    for (index, mut arguments) in commands.into_iter().enumerate() {
        if index == 0 {
            arguments.extend(["-out", "ca.pem"]);
        }
        let output =
            Command::new("openssl").args(arguments).current_dir(scratch.path()).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// moto, an S3 in memory, with the bucket `bucket`.
pub(crate) fn moto(scratch: &Scratch, environment: &[(&str, &str)]) -> Result<Peer> {
    moto_with(scratch, environment, &[])
}

/// As [`moto`], with more arguments.
pub(crate) fn moto_with(
    scratch: &Scratch,
    environment: &[(&str, &str)],
    more: &[&str],
) -> Result<Peer> {
    let own = std::env::current_exe().context("find this program")?;
    let target = own.ancestors().nth(2).context("this program lies in no target")?;
    let port = free_ports(1)?[0];
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
    command.args(more).current_dir(scratch.path());
    command.env("PYTHONPATH", target.join("python-packages"));
    command.envs(environment.iter().copied());
    let address = std::net::SocketAddr::new(Host::here().address, port);
    let peer = Peer::start(scratch, "moto", address, command)?;
    let scheme = if more.is_empty() { "http" } else { "https" };
    let bucket = format!("{scheme}://127.0.0.1:{port}/bucket");
    let made = Command::new("curl").args(["-ksS", "-f", "-X", "PUT", &bucket]).output()?;
    let is_open = environment.is_empty();
    ensure!(made.status.success() || !is_open, "{}", String::from_utf8_lossy(&made.stderr));
    Ok(peer)
}
