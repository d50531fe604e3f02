//! What Watchfire's own processes ask of a broker, over gRPC: see `proto/watchfire/v1`.

mod acks;
mod budget;
mod ingest;
mod push;

pub(crate) use budget::PayloadBudget;
pub use ingest::{IngestService, ingest_service};
