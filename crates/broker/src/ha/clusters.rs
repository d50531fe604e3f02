//! Which replica of a cluster is elected: decided here, without clock or disk.

use std::collections::BTreeMap;

use catalog::{Expected, KeyValue};
use model::TenantId;
use serde::{Deserialize, Serialize};

use super::HaConfig;

/// Keys of the catalog under which elections are kept.
pub(super) const PREFIX: &str = "ha/";
/// How far ahead of its samples a replica's progress is written, at most, so that this happens seldom.
const AHEAD_MS: i64 = 15_000;
/// A cluster of which nothing came for so long makes room for others.
const FORGOTTEN_MS: i64 = 24 * 60 * 60 * 1_000;

/// All clusters.
#[derive(Debug, Default)]
pub(super) struct Clusters {
    known: BTreeMap<(TenantId, String), Cluster>,
    unsaved: Vec<(String, Option<Vec<u8>>)>,
    /// In a cluster, the version of each key that is known here.
    versions: BTreeMap<String, u64>,
    /// … and what was written here last.
    written: BTreeMap<String, Vec<u8>>,
    /// How far ahead of its samples a replica's progress is written.
    ahead_ms: Option<i64>,
    /// In this time nobody is gone for long enough to make room: one with too many clusters asks for
    /// each of them.
    is_full: std::ops::Range<i64>,
}

/// One cluster.
#[derive(Debug, Clone)]
pub(super) struct Cluster {
    /// The elected replica.
    pub(super) replica: String,
    /// Nothing of it is stored up to here, because another's samples are.
    pub(super) floor_ms: i64,
    /// Its newest sample so far. Not ahead of the clock: one bad timestamp must not keep the next
    /// replica out for minutes.
    pub(super) newest_ms: i64,
    /// What the catalog has for `newest_ms`, never less.
    through_ms: i64,
    /// When it was elected.
    pub(super) elected_ms: i64,
    /// When something of it came last.
    pub(super) seen_ms: i64,
    /// When something of another came last.
    other_ms: i64,
    /// Its samples may go up to here, because another broker said so; `i64::MIN` if all came here.
    elsewhere_ms: i64,
}

/// As it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    tenant: u32,
    cluster: String,
    replica: String,
    floor_ms: i64,
    through_ms: i64,
    elected_ms: i64,
}

/// What becomes of samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Those behind the floor are stored.
    Elected {
        /// Up to here others are.
        floor_ms: i64,
        /// Whether it was elected just now.
        is_new: bool,
    },
    /// They are not: another is elected.
    Other {
        /// Which.
        elected: String,
    },
    /// There are too many clusters.
    TooMany,
}

