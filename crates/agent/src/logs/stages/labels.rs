//! Stages about labels, metadata and tenants.

use std::sync::Arc;

use settings::logs::StageFault;
use settings::logs::stage::{LabelsStage, PackStage, StructuredMetadataStage, TenantStage};
use settings::relabel::{LabelBuffer, RelabelConfig, relabel};

use super::chain::Link;
use super::jmespath::write_text;
use super::{Clock, Line, Plan, finder};

pub(super) fn labels(stage: &LabelsStage) -> Plan {
    let stage = Arc::new(stage.clone());
    Plan::new(move || {
        let stage = Arc::clone(&stage);
        let mut scratch = String::new();
        Link::simple(move |line: &mut Line, _: &Clock| {
            for (label, source) in &stage.labels {
                let value = if stage.from_metadata {
                    let found = line.metadata.iter().find(|(name, _)| name == source);
                    found.map(|(_, value)| value.as_str())
                } else {
                    line.value_text(source)
                };
                let Some(value) = value else { continue };
                scratch.clear();
                scratch.push_str(value);
                line.set_label(label, &scratch);
            }
            true
        })
    })
}

pub(super) fn static_labels(labels: &[(String, String)]) -> Plan {
    let labels: Arc<[(String, String)]> = labels.into();
    Plan::new(move || {
        let labels = Arc::clone(&labels);
        Link::simple(move |line: &mut Line, _: &Clock| {
            for (name, value) in &*labels {
                line.set_label(name, value);
            }
            true
        })
    })
}

/// Labels that lines get that have none of that name.
pub(super) fn external_labels(labels: &model::Labels) -> Plan {
    let labels = labels.clone();
    Plan::new(move || {
        let labels = labels.clone();
        Link::simple(move |line: &mut Line, _: &Clock| {
            for (name, value) in labels.iter() {
                if line.label(name).is_none() {
                    line.set_label(name, value);
                }
            }
            true
        })
    })
}

pub(super) fn label_drop(names: &[String]) -> Plan {
    let names: Arc<[String]> = names.into();
    Plan::new(move || {
        let names = Arc::clone(&names);
        Link::simple(move |line: &mut Line, _: &Clock| {
            for name in &*names {
                line.remove_label(name);
            }
            true
        })
    })
}

pub(super) fn label_keep(names: &[String]) -> Plan {
    let names: Arc<[String]> = names.into();
    Plan::new(move || {
        let names = Arc::clone(&names);
        Link::simple(move |line: &mut Line, _: &Clock| {
            line.retain_labels(|name| names.iter().any(|kept| kept == name));
            true
        })
    })
}

/// Values become metadata; labels of such a name are moved there.
pub(super) fn structured_metadata(stage: &StructuredMetadataStage) -> Result<Plan, StageFault> {
    let stage = Arc::new(stage.clone());
    let regex = stage.regex.as_deref().map(|text| finder("regex", text)).transpose()?;
    Ok(Plan::new(move || {
        let (stage, regex) = (Arc::clone(&stage), regex.clone());
        let mut scratch = String::new();
        Link::simple(move |line: &mut Line, _: &Clock| {
            for (name, source) in &stage.values {
                let Some(value) = line.value_text(source).or_else(|| line.label(source)) else {
                    continue;
                };
                scratch.clear();
                scratch.push_str(value);
                line.add_metadata(name, &scratch);
            }
            for (_, source) in &stage.values {
                line.remove_label(source);
            }
            if let Some(regex) = &regex {
                let is_wanted = |name: &str| regex.is_match(name.as_bytes());
                let mut found: Vec<(String, String)> = Vec::new();
                let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
                let values = line.sorted_values();
                found.extend(values.into_iter().filter(|(name, _)| is_wanted(name)).map(own));
                line.for_each_label(|name, value| {
                    if is_wanted(name) {
                        found.push(own((name, value)));
                    }
                });
                for (name, value) in &found {
                    line.add_metadata(name, value);
                }
                line.retain_labels(|name| !is_wanted(name));
            }
            true
        })
    }))
}

pub(super) fn metadata_drop(names: &[String]) -> Plan {
    let names: Arc<[String]> = names.into();
    Plan::new(move || {
        let names = Arc::clone(&names);
        Link::simple(move |line: &mut Line, _: &Clock| {
            line.metadata.retain(|(name, _)| !names.contains(name));
            true
        })
    })
}

/// Says whose the line is. A name that no tenant may have is left alone.
pub(super) fn tenant(stage: &TenantStage) -> Plan {
    let stage = Arc::new(stage.clone());
    Plan::new(move || {
        let stage = Arc::clone(&stage);
        let mut last: Option<Arc<str>> = None;
        Link::simple(move |line: &mut Line, _: &Clock| {
            let name = match &*stage {
                TenantStage::Label(label) => line.label(label),
                TenantStage::Source(source) => line.value_text(source),
                TenantStage::Value(value) => Some(value.as_str()),
            };
            let Some(name) = name.filter(|name| !name.is_empty()) else { return true };
            let tenant = match &last {
                Some(last) if **last == *name => Arc::clone(last),
                _ if model::TenantName::parse(name).is_err() => return true,
                _ => Arc::from(name),
            };
            line.tenant = Some(Arc::clone(&tenant));
            last = Some(tenant);
            true
        })
    })
}

/// Puts labels and values into the line, as a JSON object with the line as `_entry`.
pub(super) fn pack(stage: &PackStage) -> Plan {
    let mut stage = stage.clone();
    stage.labels.sort_unstable();
    stage.labels.dedup();
    let stage = Arc::new(stage);
    Plan::new(move || {
        let stage = Arc::clone(&stage);
        let mut packed = String::new();
        Link::simple(move |line: &mut Line, clock: &Clock| {
            packed.clear();
            packed.push('{');
            for name in &stage.labels {
                let Some(value) = line.value_text(name) else { continue };
                write_text(name, &mut packed);
                packed.push(':');
                write_text(value, &mut packed);
                packed.push(',');
            }
            packed.push_str("\"_entry\":");
            write_text(&line.shown(), &mut packed);
            packed.push('}');
            for name in &stage.labels {
                if line.value_text(name).is_some() {
                    line.remove_label(name);
                }
            }
            line.set_text(&packed);
            if stage.ingest_timestamp {
                line.timestamp_ns = (clock.wall_ns)();
            }
            true
        })
    })
}

/// Rules over the labels of each line.
pub(super) fn relabeled(rules: &[RelabelConfig]) -> Plan {
    let rules: Arc<[RelabelConfig]> = rules.into();
    Plan::new(move || {
        let rules = Arc::clone(&rules);
        let (mut buffer, mut sorted) = (LabelBuffer::new(), Vec::new());
        Link::simple(move |line: &mut Line, _: &Clock| {
            buffer.clear();
            sorted.clear();
            line.for_each_label(|name, value| sorted.push((name.to_owned(), value.to_owned())));
            sorted.sort_unstable();
            for (name, value) in &sorted {
                buffer.load_label(name, value);
            }
            if !relabel(&rules, &mut buffer) {
                return false;
            }
            line.retain_labels(|name| !buffer.get(name).is_empty());
            for (name, value) in buffer.iter() {
                line.set_label(name, value);
            }
            true
        })
    })
}
