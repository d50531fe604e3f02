//! Which of Node Exporter's families, and which metrics of a dashboard, the agent yields.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context;

use super::exposition::{Series, name_of};
use super::host::Observed;
use crate::case::CaseResult;

/// Collectors that Node Exporter does not have, and one that its run over the fake host lacks.
pub(crate) const ONLY_OURS: [&str; 3] = ["container", "logind", "process_group"];

/// Families of the agent that Node Exporter does not have, by the beginning of their names.
const OUR_FAMILIES: [&str; 2] = ["node_top_process_", "node_textfile_file_error"];

/// The parts of Node Exporter that are no collector.
const NO_COLLECTOR: [&str; 4] = ["(exporter)", "(go runtime)", "(process)", "(promhttp)"];

/// Collectors whose metrics are the fields that this kernel, or its devices, happen to have.
const OF_THE_KERNEL: [&str; 5] = ["lnstat", "meminfo", "meminfo_numa", "netstat", "hwmon"];

/// Names in the dashboard that no Node Exporter has by default.
const NOT_IN_NODE_EXPORTER: [(&str, &str); 2] = [
    ("node_kernel_hung_tasks", "Node Exporter's name ends with _total"),
    ("node_netstat_Tcp_MaxConn", "only with netstat.fields in the configuration"),
];

/// Whether a series says something that Node Exporter never says.
pub(crate) fn is_only_ours(series: &Series) -> bool {
    let name = name_of(series);
    let collector = series.get("collector").map_or("", String::as_str);
    OUR_FAMILIES.iter().any(|ours| name.starts_with(ours))
        || ONLY_OURS.contains(&collector)
        || name == "node_scrape_collector_success" && collector == "cpu_info"
}

/// Matches the metrics that the agent leaves out.
pub(crate) fn left_out_expression() -> String {
    let prefixes: Vec<_> =
        agent::LEFT_OUT.iter().flat_map(|left_out| left_out.metrics.iter().copied()).collect();
    if prefixes.is_empty() { "^$".to_owned() } else { format!("^({})", prefixes.join("|")) }
}

/// Checks both tables; yields what is worth knowing about those that are not here.
///
/// A family must come from the fake host if Node Exporter gives it there, else from this host,
/// unless its collector found nothing here or it is in the agent's table of what is left out.
///
/// # Errors
/// A table that cannot be read.
pub(crate) fn check(
    directory: &Path,
    fake: &Observed,
    real: &Observed,
    results: &mut Vec<CaseResult>,
) -> anyhow::Result<Vec<String>> {
    let left_out = regex::Regex::new(&left_out_expression()).context("prefixes left out")?;
    let is_left_out = |name: &str| left_out.is_match(name);
    let mut not_here = BTreeSet::new();
    let mut missing_parts = BTreeSet::new();
    for (file, columns) in
        [("node_exporter_families.tsv", [0, 3]), ("dashboard_1860_metrics.tsv", [0, 1])]
    {
        let path = directory.join(file);
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        for (index, line) in text.lines().enumerate().skip(1) {
            let fields: Vec<&str> = line.split('\t').collect();
            let [family, collector] =
                columns.map(|column| fields.get(column).copied().unwrap_or_default());
            if NO_COLLECTOR.contains(&collector) || !family.starts_with("node_") {
                continue;
            }
            let outcome = if fake.has(family) || real.has(family) {
                Ok(())
            } else if is_left_out(family) {
                missing_parts.insert(family.to_owned());
                continue;
            } else if let Some(why) = explained(family, collector, real) {
                not_here.insert(format!("{family}: {why}"));
                continue;
            } else {
                Err("neither the fake host nor this one has it".to_owned())
            };
            let name = family.to_owned();
            results.push(CaseResult { name, file: path.clone(), line: index + 1, outcome });
        }
    }
    let mut summary = vec![format!(
        "{} metrics of Node Exporter are left out: {}",
        missing_parts.len(),
        agent::LEFT_OUT.iter().map(|left_out| left_out.name).collect::<Vec<_>>().join(", ")
    )];
    summary.push(format!("{} metrics need another host than this:", not_here.len()));
    summary.extend(not_here.into_iter().map(|line| format!("  {line}")));
    Ok(summary)
}

/// Why a family that the agent can yield is on neither host.
fn explained(family: &str, collector: &str, real: &Observed) -> Option<String> {
    if let Some((_, why)) = NOT_IN_NODE_EXPORTER.iter().find(|(name, _)| *name == family) {
        return Some((*why).to_owned());
    }
    if OF_THE_KERNEL.contains(&collector) || family.starts_with("node_hwmon_") {
        return Some("this kernel has no such field".to_owned());
    }
    let collector = if family.starts_with("node_systemd_") { "systemd" } else { collector };
    match real.success.get(collector) {
        Some(false) => Some(format!("the collector {collector} found nothing here")),
        _ => None,
    }
}
