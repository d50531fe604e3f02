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
    ("/usr/bin/amtool", "prometheus-alertmanager"),
    ("/usr/bin/vmagent", "victoria-metrics"),
    ("/usr/bin/victoria-metrics", "victoria-metrics"),
    ("/usr/bin/chromium", "chromium"),
    ("/usr/bin/strace", "strace"),
    ("/usr/sbin/nft", "nftables"),
    ("/usr/sbin/tc", "iproute2"),
    ("/usr/sbin/mkfs.ext4", "e2fsprogs"),
    ("/usr/bin/curl", "curl"),
    ("/usr/bin/openssl", "openssl"),
    ("/usr/bin/g++", "g++"),
    ("/usr/bin/python3", "python3"),
    ("/usr/bin/groff", "groff-base"),
    ("/usr/bin/logger", "bsdutils"),
    ("/usr/sbin/rsyslogd", "rsyslog"),
    ("/usr/lib/x86_64-linux-gnu/rsyslog/omelasticsearch.so", "rsyslog-elasticsearch"),
    ("/usr/bin/redis-server", "redis-server"),
    ("/usr/bin/redis-cli", "redis-tools"),
    ("/usr/bin/radosgw", "radosgw"),
    ("/usr/bin/ceph-mon", "ceph-mon"),
    ("/usr/bin/ceph-osd", "ceph-osd"),
    ("/usr/bin/systemd-analyze", "systemd"),
    ("/lib/systemd/systemd-journal-remote", "systemd-journal-remote"),
    ("/usr/bin/pip3", "python3-pip"),
    ("/usr/lib/python3/dist-packages/prometheus_client", "python3-prometheus-client"),
    ("/usr/lib/python3/dist-packages/google/protobuf", "python3-protobuf"),
];

/// Clients and servers that tests use and Debian does not have, from Python's package index.
const PYTHON_PACKAGES: &[&str] = &[
    "opentelemetry-sdk==1.45.2",
    "opentelemetry-exporter-otlp-proto-http==1.45.2",
    "opentelemetry-exporter-otlp-proto-grpc==1.45.2",
    "influxdb-client==1.50.0",
    "python-logging-loki==0.3.1",
    "pyarrow==26.0.1",
    "moto[s3]==5.2.1",
    "flask==3.1.3",
    "flask-cors==6.0.5",
];

/// Installs [`PYTHON_PACKAGES`] beside what cargo builds, for the tests alone.
fn install_python_packages() -> Result<()> {
    let own = std::env::current_exe().context("find this program")?;
    let target = own.parent().and_then(Path::parent).context("this program lies in no target")?;
    let directory = target.join("python-packages");
    let mark = directory.join("installed.txt");
    let wanted = PYTHON_PACKAGES.join("\n");
    if std::fs::read_to_string(&mark).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    let shown = directory.display().to_string();
    let mut arguments = vec!["-m", "pip", "install", "--quiet", "--upgrade", "--target", &shown];
    arguments.extend(PYTHON_PACKAGES);
    process::check(".", "/usr/bin/python3", &arguments)?;
    std::fs::write(&mark, wanted).with_context(|| format!("write {}", mark.display()))
}

/// Installs what is missing. Needs root; without it, names the packages and fails.
pub(crate) fn install() -> Result<()> {
    let mut missing: Vec<&str> =
        TOOLS.iter().filter(|(path, _)| !Path::new(path).exists()).map(|(_, p)| *p).collect();
    missing.dedup();
    if missing.is_empty() {
        return install_python_packages();
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
    install_python_packages()
}
