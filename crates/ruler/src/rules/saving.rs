//! States of alerts, kept over restarts.
//!
//! A group's state is written when one of its alerts came, went or changed its state, and not for each
//! evaluation. For which time each group was evaluated last is written for all of them together, now and
//! then, and says from where recording rules are caught up.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::sync::Arc;

use alerting::rules::{Group, GroupKey, GroupSnapshot, SNAPSHOT_VERSION, Snapshot};
use serde::{Deserialize, Serialize};

use super::RuleLanguage;
use crate::keep::{Keep, KeepError};
use crate::pages::Pages;

const PREFIX: &str = "alerting/rules/";
/// Behind the prefix.
const TIMES: &str = "times";
/// A state that unpacks to more is none that was written here.
const MAX_STATE_BYTES: u64 = 1 << 30;

/// Where states lie.
pub(super) struct States {
    pages: Pages,
}

/// A group's state as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    group: GroupSnapshot,
}

/// For which time a group was evaluated last.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Evaluated {
    pub(super) language: RuleLanguage,
    pub(super) file: String,
    pub(super) name: String,
    /// Milliseconds since 1970.
    pub(super) for_ms: i64,
}

impl States {
    pub(super) fn new(keep: Arc<dyn Keep>) -> States {
        States { pages: Pages::new(keep, PREFIX) }
    }

    /// The states that were kept, by language, with the names of all keys that hold one. `None` if
    /// nothing was ever kept.
    pub(super) fn read(&self, now_ms: i64) -> Option<HashMap<RuleLanguage, Snapshot>> {
        let (values, problems) = self.pages.read();
        for (name, reason) in problems {
            tracing::warn!("the state of rules in {PREFIX}{name} is left out: {reason}");
        }
        let times: Vec<Evaluated> =
            values.get(TIMES).and_then(|bytes| unpacked(bytes).ok()).unwrap_or_default();
        let mut times: BTreeMap<(RuleLanguage, GroupKey), i64> = times
            .into_iter()
            .map(|one| ((one.language, GroupKey { file: one.file, name: one.name }), one.for_ms))
            .collect();
        if values.is_empty() {
            return None;
        }
        let mut found: HashMap<RuleLanguage, Snapshot> = HashMap::new();
        for language in [RuleLanguage::Promql, RuleLanguage::Logql] {
            let groups = Vec::new();
            let empty = Snapshot { version: SNAPSHOT_VERSION, taken_at_ms: now_ms, groups };
            found.insert(language, empty);
        }
        for (name, bytes) in values.iter().filter(|(name, _)| *name != TIMES) {
            let language = match name.split('/').next() {
                Some("promql") => RuleLanguage::Promql,
                Some("logql") => RuleLanguage::Logql,
                _ => continue,
            };
            match unpacked::<Kept>(bytes) {
                Ok(Kept { version: SNAPSHOT_VERSION, mut group }) => {
                    let key = GroupKey { file: group.file.clone(), name: group.name.clone() };
                    let later = times.remove(&(language, key));
                    group.evaluated_for_ms = group.evaluated_for_ms.max(later);
                    if let Some(snapshot) = found.get_mut(&language) {
                        snapshot.groups.push(group);
                    }
                }
                Ok(Kept { version, .. }) => tracing::warn!(
                    "the state of rules in {PREFIX}{name} is of version {version} and is left out: its \
                     alerts begin anew"
                ),
                Err(error) => tracing::warn!(
                    "the state of rules in {PREFIX}{name} is left out, and its alerts begin anew: {error}"
                ),
            }
        }
        // Groups without alerts have no other state.
        for ((language, GroupKey { file, name }), for_ms) in times {
            let state = serde_json::json!({
                "file": file, "name": name, "evaluated_for_ms": for_ms, "rules": [],
            });
            if let (Ok(state), Some(snapshot)) =
                (serde_json::from_value(state), found.get_mut(&language))
            {
                snapshot.groups.push(state);
            }
        }
        Some(found)
    }

    pub(super) async fn put(
        &self,
        language: RuleLanguage,
        key: &GroupKey,
        state: GroupSnapshot,
    ) -> Result<(), KeepError> {
        let kept = Kept { version: SNAPSHOT_VERSION, group: state };
        self.pages.put(&name(language, key), &packed(&kept)?).await
    }

    pub(super) async fn put_times(&self, times: &[Evaluated]) -> Result<(), KeepError> {
        self.pages.put(TIMES, &packed(&times)?).await
    }

    /// Forgets the state of a group.
    pub(super) async fn delete(
        &self,
        language: RuleLanguage,
        key: &GroupKey,
    ) -> Result<(), KeepError> {
        self.pages.delete(&name(language, key)).await
    }

    /// Removes the states of groups that are no longer there.
    pub(super) async fn keep_only(
        &self,
        groups: &[(RuleLanguage, GroupKey)],
    ) -> Result<(), KeepError> {
        let there: std::collections::HashSet<String> =
            groups.iter().map(|(language, key)| name(*language, key)).collect();
        let known = self.pages.read().0;
        for gone in known.keys().filter(|key| *key != TIMES && !there.contains(*key)) {
            self.pages.delete(gone).await?;
        }
        Ok(())
    }
}

/// What of a group's alerts is worth a write: it differs once an alert comes, goes or changes its state.
pub(super) fn digest(group: &Group) -> u64 {
    let mut sum = 0_u64;
    for rule in 0..group.spec().rules.len() {
        for alert in group.alerts(rule) {
            let mut hasher = DefaultHasher::new();
            rule.hash(&mut hasher);
            alert.labels.as_packed().hash(&mut hasher);
            (alert.state as u8, alert.active_at_ms, alert.fired_at_ms).hash(&mut hasher);
            (alert.resolved_at_ms, alert.keep_firing_since_ms).hash(&mut hasher);
            // In any order.
            sum = sum.wrapping_add(hasher.finish());
        }
    }
    sum
}

/// Names of files may be longer than keys.
pub(super) fn name(language: RuleLanguage, key: &GroupKey) -> String {
    // FNV-1a of 128 bits: two groups of one digest would take each other's state.
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    for byte in key.file.bytes().chain([0xff]).chain(key.name.bytes()) {
        hash = (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    }
    format!("{}/{hash:032x}", language.as_str())
}

pub(super) fn packed(value: &impl Serialize) -> Result<Vec<u8>, KeepError> {
    let failed = |error: String| {
        KeepError::Unavailable(format!("the state of rules could not be packed: {error}"))
    };
    let mut encoder =
        zstd::Encoder::new(Vec::new(), 1).map_err(|error| failed(error.to_string()))?;
    serde_json::to_writer(&mut encoder, value).map_err(|error| failed(error.to_string()))?;
    encoder.finish().map_err(|error| failed(error.to_string()))
}

pub(super) fn unpacked<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, String> {
    let decoder = zstd::Decoder::new(bytes).map_err(|error| error.to_string())?;
    let mut text = Vec::new();
    decoder.take(MAX_STATE_BYTES).read_to_end(&mut text).map_err(|error| error.to_string())?;
    serde_json::from_slice(&text).map_err(|error| error.to_string())
}
