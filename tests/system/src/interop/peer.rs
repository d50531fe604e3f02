//! Debian's `prometheus`, which scrapes itself and `prometheus-node-exporter` each second and
//! sends everything on to us.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::harness::{Client, Scratch, free_address};

/// A program that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Fails when it ended by itself, which the test has seen in its answers.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running `prometheus-node-exporter`.
pub(super) struct NodeExporter {
    pub(super) client: Client,
    _process: Process,
}

impl NodeExporter {
    /// Starts it and waits until it answers.
    pub(super) fn start(scratch: &Scratch) -> Result<NodeExporter> {
        let address = free_address()?;
        let arguments = [format!("--web.listen-address={address}")];
        let process = spawn(scratch, "prometheus-node-exporter", &arguments)?;
        let client = Client::new(address);
        wait_for(&client, "/")?;
        Ok(NodeExporter { client, _process: process })
    }
}

/// The running Prometheus and what it scrapes.
pub(super) struct Prometheus {
    pub(super) client: Client,
    _process: Process,
    _exporter: NodeExporter,
}

impl Prometheus {
    /// Starts both and waits until Prometheus answers.
    pub(super) fn start(scratch: &Scratch, watchfire: SocketAddr) -> Result<Prometheus> {
        let exporter = NodeExporter::start(scratch)?;
        let target = exporter.client.address();
        let address = free_address()?;
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 900ms}}\n\
             scrape_configs:\n\
             - job_name: node\n  static_configs: [{{targets: ['{target}']}}]\n\
             - job_name: prometheus\n  static_configs: [{{targets: ['{address}']}}]\n\
             remote_write:\n\
             - url: http://{watchfire}/api/v1/write\n  \
               queue_config: {{batch_send_deadline: 200ms}}\n  \
               metadata_config: {{send_interval: 2s}}\n"
        );
        let file = scratch.join("prometheus.yml");
        std::fs::write(&file, config)?;
        let process = spawn(
            scratch,
            "prometheus",
            &[
                format!("--config.file={}", file.display()),
                format!("--storage.tsdb.path={}", scratch.join("prometheus").display()),
                format!("--web.listen-address={address}"),
            ],
        )?;
        let client = Client::new(address);
        wait_for(&client, "/-/ready")?;
        Ok(Prometheus { client, _process: process, _exporter: exporter })
    }
}

/// A running Prometheus that does what a file says.
pub(super) struct Scraper {
    pub(super) client: Client,
    _process: Process,
}

impl Scraper {
    /// Starts it by the file and waits until it answers.
    pub(super) fn start(scratch: &Scratch, file: &str) -> Result<Scraper> {
        Self::with(scratch, file, &[])
    }

    /// As [`Scraper::start`], with more flags.
    pub(super) fn with(scratch: &Scratch, file: &str, flags: &[&str]) -> Result<Scraper> {
        Self::named(scratch, "prometheus", file, flags)
    }

    /// As [`Scraper::with`], on a data directory of this name.
    pub(super) fn named(
        scratch: &Scratch,
        name: &str,
        file: &str,
        flags: &[&str],
    ) -> Result<Scraper> {
        let address = free_address()?;
        let mut arguments = vec![
            format!("--config.file={file}"),
            format!("--storage.tsdb.path={}", scratch.join(name).display()),
            format!("--web.listen-address={address}"),
        ];
        arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let process = spawn(scratch, "prometheus", &arguments)?;
        let client = Client::new(address);
        wait_for(&client, "/-/ready")?;
        Ok(Scraper { client, _process: process })
    }
}

/// A running Pushgateway.
pub(super) struct Pushgateway {
    pub(super) client: Client,
    _process: Process,
}

impl Pushgateway {
    /// Starts it and waits until it answers.
    pub(super) fn start(scratch: &Scratch) -> Result<Pushgateway> {
        let address = free_address()?;
        let arguments = [format!("--web.listen-address={address}")];
        let process = spawn(scratch, "prometheus-pushgateway", &arguments)?;
        let client = Client::new(address);
        wait_for(&client, "/-/ready")?;
        Ok(Pushgateway { client, _process: process })
    }
}

/// Waits until a peer answers 200.
fn wait_for(client: &Client, path: &str) -> Result<()> {
    let begin = Instant::now();
    while !client.get(path).is_ok_and(|answer| answer.status == 200) {
        ensure!(begin.elapsed() < Duration::from_secs(20), "{} is silent", client.address());
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn spawn(scratch: &Scratch, program: &str, arguments: &[String]) -> Result<Process> {
    let log = std::fs::File::create(scratch.join(&format!("{program}.log")))?;
    let child = Command::new(program)
        .args(arguments)
        .current_dir(scratch.path())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("start {program}; `cargo xtask test` installs it"))?;
    Ok(Process(child))
}

/// A running `vmagent` that scrapes a node exporter each second and sends everything on to us.
pub(super) struct VmAgent {
    pub(super) client: Client,
    _process: Process,
    _exporter: NodeExporter,
}

impl VmAgent {
    /// Starts both and waits until vmagent answers.
    pub(super) fn start(scratch: &Scratch, watchfire: SocketAddr) -> Result<VmAgent> {
        let exporter = NodeExporter::start(scratch)?;
        let target = exporter.client.address();
        let config = format!(
            "global: {{scrape_interval: 1s}}\n\
             scrape_configs:\n\
             - job_name: node\n  static_configs: [{{targets: ['{target}']}}]\n"
        );
        let file = scratch.join("vmagent.yml");
        std::fs::write(&file, config)?;
        let address = free_address()?;
        let arguments = [
            format!("-promscrape.config={}", file.display()),
            format!("-remoteWrite.url=http://{watchfire}/api/v1/write"),
            format!("-remoteWrite.tmpDataPath={}", scratch.join("vmagent").display()),
            format!("-httpListenAddr={address}"),
        ];
        let process = spawn(scratch, "vmagent", &arguments)?;
        let client = Client::new(address);
        wait_for(&client, "/health")?;
        Ok(VmAgent { client, _process: process, _exporter: exporter })
    }
}

/// A running `victoria-metrics`.
pub(super) struct VictoriaMetrics {
    pub(super) client: Client,
    _process: Process,
}

impl VictoriaMetrics {
    /// Starts it on an empty directory and waits until it answers.
    pub(super) fn start(scratch: &Scratch) -> Result<VictoriaMetrics> {
        let address = free_address()?;
        let arguments = [
            format!("-storageDataPath={}", scratch.join("victoria-metrics").display()),
            format!("-httpListenAddr={address}"),
        ];
        let process = spawn(scratch, "victoria-metrics", &arguments)?;
        let client = Client::new(address);
        wait_for(&client, "/health")?;
        Ok(VictoriaMetrics { client, _process: process })
    }
}
