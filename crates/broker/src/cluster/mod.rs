//! Brokers among themselves: the peer port between them, over mutual TLS.

mod links;
mod service;

pub use links::Links;
pub use service::{ClusterService, cluster_service};
