//! The notification log: what each receiver was told last about each group. Source:
//! Alertmanager, `nflog/nflog.go`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Fingerprint;

/// How long an entry is kept at most, in nanoseconds: 120 hours.
const RETENTION_NS: i64 = 120 * 3_600 * 1_000_000_000;

/// Whom an entry is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LogKey {
    /// The group.
    #[serde(with = "super::shared_text")]
    pub group_key: Arc<str>,
    /// The receiver.
    #[serde(with = "super::shared_text")]
    pub receiver: Arc<str>,
    /// The kind of the integration.
    pub integration: String,
    /// Its place among those of its kind.
    pub index: usize,
}

/// What was told last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// When.
    pub timestamp_ns: i64,
    /// Which alerts fired then; sorted.
    pub firing: Vec<Fingerprint>,
    /// Which had ended then; sorted.
    pub resolved: Vec<Fingerprint>,
    /// From when on it may be forgotten.
    pub expires_at_ns: i64,
    /// What the integration keeps for its next message about the group, such as the id of the
    /// first.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub store: BTreeMap<String, String>,
}

/// What receivers were told.
#[derive(Debug, Clone, Default)]
pub(crate) struct NotificationLog {
    entries: HashMap<LogKey, LogEntry>,
}

impl NotificationLog {
    pub(crate) fn get(&self, key: &LogKey) -> Option<&LogEntry> {
        self.entries.get(key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&LogKey, &LogEntry)> {
        self.entries.iter()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// When an entry written now may be forgotten. A group that is still there repeats itself
    /// before.
    pub(crate) fn expiry_ns(now_ns: i64, repeat_interval_ns: i64) -> i64 {
        now_ns.saturating_add(repeat_interval_ns.saturating_mul(2).min(RETENTION_NS))
    }

    /// Writes an entry. Yields the keys of those that had to go.
    pub(crate) fn put(
        &mut self,
        key: LogKey,
        entry: LogEntry,
        now_ns: i64,
        limit: usize,
    ) -> Vec<LogKey> {
        let mut gone = Vec::new();
        if self.entries.len() >= limit && !self.entries.contains_key(&key) {
            gone = self.expire(now_ns);
            if self.entries.len() >= limit {
                let first = self.entries.iter().min_by_key(|(_, entry)| entry.expires_at_ns);
                gone.extend(first.map(|(key, _)| key.clone()));
            }
            for key in &gone {
                self.entries.remove(key);
            }
        }
        self.entries.insert(key, entry);
        gone
    }

    /// Puts back an entry that was saved.
    pub(crate) fn restore(&mut self, key: LogKey, mut entry: LogEntry) {
        // Whoever saved it need not know that both are searched.
        entry.firing.sort_unstable();
        entry.resolved.sort_unstable();
        self.entries.insert(key, entry);
    }

    /// Forgets what may be forgotten. Yields the keys.
    pub(crate) fn expire(&mut self, now_ns: i64) -> Vec<LogKey> {
        let expired = |(key, entry): (&LogKey, &LogEntry)| {
            (entry.expires_at_ns <= now_ns).then(|| key.clone())
        };
        let gone: Vec<LogKey> = self.entries.iter().filter_map(expired).collect();
        for key in &gone {
            self.entries.remove(key);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> LogKey {
        LogKey { group_key: "g".into(), receiver: "r".into(), integration: "w".into(), index: n }
    }

    fn entry(expires_at_ns: i64) -> LogEntry {
        LogEntry { expires_at_ns, ..LogEntry::default() }
    }

    #[test]
    fn what_would_go_first_makes_room() {
        let mut log = NotificationLog::default();
        assert!(log.put(key(0), entry(30), 0, 2).is_empty());
        assert!(log.put(key(1), entry(20), 0, 2).is_empty());
        assert_eq!(log.put(key(2), entry(40), 0, 2), [key(1)]);
        assert!(log.put(key(2), entry(50), 0, 2).is_empty());
        assert_eq!(log.put(key(3), entry(60), 35, 2), [key(0)]);
        assert_eq!(log.expire(55), [key(2)]);
        assert_eq!(log.iter().count(), 1);
    }

    #[test]
    fn entries_outlive_two_repetitions() {
        assert_eq!(NotificationLog::expiry_ns(10, 5), 20);
        assert_eq!(NotificationLog::expiry_ns(0, i64::MAX), RETENTION_NS);
    }
}
