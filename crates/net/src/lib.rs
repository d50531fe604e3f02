//! The HTTP edge: connections, bodies, compression, origins and errors, each under a limit.
//!
//! Roles bring an [`axum::Router`]; this crate decides who may connect, how long a peer may take,
//! how large a request may be and how a refusal looks. It knows no route.

pub mod body;
pub mod compress;
mod counted_stream;
pub mod error;
pub mod metrics;
pub mod origin;
pub mod rpc;
pub mod server;
mod timed_body;

pub use body::{BodyError, BodyRules, read_body};
pub use error::{ApiError, ErrorType};
pub use metrics::NetMetrics;
pub use origin::OriginPolicy;
pub use server::{Bound, Server, ServerSettings};
