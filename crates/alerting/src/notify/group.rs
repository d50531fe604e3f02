//! Groups: alerts that are told together.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::Labels;
use serde::{Deserialize, Serialize};

use super::{Alert, Fingerprint, Reason};

/// Alerts that are told together.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    /// The node of the tree of routes.
    pub(crate) route: usize,
    pub(crate) labels: Labels,
    pub(crate) key: Arc<str>,
    pub(crate) receiver: Arc<str>,
    /// Those that fire, and those that ended and of which that is to be told.
    pub(crate) alerts: BTreeSet<Fingerprint>,
    pub(crate) next_flush_ns: i64,
    pub(crate) last_flush_ns: Option<i64>,
    /// What is being told at the moment.
    pub(crate) flush: Option<Flush>,
    /// The intervals that muted it when it last wanted to tell.
    pub(crate) muted_by: Vec<String>,
    /// Per integration of the receiver.
    pub(crate) outcomes: Vec<IntegrationOutcome>,
}

/// What tells groups apart over reloads and restarts. As in Alertmanager it is not unique where
/// two routes side by side are the same in all but their place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GroupPlace {
    /// The group's key.
    #[serde(with = "super::shared_text")]
    pub key: Arc<str>,
    /// The receiver.
    #[serde(with = "super::shared_text")]
    pub receiver: Arc<str>,
}

impl Group {
    pub(crate) fn place(&self) -> GroupPlace {
        GroupPlace { key: Arc::clone(&self.key), receiver: Arc::clone(&self.receiver) }
    }
}

/// What is being told.
#[derive(Debug, Clone)]
pub(crate) struct Flush {
    /// Notifications that are under way.
    pub(crate) pending: BTreeSet<u64>,
    /// Whether one of them failed.
    pub(crate) failed: bool,
    /// Alerts that ended, as they were then: they leave the group when all is told.
    pub(crate) resolved: Vec<(Fingerprint, Arc<Alert>)>,
    /// Whether the group wants to tell again as soon as this is over.
    pub(crate) due_again: bool,
}

/// What became of the last attempt to tell one integration about a group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntegrationOutcome {
    /// When it was last found that there was something to tell.
    pub notified_at_ns: Option<i64>,
    /// When it was last told.
    #[serde(default)]
    pub delivered_at_ns: Option<i64>,
    /// Why.
    pub reason: Option<Reason>,
    /// What went wrong with the last attempt; nothing if it was told.
    pub error: Option<String>,
    /// Attempts at the last notification that ended.
    pub attempts: u32,
}
