//! The HTTP routes of the broker: foreign protocols in, one file each.

mod dialects;
mod elastic;
mod field_options;
mod imports;
mod influx;
pub(crate) mod intake;
mod journal;
mod json_lines;
pub(crate) mod lines;
mod loki;
mod moved;
mod remote_write;
mod text;

use http::Method;
use net::{Access, Routes};

use crate::Broker;
use crate::otlp::otlp_routes;

/// Routes that take data in.
pub fn routes(broker: &Broker) -> Routes {
    Routes::new()
        .route("/api/v1/write", [Method::POST], Access::Write, remote_write::write)
        .route(
            "/api/v1/import/prometheus",
            [Method::POST, Method::PUT],
            Access::Write,
            text::import,
        )
        .merge(imports::routes())
        .merge(influx::routes())
        .merge(elastic::routes())
        .merge(journal::routes())
        .merge(json_lines::routes())
        .merge(loki::routes())
        .merge(moved::routes())
        .with_state(broker.clone())
        .merge(otlp_routes(broker))
        .merge(crate::ha::routes(broker))
}
