//! Whether a receiver is to be told, given what it was told before. Source: Alertmanager,
//! `notify/dedup_stage.go`.

use serde::{Deserialize, Serialize};

use super::{Fingerprint, LogEntry};

/// Why a receiver is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It was told nothing about the group yet, or that all of it had ended.
    FirstNotification,
    /// Alerts fire of which it does not know.
    NewAlertsInGroup,
    /// Alerts ended of which it does not know that.
    NewResolvedAlerts,
    /// All alerts ended.
    AllAlertsResolved,
    /// Nothing changed for as long as it should be reminded.
    RepeatIntervalElapsed,
}

impl Reason {
    /// Alertmanager's words, which templates and messages show.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::FirstNotification => "first notification",
            Reason::NewAlertsInGroup => "new alerts added",
            Reason::NewResolvedAlerts => "some alerts resolved",
            Reason::AllAlertsResolved => "all alerts resolved",
            Reason::RepeatIntervalElapsed => "repeat interval elapsed",
        }
    }
}

/// The alerts of a group that nothing mutes; both sorted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GroupState<'a> {
    pub(crate) firing: &'a [Fingerprint],
    pub(crate) resolved: &'a [Fingerprint],
}

/// Why the receiver is to be told; `None` if it is not.
pub(crate) fn reason(
    entry: Option<&LogEntry>,
    state: GroupState<'_>,
    send_resolved: bool,
    repeat_interval_ns: i64,
    now_ns: i64,
) -> Option<Reason> {
    let Some(entry) = entry else {
        // Whoever does not know that an alert fired need not know that it ended.
        return (!state.firing.is_empty()).then_some(Reason::FirstNotification);
    };
    if !is_subset(state.firing, &entry.firing) {
        return Some(if entry.firing.is_empty() {
            Reason::FirstNotification
        } else {
            Reason::NewAlertsInGroup
        });
    }
    if state.firing.is_empty() {
        // Also for those that are not told of ends, so that the log forgets what fired.
        return (!entry.firing.is_empty()).then_some(Reason::AllAlertsResolved);
    }
    if send_resolved && !is_subset(state.resolved, &entry.resolved) {
        return Some(Reason::NewResolvedAlerts);
    }
    let elapsed = entry.timestamp_ns < now_ns.saturating_sub(repeat_interval_ns);
    elapsed.then_some(Reason::RepeatIntervalElapsed)
}

/// Both sorted.
fn is_subset(part: &[Fingerprint], whole: &[Fingerprint]) -> bool {
    part.iter().all(|fingerprint| whole.binary_search(fingerprint).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprints(numbers: &[u64]) -> Vec<Fingerprint> {
        numbers.iter().copied().map(Fingerprint).collect()
    }

    #[test]
    fn decides_as_alertmanager_does() {
        use Reason::*;
        type Known<'a> = Option<(i64, &'a [u64], &'a [u64])>;
        type Case<'a> = (Known<'a>, &'a [u64], &'a [u64], bool, Option<Reason>);
        let cases: [Case<'_>; 16] = [
            (None, &[2, 3, 4], &[], true, Some(FirstNotification)),
            (None, &[], &[1, 2], true, None),
            (None, &[], &[], true, None),
            (Some((100, &[1, 2, 3], &[])), &[2, 3, 4], &[], true, Some(NewAlertsInGroup)),
            (Some((90, &[1, 2, 3], &[])), &[1, 2, 3], &[], true, None),
            (Some((89, &[1, 2, 3], &[])), &[1, 2, 3], &[], true, Some(RepeatIntervalElapsed)),
            (Some((100, &[1, 2], &[])), &[1], &[], true, None),
            (Some((100, &[1, 2], &[])), &[1], &[2], true, Some(NewResolvedAlerts)),
            (Some((100, &[1, 2], &[])), &[1], &[2], false, None),
            (Some((100, &[1, 2], &[2])), &[1], &[2], true, None),
            (Some((100, &[1], &[2])), &[], &[1, 2], true, Some(AllAlertsResolved)),
            (Some((100, &[1], &[2])), &[], &[1, 2], false, Some(AllAlertsResolved)),
            (Some((100, &[], &[1])), &[], &[1, 2], true, None),
            (Some((100, &[], &[1])), &[1], &[], true, Some(FirstNotification)),
            (Some((0, &[], &[1])), &[], &[1], true, None),
            (Some((0, &[1], &[])), &[], &[], true, Some(AllAlertsResolved)),
        ];
        for (at, (known, firing, resolved, send_resolved, want)) in cases.into_iter().enumerate() {
            let entry = known.map(|(timestamp_ns, firing, resolved)| LogEntry {
                timestamp_ns,
                firing: fingerprints(firing),
                resolved: fingerprints(resolved),
                ..LogEntry::default()
            });
            let (firing, resolved) = (fingerprints(firing), fingerprints(resolved));
            let state = GroupState { firing: &firing, resolved: &resolved };
            assert_eq!(reason(entry.as_ref(), state, send_resolved, 10, 100), want, "case {at}");
        }
    }
}