impl Clusters {
    /// From values of the catalog. The elected ones get the whole timeout to come back: while there
    /// was no broker they could not write.
    pub(super) fn load<'a>(kept: impl Iterator<Item = (&'a str, &'a [u8])>, now_ms: i64) -> Self {
        let mut clusters = Clusters::default();
        for (key, value) in kept {
            clusters.take_kept(key, value, now_ms);
        }
        clusters
    }

    fn take_kept(&mut self, key: &str, value: &[u8], now_ms: i64) {
        match serde_json::from_slice::<Kept>(value) {
            Ok(kept) => {
                let cluster = Cluster {
                    replica: kept.replica,
                    floor_ms: kept.floor_ms,
                    newest_ms: kept.through_ms,
                    through_ms: kept.through_ms,
                    elected_ms: kept.elected_ms,
                    seen_ms: now_ms,
                    other_ms: now_ms,
                    elsewhere_ms: kept.through_ms,
                };
                self.known.insert((TenantId(kept.tenant), kept.cluster), cluster);
            }
            Err(error) => {
                tracing::error!(key, %error, "an election of a replica cannot be read");
            }
        }
    }

    /// In a cluster: takes over what other brokers wrote since. Theirs counts: of two elections at once the
    /// first that was agreed upon does. A progress that another broker writes shows that the elected
    /// replica is there, writing to it.
    pub(super) fn follow<'a>(
        &mut self,
        agreed: impl Iterator<Item = (&'a str, &'a KeyValue)>,
        now_ms: i64,
    ) {
        let mut count = 0;
        for (key, entry) in agreed {
            count += 1;
            // Fast path: most of the time nothing has changed.
            if self.versions.get(key) == Some(&entry.version) {
                continue;
            }
            self.versions.insert(key.to_owned(), entry.version);
            if self.written.get(key) != Some(&entry.value) {
                self.unsaved.retain(|(unsaved, _)| unsaved != key);
                self.take_kept(key, &entry.value, now_ms);
            }
        }
        if count != self.versions.len() {
            // One was forgotten: what is noted of others is noted again by the next.
            self.versions.clear();
        }
    }

    /// In a cluster: what a write of this key is to replace. One that comes second changes nothing, and the
    /// next [`Clusters::follow`] takes over the first.
    pub(super) fn expected(&mut self, key: &str, value: Option<&Vec<u8>>) -> Expected {
        match value {
            Some(value) => self.written.insert(key.to_owned(), value.clone()),
            None => self.written.remove(key),
        };
        self.versions.get(key).map_or(Expected::Absent, |version| Expected::Version(*version))
    }

    /// The elected ones count as seen at `t_ms`. With `i64::MIN` the next that writes is elected: names
    /// of replicas under another label are of others.
    pub(super) fn see_all(&mut self, t_ms: i64) {
        self.known.values_mut().for_each(|cluster| cluster.seen_ms = t_ms);
        self.is_full = 0..0;
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&(TenantId, String), &Cluster)> {
        self.known.iter()
    }

    /// Says that something of a replica came, and what becomes of it.
    pub(super) fn judge(
        &mut self,
        tenant: TenantId,
        cluster: &str,
        replica: &str,
        config: &HaConfig,
        now_ms: i64,
    ) -> Verdict {
        // Other brokers must hear of it before they would take the replica for gone.
        self.ahead_ms = Some(AHEAD_MS.min(config.failover_timeout_ms / 2));
        let key = (tenant, cluster.to_owned());
        let Some(known) = self.known.get_mut(&key) else {
            if self.known.len() >= config.max_clusters && !self.forget_one(now_ms) {
                return Verdict::TooMany;
            }
            let cluster = Cluster {
                replica: replica.to_owned(),
                floor_ms: i64::MIN,
                newest_ms: i64::MIN,
                through_ms: i64::MIN,
                elected_ms: now_ms,
                seen_ms: now_ms,
                other_ms: i64::MIN,
                elsewhere_ms: i64::MIN,
            };
            self.known.insert(key.clone(), cluster);
            self.save(&key);
            return Verdict::Elected { floor_ms: i64::MIN, is_new: true };
        };
        // A clock that stood ahead must keep neither the next replica nor its samples out.
        for time in [&mut known.seen_ms, &mut known.newest_ms, &mut known.floor_ms] {
            *time = now_ms.min(*time);
        }
        if known.replica == replica {
            (known.seen_ms, known.elsewhere_ms) = (now_ms, i64::MIN);
            return Verdict::Elected { floor_ms: known.floor_ms, is_new: false };
        }
        known.other_ms = now_ms;
        if now_ms.saturating_sub(known.seen_ms) <= config.failover_timeout_ms {
            return Verdict::Other { elected: known.replica.clone() };
        }
        tracing::info!(
            cluster,
            replica,
            before = known.replica,
            silent_ms = now_ms.saturating_sub(known.seen_ms),
            "another replica of an HA cluster is stored from now on"
        );
        known.replica = replica.to_owned();
        known.floor_ms = known.newest_ms.max(known.floor_ms).max(known.elsewhere_ms.min(now_ms));
        known.elsewhere_ms = i64::MIN;
        (known.elected_ms, known.seen_ms) = (now_ms, now_ms);
        let floor_ms = known.floor_ms;
        self.save(&key);
        Verdict::Elected { floor_ms, is_new: true }
    }

    /// Says how far the samples of the elected replica go that are stored now.
    pub(super) fn advance(&mut self, tenant: TenantId, cluster: &str, newest_ms: i64, now_ms: i64) {
        let key = (tenant, cluster.to_owned());
        let Some(known) = self.known.get_mut(&key) else { return };
        known.newest_ms = known.newest_ms.max(newest_ms.min(now_ms));
        if known.newest_ms > known.through_ms {
            known.through_ms = known.newest_ms.saturating_add(self.ahead_ms.unwrap_or(AHEAD_MS));
            self.save(&key);
        }
    }

    /// What has to be written to the catalog, in this order; `None` removes a key.
    pub(super) fn take_unsaved(&mut self) -> Vec<(String, Option<Vec<u8>>)> {
        std::mem::take(&mut self.unsaved)
    }

    fn save(&mut self, key: &(TenantId, String)) {
        let cluster = &self.known[key];
        let kept = Kept {
            tenant: key.0.0,
            cluster: key.1.clone(),
            replica: cluster.replica.clone(),
            floor_ms: cluster.floor_ms,
            through_ms: cluster.through_ms,
            elected_ms: cluster.elected_ms,
        };
        let value = serde_json::to_vec(&kept).expect("texts and numbers");
        let key = catalog_key(key);
        self.unsaved.retain(|(unsaved, _)| *unsaved != key);
        self.unsaved.push((key, Some(value)));
    }

    /// Makes room for a cluster, if one is gone for long.
    fn forget_one(&mut self, now_ms: i64) -> bool {
        // Fast path: what was found holds until somebody can be gone for long.
        if self.is_full.contains(&now_ms) {
            return false;
        }
        let last = |cluster: &Cluster| cluster.seen_ms.max(cluster.other_ms);
        let oldest = self.known.iter().min_by_key(|(_, cluster)| last(cluster));
        let Some((key, cluster)) = oldest else { return false };
        let until_ms = last(cluster).saturating_add(FORGOTTEN_MS);
        if now_ms < until_ms {
            self.is_full = now_ms..until_ms;
            return false;
        }
        let key = key.clone();
        self.unsaved.push((catalog_key(&key), None));
        self.known.remove(&key);
        true
    }
}

