//! Rules of streaming aggregation, in this file or one of their own.

use anyhow::{Context, Result, ensure};
use broker::AggregationConfig;
use settings::stream_aggregation::read_rules;
use settings::yaml::Document;

use super::keys;

/// Where the rules stand.
const RULES: &str = "stream_aggregation.rules";

/// What is aggregated. Rules of the file that is named come behind those in `document`.
///
/// # Errors
/// All faults of the rules, each with its place.
pub(super) fn read(
    keys: &keys::StreamAggregation,
    document: Option<&Document>,
) -> Result<AggregationConfig> {
    let parse = |text: &str| promql::parse_selector(text).map_err(|error| error.to_string());
    let mut rules = match document {
        Some(document) => read_rules(document, RULES, &parse)?,
        None => Vec::new(),
    };
    if let Some(path) = &keys.config_file {
        let shown = path.display().to_string();
        let bytes = std::fs::read(path)
            .with_context(|| format!("stream_aggregation.config_file: read {shown}"))?;
        rules.extend(read_rules(&Document::parse(&shown, &bytes)?, "", &parse)?);
    }
    let keep_input = keys.keep_input.unwrap_or(false);
    let drop_input = keys.drop_input.unwrap_or(false);
    ensure!(
        !(keep_input && drop_input),
        "stream_aggregation.drop_input: with stream_aggregation.keep_input it contradicts itself; \
         drop one"
    );
    ensure!(
        !drop_input || !rules.is_empty(),
        "stream_aggregation.drop_input: without a rule nothing at all would be stored; add rules"
    );
    Ok(AggregationConfig { rules, keep_input, drop_input })
}
