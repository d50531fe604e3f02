//! The ports that OTLP's exporters know: 4317 for gRPC, 4318 for HTTP. Each answers both.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use broker::Broker;
use net::{NetMetrics, OriginPolicy, Server, ServerSettings};
use settings::prometheus::{Otlp, TranslationStrategy};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use wire::otlp::Options;

use super::Security;
use crate::config::{Config, SideListen};

/// The ports, being served.
pub(super) struct OtlpPorts {
    stop: watch::Sender<bool>,
    servers: Vec<JoinHandle<()>>,
}

impl OtlpPorts {
    /// Listens and serves, but on what is taken and nobody has asked for by name: on a host with a
    /// Collector, that one has these ports.
    pub(super) async fn open(
        config: &Config,
        security: &Security,
        broker: &Broker,
        settings: ServerSettings,
        metrics: Arc<NetMetrics>,
    ) -> Result<OtlpPorts> {
        let (stop, stopped) = watch::channel(false);
        let mut servers = Vec::new();
        for (listen, flag) in [
            (config.otlp_grpc_listen, "--otlp-grpc-listen"),
            (config.otlp_http_listen, "--otlp-http-listen"),
        ] {
            let Some(bound) = bind(listen, flag).await? else { continue };
            let address = bound.local_addr();
            tracing::debug!(%address, "taking OTLP");
            let bound = bound.with_settings(settings.clone()).with_metrics(Arc::clone(&metrics));
            let router = router(config, security, broker, address, Arc::clone(&metrics));
            let serving = security.dress(bound)?.serve(router, until(stopped.clone()));
            servers.push(tokio::spawn(serving));
        }
        Ok(OtlpPorts { stop, servers })
    }

    /// Takes no more requests and waits for those under way.
    pub(super) async fn stop(self) {
        let _ = self.stop.send(true);
        for server in self.servers {
            let _ = server.await;
        }
    }
}

async fn bind(listen: SideListen, flag: &str) -> Result<Option<net::Bound>> {
    match Server::bind(listen.address).await {
        Err(error) if error.kind() == ErrorKind::AddrInUse && !listen.is_named => {
            tracing::warn!(
                address = %listen.address,
                "a port for OTLP is taken; the port of the API takes OTLP as well, or start with \
                 {flag} HOST:PORT"
            );
            Ok(None)
        }
        bound => bound.map(Some).with_context(|| {
            let address = listen.address;
            format!("cannot listen for OTLP on {address}; choose another address with {flag}")
        }),
    }
}

fn router(
    config: &Config,
    security: &Security,
    broker: &Broker,
    address: SocketAddr,
    metrics: Arc<NetMetrics>,
) -> Router {
    let origins = OriginPolicy::new(address)
        .with_hosts(config.allowed_hosts.iter().cloned())
        .with_metrics(metrics);
    origins.layer(security.guard(broker::otlp_routes(broker).into_router()))
}

/// How OTLP becomes series, as Prometheus' configuration says it.
pub(super) fn options(otlp: &Otlp) -> Options {
    use wire::otlp::TranslationStrategy as Ours;
    Options {
        translation_strategy: match otlp.translation_strategy {
            TranslationStrategy::UnderscoreEscapingWithSuffixes => {
                Ours::UnderscoreEscapingWithSuffixes
            }
            TranslationStrategy::UnderscoreEscapingWithoutSuffixes => {
                Ours::UnderscoreEscapingWithoutSuffixes
            }
            TranslationStrategy::NoUtf8EscapingWithSuffixes => Ours::NoUtf8EscapingWithSuffixes,
            TranslationStrategy::NoTranslation => Ours::NoTranslation,
        },
        promote_all_resource_attributes: otlp.promote_all_resource_attributes,
        promote_resource_attributes: otlp.promote_resource_attributes.clone(),
        ignore_resource_attributes: otlp.ignore_resource_attributes.clone(),
        keep_identifying_resource_attributes: otlp.keep_identifying_resource_attributes,
        convert_histograms_to_nhcb: otlp.convert_histograms_to_nhcb,
        promote_scope_metadata: otlp.promote_scope_metadata,
        label_name_underscore_sanitization: otlp.label_name_underscore_sanitization,
        label_name_preserve_multiple_underscores: otlp.label_name_preserve_multiple_underscores,
        // The broker knows.
        type_and_unit_labels: false,
    }
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // An error means the sender is gone, which is a stop as well.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}