/// Labels may be longer than keys.
fn catalog_key((tenant, cluster): &(TenantId, String)) -> String {
    let mut hash = blake3::Hasher::new();
    hash.update(&tenant.0.to_le_bytes());
    hash.update(cluster.as_bytes());
    format!("{PREFIX}{}", &hash.finalize().to_hex()[..32])
}

#[cfg(test)]
mod tests {
    use model::DEFAULT_TENANT;

    use super::*;

    fn config() -> HaConfig {
        HaConfig { max_clusters: 2, ..HaConfig::default() }
    }

    fn judge(clusters: &mut Clusters, cluster: &str, replica: &str, now_ms: i64) -> Verdict {
        clusters.judge(DEFAULT_TENANT, cluster, replica, &config(), now_ms)
    }

    fn elected(floor_ms: i64, is_new: bool) -> Verdict {
        Verdict::Elected { floor_ms, is_new }
    }

    fn other(elected: &str) -> Verdict {
        Verdict::Other { elected: elected.to_owned() }
    }

    #[test]
    fn the_first_is_elected_until_it_is_silent() {
        let mut clusters = Clusters::default();
        assert_eq!(judge(&mut clusters, "c", "a", 0), elected(i64::MIN, true));
        clusters.advance(DEFAULT_TENANT, "c", 900, 1_000);
        assert_eq!(judge(&mut clusters, "c", "b", 30_000), other("a"));
        assert_eq!(judge(&mut clusters, "c", "b", 30_001), elected(900, true));
        assert_eq!(judge(&mut clusters, "c", "a", 30_002), other("b"), "it does not go back");
        // Without a sample of the new one the floor stays where it was.
        assert_eq!(judge(&mut clusters, "c", "a", 70_000), elected(900, true));
    }

    #[test]
    fn a_timestamp_of_the_future_keeps_nobody_out() {
        let mut clusters = Clusters::default();
        judge(&mut clusters, "c", "a", 0);
        clusters.advance(DEFAULT_TENANT, "c", 600_000, 1_000);
        assert_eq!(judge(&mut clusters, "c", "b", 40_000), elected(1_000, true));
    }

    #[test]
    fn a_clock_that_stood_ahead_keeps_nobody_out() {
        let mut clusters = Clusters::default();
        const AHEAD: i64 = 3_600_000;
        judge(&mut clusters, "c", "a", AHEAD);
        clusters.advance(DEFAULT_TENANT, "c", AHEAD, AHEAD);
        assert_eq!(judge(&mut clusters, "c", "b", AHEAD + 40_000), elected(AHEAD, true));
        // It is set back, and then the elected one goes away.
        assert_eq!(judge(&mut clusters, "c", "b", 1_000), elected(1_000, false));
        assert_eq!(judge(&mut clusters, "c", "a", 31_000), other("b"));
        assert_eq!(judge(&mut clusters, "c", "a", 31_001), elected(1_000, true));
    }

