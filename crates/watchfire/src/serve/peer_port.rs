//! The port for Watchfire's own processes: agents push there, consoles read, brokers agree.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use broker::Broker;
use broker::rpc::ReadSettings;
use net::{Bound, NetMetrics, Server, ServerSettings};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::service::Routes;

use super::Security;
use crate::config::Config;
use crate::file_handles;

/// The port, being served.
pub(super) struct PeerPort {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
}

impl PeerPort {
    /// Listens. `None` where the port is taken and nobody has asked for it by name: on a host with two
    /// of us, the second still serves everything else.
    pub(super) async fn bind(config: &Config, metrics: Arc<NetMetrics>) -> Result<Option<Bound>> {
        let listen = config.peer_listen;
        let bound = match Server::bind(listen.address).await {
            Err(error) if error.kind() == ErrorKind::AddrInUse && !listen.is_named => {
                tracing::warn!(
                    address = %listen.address,
                    "the port for agents is taken; start with --peer-listen HOST:PORT to take \
                     agents on another one"
                );
                return Ok(None);
            }
            bound => bound.with_context(|| {
                format!(
                    "cannot listen for agents on {}; choose another address with --peer-listen",
                    listen.address
                )
            })?,
        };
        let max_connections = file_handles::connections(config.max_connections);
        let settings = ServerSettings { max_connections, ..ServerSettings::default() };
        Ok(Some(bound.with_settings(settings).with_metrics(metrics)))
    }

    /// Serves the calls there are.
    pub(super) fn serve(
        bound: Bound,
        config: &Config,
        security: &Security,
        routes: Routes,
    ) -> Result<PeerPort> {
        let address = bound.local_addr();
        let (stop, stopped) = watch::channel(false);
        let server = bound.serve_rpc(security.mutual_tls(config)?, routes, until(stopped));
        Ok(PeerPort { address, stop, server: tokio::spawn(server) })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more calls and waits for those under way.
    pub(super) async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.server.await;
    }
}

/// What a broker answers to agents and consoles.
pub(super) fn calls(
    config: &Config,
    security: &Security,
    broker: &Broker,
    reads: ReadSettings,
) -> Routes {
    let name = config.agent.instance.clone();
    let ingest = broker::rpc::ingest_service(broker, name, security.enrollment());
    Routes::new(ingest).add_service(broker::rpc::read_service(broker, reads))
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // An error means the sender is gone, which is a stop as well.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}
