//! OpenTelemetry's Python SDK exports metrics.

use anyhow::{Result, ensure};

use crate::harness::{Client, Launch, Scratch};

use super::python;

/// What an instrumented program does, once for each way in.
const SCRIPT: &str = r#"
import sys
from opentelemetry.sdk.metrics import MeterProvider, Counter, Histogram
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader, AggregationTemporality
from opentelemetry.sdk.metrics.view import View, ExponentialBucketHistogramAggregation
from opentelemetry.sdk.resources import Resource
kind, endpoint, temporality = sys.argv[1:4]
if kind == "grpc":
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    more = {"insecure": True}
else:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    more = {}
preferred = {}
if temporality == "delta":
    preferred = {Counter: AggregationTemporality.DELTA, Histogram: AggregationTemporality.DELTA}
exporter = OTLPMetricExporter(endpoint=endpoint, preferred_temporality=preferred, **more)
reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3600000)
resource = Resource.create({"service.name": kind, "service.namespace": temporality,
                            "service.instance.id": "i-1", "deployment.environment": "test"})
view = View(instrument_name="exp.latency", aggregation=ExponentialBucketHistogramAggregation())
provider = MeterProvider(resource=resource, metric_readers=[reader], views=[view])
meter = provider.get_meter("shop", "1.2")
orders = meter.create_counter("shop.orders", unit="{order}", description="Orders.")
latency = meter.create_histogram("shop.latency", unit="s")
fine = meter.create_histogram("exp.latency", unit="s")
stock = meter.create_up_down_counter("shop.stock", unit="By")
meter.create_observable_gauge("shop.load", unit="1",
    callbacks=[lambda options: [__import__("opentelemetry.metrics", fromlist=["x"]).Observation(0.25)]])
for turn in range(2):
    orders.add(3, {"payment.kind": "card"})
    stock.add(5)
    for value in (0.003, 0.3, 30):
        latency.record(value)
        fine.record(value)
    assert provider.force_flush(20000)
provider.shutdown()
"#;

fn value(client: &Client, query: &str) -> Result<String> {
    let data = client.data("/api/v1/query", &[("query", query)])?;
    let series = data["result"].as_array().map_or(0, Vec::len);
    ensure!(series == 1, "{query}: {data}");
    Ok(data["result"][0]["value"][1].as_str().unwrap_or_default().to_owned())
}

/// HTTP and gRPC, cumulative and delta, on the port of the API and on a port of its own.
pub(super) fn sdk_exports(scratch: &Scratch) -> Result<String> {
    let grpc = crate::harness::free_address()?;
    let http = crate::harness::free_address()?;
    let (grpc_port, http_port) = (grpc.to_string(), http.to_string());
    let ports = ["--otlp-grpc-listen", &grpc_port, "--otlp-http-listen", &http_port];
    let server = Launch::broker(&scratch.join("data")).arguments(&ports).start()?;
    let client = server.client();
    let main = client.address();
    let ways = [
        ("http", format!("http://{http}/v1/metrics"), "cumulative"),
        ("http", format!("http://{main}/api/v1/otlp/v1/metrics"), "delta"),
        ("grpc", format!("http://{grpc}"), "cumulative"),
        ("grpc", format!("http://{main}"), "delta"),
    ];
    for (kind, endpoint, temporality) in &ways {
        let arguments = [(*kind).to_owned(), endpoint.clone(), (*temporality).to_owned()];
        python::run(SCRIPT, &arguments)?;
        let of = format!("job=\"{temporality}/{kind}\",instance=\"i-1\"");
        for (query, wanted) in [
            (format!("shop_orders_total{{{of},payment_kind=\"card\"}}"), "6"),
            (format!("shop_stock_bytes{{{of}}}"), "10"),
            (format!("shop_load_ratio{{{of}}}"), "0.25"),
            (format!("shop_latency_seconds_count{{{of}}}"), "6"),
            (format!("shop_latency_seconds_bucket{{{of},le=\"5\"}}"), "4"),
            (format!("histogram_count(exp_latency_seconds{{{of}}})"), "6"),
            (format!("target_info{{{of},deployment_environment=\"test\"}}"), "1"),
        ] {
            let found = value(&client, &query)?;
            ensure!(found == wanted, "{kind} {temporality}: {query} is {found}, not {wanted}");
        }
    }
    let path = "/api/v1/metadata?metric=shop_orders_total";
    let metadata: serde_json::Value = serde_json::from_slice(&client.get(path)?.body)?;
    let wanted = serde_json::json!([{"type": "counter", "help": "Orders.", "unit": ""}]);
    ensure!(metadata["data"]["shop_orders_total"] == wanted, "{metadata}");
    server.stop()?;
    Ok(format!("{} ways, 7 series each", ways.len()))
}
