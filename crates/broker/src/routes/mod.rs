//! The HTTP routes of the broker: foreign protocols in, one file each.

mod intake;
mod remote_write;
mod text;

use http::Method;
use net::{Access, Routes};

use crate::Broker;

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
        .with_state(broker.clone())
}
