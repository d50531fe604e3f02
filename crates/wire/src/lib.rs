//! Bytes of foreign protocols to and from typed batches, one file per protocol.
//!
//! Everything here is synchronous and pure: bytes in, [`model::MetricBatch`] out, or
//! [`model::LogBatch`], of which [`logs`] has the protocols. Bytes come from
//! strangers, so nothing panics on them and nothing is allocated because a length field says so.
//! Labels are not validated on the way in; [`decode_labels`] does that once per series, when a
//! store meets bytes it has not seen before.

pub mod agent_batch;
mod agent_envelope;
pub mod agent_lines;
mod castagnoli;
pub mod csv_export;
pub mod csv_import;
pub mod datadog;
pub mod decompress;
mod error;
mod exemplar_rows;
pub mod exposition;
pub mod graphite;
pub mod grouping_key;
mod histogram_fields;
pub mod influx;
pub mod json_lines;
mod json_list;
mod label_place;
mod label_text;
pub mod logs;
pub mod name_escaping;
pub mod nhcb;
pub mod openmetrics;
pub mod opentsdb;
pub mod otlp;
mod pair_rows;
pub mod parquet_export;
pub mod parquet_import;
pub mod prometheus_block;
pub mod prometheus_chunk;
mod protobuf;
pub mod protobuf_encode;
pub mod protobuf_exposition;
mod refusals;
pub mod remote_read;
pub mod remote_write;
pub mod remote_write_2;
mod remote_write_histogram;
pub mod remote_write_request;
mod series_labels;
mod text_batch;
pub mod text_encode;
mod text_entry;
mod text_lex;
mod time_layout;
mod type_and_unit;

pub use error::WireError;
pub use exemplar_rows::decode_exemplar_labels;
pub use label_place::{LabelPlace, find_label};
pub use label_text::LabelText;
pub use refusals::{Refusals, Refused};
pub use series_labels::{decode_labels, shown_labels};
pub use text_batch::TextSummary;
pub use text_entry::{Entry, Exemplar, HistogramSeries, KnownSample, Series};
