//! The ports of protocols that are lines without answers: Graphite, OpenTSDB, syslog.

use std::sync::Arc;

use anyhow::{Context, Result};
use broker::{Broker, LineProtocol};
use net::{LinePort, NetMetrics, SyslogMessages, SyslogPort};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Security;
use crate::config::Config;

/// The ports, being served.
pub(super) struct LinePorts {
    stop: watch::Sender<bool>,
    servers: Vec<JoinHandle<()>>,
}

impl LinePorts {
    /// Listens where the configuration says and serves.
    pub(super) async fn open(
        config: &Config,
        security: &Security,
        broker: &Broker,
        metrics: &Arc<NetMetrics>,
    ) -> Result<LinePorts> {
        let (stop, stopped) = watch::channel(false);
        let mut servers = Vec::new();
        for (address, protocol) in [
            (config.graphite_listen, LineProtocol::Graphite),
            (config.opentsdb_listen, LineProtocol::OpenTsdb),
        ] {
            let Some(address) = address else { continue };
            let port = LinePort::bind(address, Arc::clone(metrics)).await.with_context(|| {
                format!("cannot listen for {protocol:?} on {address}; choose another address")
            })?;
            tracing::info!(address = %port.local_addr(), ?protocol, "taking lines");
            let broker = broker.clone();
            let take = move |lines| {
                let broker = broker.clone();
                async move { broker.ingest_lines(protocol, lines).await }
            };
            servers.push(tokio::spawn(port.serve(take, until(stopped.clone()))));
        }
        for port in syslog_ports(config, security, metrics).await? {
            let broker = broker.clone();
            let intake = Arc::new(config.syslog.intake.clone());
            let take = move |messages: SyslogMessages| {
                let (broker, intake) = (broker.clone(), Arc::clone(&intake));
                async move { broker.ingest_syslog(&intake, messages).await }
            };
            servers.push(tokio::spawn(port.serve(take, until(stopped.clone()))));
        }
        Ok(LinePorts { stop, servers })
    }

    /// Takes no more lines and waits for those under way.
    pub(super) async fn stop(self) {
        let _ = self.stop.send(true);
        for server in self.servers {
            let _ = server.await;
        }
    }
}

/// Listens for syslog where the configuration says.
async fn syslog_ports(
    config: &Config,
    security: &Security,
    metrics: &Arc<NetMetrics>,
) -> Result<Vec<SyslogPort>> {
    let syslog = &config.syslog;
    let (mut ports, bytes) = (Vec::new(), syslog.max_message_bytes);
    let cannot = |what: &str, address| {
        format!("cannot listen for syslog over {what} on {address}; choose another address")
    };
    if let Some(address) = syslog.udp_listen {
        let port = SyslogPort::udp(address, bytes, Arc::clone(metrics)).await;
        ports.push(("UDP", port.with_context(|| cannot("UDP", address))?));
    }
    if let Some(address) = syslog.tcp_listen {
        let port = SyslogPort::tcp(address, None, bytes, Arc::clone(metrics)).await;
        ports.push(("TCP", port.with_context(|| cannot("TCP", address))?));
    }
    if let Some(address) = syslog.tls_listen {
        let tls = Some(security.tls_of_ports(config)?);
        let port = SyslogPort::tcp(address, tls, bytes, Arc::clone(metrics)).await;
        ports.push(("TLS", port.with_context(|| cannot("TLS", address))?));
    }
    for (over, port) in &ports {
        tracing::info!(address = %port.local_addr(), over, "taking syslog");
    }
    Ok(ports.into_iter().map(|(_, port)| port).collect())
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // An error means the sender is gone, which is a stop as well.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}
