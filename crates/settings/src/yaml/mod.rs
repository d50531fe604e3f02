//! YAML with places.
//!
//! [`Document`] is what other crates use: parse a text, take it as any `Deserialize` type, and
//! point at a key by its path. The readers of this crate walk the tree themselves, through
//! [`Section`], because Prometheus' rules (`null` resets, keys of one mapping shared by several
//! types, all faults at once) are not serde's.

mod deserialize;
mod document;
mod read;
mod scalar;
mod section;
mod tree;

pub use document::Document;
pub(crate) use read::{
    ByteSize, FromNode, LabelName, Milliseconds, OutputPath, pairs_of, read_labels, read_map,
};
pub(crate) use scalar::Scalar;
pub(crate) use section::{Context, Findings, Reference, ReferenceKind, Section, items_of};
pub(crate) use tree::{Node, Span, Value};