    #[test]
    fn a_start_knows_who_is_elected_and_at_least_how_far() {
        let mut clusters = Clusters::default();
        judge(&mut clusters, "c", "a", 0);
        let mut saved = BTreeMap::new();
        let mut writes = 0;
        for t_ms in (0..60_000).step_by(500) {
            clusters.advance(DEFAULT_TENANT, "c", t_ms, t_ms);
            let unsaved = clusters.take_unsaved();
            writes += unsaved.len();
            saved.extend(unsaved);
            let kept: Vec<(&str, &[u8])> = saved
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_deref().expect("kept")))
                .collect();
            let mut again = Clusters::load(kept.into_iter(), 100_000);
            assert_eq!(judge(&mut again, "c", "b", 130_000), other("a"), "as after a start");
            let Verdict::Elected { floor_ms, is_new: true } = judge(&mut again, "c", "b", 130_001)
            else {
                panic!("the timeout is over")
            };
            assert!((t_ms..=t_ms + AHEAD_MS).contains(&floor_ms), "{floor_ms} at {t_ms}");
        }
        assert!(writes < 10, "{writes} writes in a minute");
    }

    #[test]
    fn clusters_have_a_limit_and_the_dead_make_room() {
        let mut clusters = Clusters::default();
        judge(&mut clusters, "c", "a", 0);
        judge(&mut clusters, "d", "a", 10);
        for t_ms in [10, 20, FORGOTTEN_MS - 1] {
            assert_eq!(judge(&mut clusters, "e", "a", t_ms), Verdict::TooMany);
        }
        clusters.take_unsaved();
        assert_eq!(judge(&mut clusters, "e", "a", FORGOTTEN_MS), elected(i64::MIN, true));
        let unsaved = clusters.take_unsaved();
        assert_eq!((unsaved.len(), &unsaved[0].1), (2, &None));
        assert_eq!(judge(&mut clusters, "d", "b", FORGOTTEN_MS), elected(i64::MIN, true));
    }

    /// Two brokers, each with one replica of a pair, over one catalog: one replica is stored at a time.
    #[test]
    fn brokers_of_a_cluster_elect_one_replica() {
        let mut agreed: BTreeMap<String, KeyValue> = BTreeMap::new();
        let mut version = 0;
        let mut apply = |agreed: &mut BTreeMap<String, KeyValue>, clusters: &mut Clusters| {
            for (key, value) in clusters.take_unsaved() {
                let found = agreed.get(&key).map_or(0, |entry| entry.version);
                let wanted = match clusters.expected(&key, value.as_ref()) {
                    Expected::Absent => 0,
                    Expected::Version(version) => version,
                    Expected::Any => panic!("never in a cluster"),
                };
                if wanted == found {
                    version += 1;
                    let value = value.expect("none is removed");
                    agreed.insert(key, KeyValue { value, version });
                }
            }
        };
        let see = |agreed: &BTreeMap<String, KeyValue>, clusters: &mut Clusters, now_ms| {
            clusters.follow(agreed.iter().map(|(key, value)| (key.as_str(), value)), now_ms);
        };
        let (mut one, mut two) = (Clusters::default(), Clusters::default());
        // At once: both elect their own. What is agreed upon first counts.
        assert_eq!(judge(&mut one, "c", "a", 0), elected(i64::MIN, true));
        assert_eq!(judge(&mut two, "c", "b", 0), elected(i64::MIN, true));
        apply(&mut agreed, &mut one);
        apply(&mut agreed, &mut two);
        see(&agreed, &mut two, 10);
        assert_eq!(judge(&mut two, "c", "b", 10), other("a"));
        for t_ms in (1_000..120_000).step_by(1_000) {
            see(&agreed, &mut one, t_ms);
            assert_eq!(judge(&mut one, "c", "a", t_ms), elected(i64::MIN, false));
            one.advance(DEFAULT_TENANT, "c", t_ms, t_ms);
            apply(&mut agreed, &mut one);
            see(&agreed, &mut two, t_ms);
            assert_eq!(judge(&mut two, "c", "b", t_ms), other("a"), "it is there, elsewhere");
            apply(&mut agreed, &mut two);
        }
        // Its last sample is of 119 s; the other follows behind what was written ahead of it.
        let mut t_ms = 120_000;
        let floor_ms = loop {
            see(&agreed, &mut two, t_ms);
            match judge(&mut two, "c", "b", t_ms) {
                Verdict::Elected { floor_ms, is_new: true } => break floor_ms,
                verdict => assert_eq!(verdict, other("a")),
            }
            t_ms += 1_000;
        };
        assert!((135_000..=150_000).contains(&t_ms), "{t_ms}");
        assert!((119_000..=134_000).contains(&floor_ms), "{floor_ms}");
        apply(&mut agreed, &mut two);
        // It comes back at the first broker, which has heard.
        see(&agreed, &mut one, t_ms);
        assert_eq!(judge(&mut one, "c", "a", t_ms), other("b"));
    }
}
