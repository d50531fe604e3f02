//! `/loki/api/v1/*` as Loki 3 has it: what reads lines.
//!
//! | module | what |
//! |---|---|
//! | `refusal` | faults in Loki's words and with its status codes |
//! | `time`, `asked` | times, durations and the other parameters |
//! | `pushdown` | what a store may use of a query |
//! | `behind` | a few lines, for messages |
//! | `lines`, `numbers` | queries that yield lines, and those that yield numbers |
//! | `query`, `cursor` | `query` and `query_range`, page by page |
//! | `export`, `tail` | lines of any number, around a line, as they come |
//! | `delete` | lines that are not to be found any more |
//! | `names`, `volume` | which streams there are, and how much they have |
//! | `detected`, `patterns` | what lines have in common |
//! | `completions` | what may stand at a place of a query |
//! | `about` | version, limits, `format_query` |
//! | `zones` | zones of time that templates name |
//! | `encode`, `statistics` | answers |

mod about;
mod asked;
mod behind;
mod completions;
mod cursor;
mod delete;
mod detected;
mod encode;
mod export;
mod lines;
mod names;
mod numbers;
mod patterns;
mod pushdown;
mod query;
mod refusal;
mod statistics;
mod tail;
mod tailed;
mod time;
mod volume;
pub(crate) mod zones;

pub use behind::FoundLine;
pub(crate) use behind::newest;
pub(crate) use encode::CATEGORIZE;
pub(crate) use numbers::evaluate_at;
pub(crate) use query::{ENCODING_FLAGS, seed, wants_categories};
pub(crate) use refusal::{DIALECT, Refusal, data_error};
pub(crate) use tailed::{Frame, Frames, Way, frame_of, note};

use std::sync::Arc;

use http::Method;
use net::{Access, Routes};

use crate::Console;
use crate::api::Administration;

/// Routes over data, wherever that is.
pub(crate) fn routes() -> Routes<Arc<Console>> {
    const FORM: [Method; 2] = [Method::GET, Method::POST];
    Routes::new()
        .speaking(&refusal::DIALECT)
        .route("/loki/api/v1/query", FORM, Access::Read, query::instant)
        .route("/loki/api/v1/query_range", FORM, Access::Read, query::range)
        .route("/loki/api/v1/export", FORM, Access::Read, export::export)
        .route("/loki/api/v1/context", FORM, Access::Read, export::context)
        .route("/loki/api/v1/tail", [Method::GET], Access::Read, tail::tail)
        .route("/loki/api/v1/labels", FORM, Access::Read, names::names)
        .route("/loki/api/v1/label", FORM, Access::Read, names::names)
        .route("/loki/api/v1/label/{name}/values", FORM, Access::Read, names::values)
        .route("/loki/api/v1/series", FORM, Access::Read, names::series)
        // Before version 1, as old clients know it.
        .route("/api/prom/query", FORM, Access::Read, query::legacy)
        .route("/api/prom/label", FORM, Access::Read, names::names)
        .route("/api/prom/label/{name}/values", FORM, Access::Read, names::values)
        .route("/api/prom/series", FORM, Access::Read, names::series)
        .route("/api/prom/tail", [Method::GET], Access::Read, tail::tail)
        .route("/loki/api/v1/index/stats", FORM, Access::Read, volume::stats)
        .route("/loki/api/v1/index/volume", FORM, Access::Read, volume::volume)
        .route("/loki/api/v1/index/volume_range", FORM, Access::Read, volume::volume_range)
        .route("/loki/api/v1/patterns", FORM, Access::Read, patterns::patterns)
        .route("/loki/api/v1/detected_labels", FORM, Access::Read, detected::labels)
        .route("/loki/api/v1/detected_fields", FORM, Access::Read, detected::fields)
        .route("/loki/api/v1/detected_field/{name}/values", FORM, Access::Read, detected::values)
        .route("/loki/api/v1/completions", FORM, Access::Read, completions::completions)
        .route("/loki/api/v1/format_query", FORM, Access::Read, about::format_query)
        .route(
            "/loki/api/v1/drilldown-limits",
            [Method::GET],
            Access::Read,
            about::drilldown_limits,
        )
        .merge(about_routes())
}

/// What a console tells of itself, wherever data is.
pub(crate) fn about_routes() -> Routes<Arc<Console>> {
    Routes::new()
        .speaking(&refusal::DIALECT)
        .route("/loki/api/v1/status/buildinfo", [Method::GET], Access::Read, about::build_info)
        .route("/ready", [Method::GET], Access::Public, about::ready)
}

/// What administrators do to lines that are stored.
pub(crate) fn administration_routes() -> Routes<Arc<Administration>> {
    const PATH: &str = "/loki/api/v1/delete";
    Routes::new()
        .speaking(&refusal::DIALECT)
        .route(PATH, [Method::POST, Method::PUT], Access::Admin, delete::add)
        .route(PATH, [Method::GET], Access::Admin, delete::list)
        .route(PATH, [Method::DELETE], Access::Admin, delete::cancel)
}
