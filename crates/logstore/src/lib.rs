//! Blocks of logs: lines are appended to a head, searched there and in blocks, flushed and merged.
//!
//! | module | what |
//! |---|---|
//! | `head`, `piece` | the lines of a tenant that are in no block yet: [`LogHead`] |
//! | `payload` | what the log has of a [`model::LogBatch`]: [`encode_payload`], [`decode_payload`] |
//! | `query`, `entries` | what is asked, and the lines that answer: [`Query`], [`Entries`], [`Streams`] |
//! | `counts` | how many lines there are, without a look at them: [`count`] |
//! | `walk`, `stream_merge`, `cursor`, `twins` | streams of several sources, in one order, no line twice |
//! | `block`, `footer`, `page`, `open_group`, `group_cache` | a block, read: [`LogBlock`] |
//! | `block_writer`, `new_group`, `merge` | a block, written: [`BlockWriter`], [`LogFormat`] |
//! | `group_table`, `column`, `new_column`, `planes`, `counters`, `metadata` | parts of its format, `docs/formats/logs.md` |
//! | `shapes`, `templates`, `variables`, `template_lines`, `template_search` | lines of which what they have in common is written once |
//! | `skip`, `words`, `filter`, `grams`, `tokens`, `needle` | which groups cannot hold a text: [`SkipIndex`] |
//!
//! `logstore` never sees a thread or a clock.

mod block;
mod block_writer;
mod column;
mod counters;
mod counts;
mod cursor;
mod deletes;
mod entries;
mod filter;
mod find;
mod footer;
mod grams;
mod group_cache;
mod group_table;
mod groups;
mod head;
mod index_cache;
mod merge;
mod metadata;
mod needle;
mod new_column;
mod new_group;
mod open_group;
mod page;
mod parts;
mod payload;
mod piece;
mod planes;
mod query;
mod rows;
mod shapes;
mod skip;
mod stream_merge;
mod template_lines;
mod template_search;
mod templates;
#[cfg(test)]
mod tests;
mod texts;
mod time;
mod tokens;
mod twins;
mod value_text;
mod variables;
mod walk;
mod words;

pub use block::LogBlock;
pub use block_writer::{BlockWriter, MAX_LINE_BYTES};
pub use counters::LEVEL;
pub use counts::{Count, count};
pub use deletes::LogDelete;
pub use entries::{Entries, Streams};
pub use groups::GroupSet;
pub use head::{HeadError, HeadSnapshot, HeadStreamId, LogHead};
pub use index_cache::IndexCache;
pub use merge::LogFormat;
pub use metadata::Metadata;
pub use parts::StreamsPart;
pub use payload::{PayloadError, decode_payload, encode_payload};
pub use query::{Entry, LineTest, Order, Query, ReadError, ReadWatch, Source, Together};
pub use rows::MetadataWanted;
pub use skip::SkipIndex;
pub use time::NsRange;
