//! Installs the programs that tests need, from Debian's packages.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::process;

/// What the tests start or use, and the package that brings it.
const TOOLS: &[(&str, &str)] = &[
    ("/usr/bin/prometheus", "prometheus"),
    ("/usr/bin/promtool", "prometheus"),
    ("/usr/bin/prometheus-node-exporter", "prometheus-node-exporter"),
    ("/usr/bin/prometheus-pushgateway", "prometheus-pushgateway"),
    ("/usr/bin/vmagent", "victoria-metrics"),
    ("/usr/bin/chromium", "chromium"),
    ("/usr/bin/strace", "strace"),
    ("/usr/sbin/mkfs.ext4", "e2fsprogs"),
    ("/usr/bin/curl", "curl"),
    ("/usr/bin/openssl", "openssl"),
    ("/usr/bin/g++", "g++"),
    ("/usr/bin/python3", "python3"),
    ("/usr/bin/groff", "groff-base"),
    ("/usr/bin/systemd-analyze", "systemd"),
    ("/usr/lib/python3/dist-packages/prometheus_client", "python3-prometheus-client"),
    ("/usr/lib/python3/dist-packages/google/protobuf", "python3-protobuf"),
];

/// Installs what is missing. Needs root; without it, names the packages and fails.
pub(crate) fn install() -> Result<()> {
    let mut missing: Vec<&str> =
        TOOLS.iter().filter(|(path, _)| !Path::new(path).exists()).map(|(_, p)| *p).collect();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    println!("installing {}", missing.join(" "));
    let hint = || format!("tests need these Debian packages, install them: {}", missing.join(" "));
    process::check(".", "apt-get", &["update", "-qq"]).with_context(hint)?;
    let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends"];
    arguments.extend(&missing);
    let status = process::command(".", "apt-get", &arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .status()
        .with_context(hint)?;
    if !status.success() {
        bail!("apt-get ended with {status}; {}", hint());
    }
    // Debian starts services on install where an init system runs; the tests start their own.
    Ok(())
}
