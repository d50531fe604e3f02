//! The ports of protocols that are lines over TCP.

use std::sync::Arc;

use anyhow::{Context, Result};
use broker::{Broker, LineProtocol};
use net::{LinePort, NetMetrics};
use tokio::sync::watch;
use tokio::task::JoinHandle;

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

async fn until(mut stopped: watch::Receiver<bool>) {
    // An error means the sender is gone, which is a stop as well.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}
