//! The tree of routes: which alerts go where, and in which group. Source: Alertmanager,
//! `dispatch/route.go`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use model::{Labels, quote};
use settings::alertmanager::{GroupBy, LabelMatcher, Route, matchers_text};

/// A tree of routes with everything inherited.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteTree {
    /// Depth first; the root is the first.
    nodes: Vec<RouteNode>,
}

/// A node of the tree.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteNode {
    /// What holds for alerts that end here.
    pub options: RouteOptions,
    /// What the matchers on the way here are; not unique.
    pub key: Arc<str>,
    /// The same with places among brothers; unique.
    pub id: Arc<str>,
    /// Labels for people and metrics.
    pub labels: Labels,
    matchers: Vec<LabelMatcher>,
    continues: bool,
    children: Vec<usize>,
}

/// What holds for alerts of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteOptions {
    /// Who is told.
    pub receiver: Arc<str>,
    /// Labels that make a group; all of them if `None`.
    pub group_by: Option<BTreeSet<String>>,
    /// How long a new group waits, in nanoseconds.
    pub group_wait_ns: i64,
    /// How long a group waits before it tells of changes, in nanoseconds.
    pub group_interval_ns: i64,
    /// How long a group waits before it repeats itself, in nanoseconds.
    pub repeat_interval_ns: i64,
    /// Names of intervals during which nobody is told.
    pub mute_time_intervals: Vec<String>,
    /// Names of intervals outside of which nobody is told; none for no restriction.
    pub active_time_intervals: Vec<String>,
}

impl Default for RouteOptions {
    fn default() -> Self {
        RouteOptions {
            receiver: Arc::from(""),
            group_by: Some(BTreeSet::new()),
            group_wait_ns: 30_000_000_000,
            group_interval_ns: 300_000_000_000,
            repeat_interval_ns: 14_400_000_000_000,
            mute_time_intervals: Vec::new(),
            active_time_intervals: Vec::new(),
        }
    }
}

/// Nanoseconds of a duration; 292 years at most.
pub(crate) fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

impl RouteTree {
    /// Makes a tree of a configured one.
    pub fn new(root: &Route) -> RouteTree {
        let mut tree = RouteTree { nodes: Vec::new() };
        tree.add(root, None, 0);
        tree
    }

    /// Adds a node and those below it; depth is bounded by that of the file.
    fn add(&mut self, route: &Route, parent: Option<usize>, place: usize) -> usize {
        let above = parent.map(|parent| &self.nodes[parent]);
        let mut options = above.map(|node| node.options.clone()).unwrap_or_default();
        if let Some(receiver) = &route.receiver {
            options.receiver = Arc::from(receiver.as_str());
        }
        match &route.group_by {
            GroupBy::Inherited => {}
            GroupBy::All => options.group_by = None,
            GroupBy::Labels(names) => options.group_by = Some(names.iter().cloned().collect()),
        }
        let set = |place: &mut i64, own: Option<Duration>| {
            if let Some(own) = own {
                *place = nanoseconds(own);
            }
        };
        set(&mut options.group_wait_ns, route.group_wait);
        set(&mut options.group_interval_ns, route.group_interval);
        set(&mut options.repeat_interval_ns, route.repeat_interval);
        // These two are the node's own.
        options.mute_time_intervals.clone_from(&route.mute_time_intervals);
        options.active_time_intervals.clone_from(&route.active_time_intervals);
        let own = matchers_text(&route.matchers);
        let (key, id) = match above {
            Some(node) => (format!("{}/{own}", node.key), format!("{}/{own}/{place}", node.id)),
            None => (own.clone(), own),
        };
        let at = self.nodes.len();
        self.nodes.push(RouteNode {
            options,
            key: key.into(),
            id: id.into(),
            labels: route.labels.clone(),
            matchers: route.matchers.clone(),
            continues: route.continues,
            children: Vec::new(),
        });
        for (place, child) in route.routes.iter().enumerate() {
            let child = self.add(child, Some(at), place);
            self.nodes[at].children.push(child);
        }
        at
    }

    /// The nodes, depth first.
    pub fn nodes(&self) -> &[RouteNode] {
        &self.nodes
    }

    /// The nodes where an alert with these labels ends, from left to right; at least the root,
    /// unless that has matchers.
    pub fn matching(&self, labels: &Labels) -> Vec<usize> {
        let mut found = Vec::new();
        self.descend(0, labels, &mut found);
        found
    }

    /// Whether an alert entered the node.
    fn descend(&self, at: usize, labels: &Labels, found: &mut Vec<usize>) -> bool {
        let node = &self.nodes[at];
        if !LabelMatcher::all_match(&node.matchers, labels) {
            return false;
        }
        let before = found.len();
        for child in &node.children {
            if self.descend(*child, labels, found) && !self.nodes[*child].continues {
                break;
            }
        }
        if found.len() == before {
            found.push(at);
        }
        true
    }
}

impl RouteNode {
    /// What an alert must match to enter; sorted.
    pub fn matchers(&self) -> &[LabelMatcher] {
        &self.matchers
    }

    /// Whether an alert that entered tries the next node beside it as well.
    pub fn continues(&self) -> bool {
        self.continues
    }

    /// The nodes below, by their places in [`RouteTree::nodes`].
    pub fn children(&self) -> &[usize] {
        &self.children
    }

    /// The labels that tell the group of an alert from others of this route.
    pub fn group_labels(&self, labels: &Labels) -> Labels {
        match &self.options.group_by {
            None => labels.clone(),
            Some(names) => labels.filter(|name| names.contains(name)),
        }
    }

    /// The key of a group, as receivers see it.
    pub fn group_key(&self, group_labels: &Labels) -> String {
        let all: Vec<String> = group_labels
            .iter()
            .map(|(name, value)| format!("{name}={}", quote::quote(value)))
            .collect();
        format!("{}:{{{}}}", self.key, all.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use settings::alertmanager::{MatcherMode, parse_route};

    use super::*;

    fn tree(text: &str) -> RouteTree {
        let mode = MatcherMode::Classic;
        RouteTree::new(&parse_route("f", text.as_bytes(), mode).expect("a route"))
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied()).expect("labels")
    }

    #[test]
    fn ids_are_unique_where_keys_are_not() {
        let tree = tree(
            "receiver: r\nroutes:\n- match: {foo: bar}\n  continue: true\n  routes:\n  - match: \
             {bar: baz}\n- match: {foo: bar}\n- mute_time_intervals: [x]\n",
        );
        let shown: Vec<(&str, &str)> =
            tree.nodes().iter().map(|node| (&*node.key, &*node.id)).collect();
        assert_eq!(
            shown,
            [
                ("{}", "{}"),
                ("{}/{foo=\"bar\"}", "{}/{foo=\"bar\"}/0"),
                ("{}/{foo=\"bar\"}/{bar=\"baz\"}", "{}/{foo=\"bar\"}/0/{bar=\"baz\"}/0"),
                ("{}/{foo=\"bar\"}", "{}/{foo=\"bar\"}/1"),
                ("{}/{}", "{}/{}/2"),
            ]
        );
        assert_eq!(tree.matching(&labels(&[("foo", "bar")])), [1, 3]);
        assert_eq!(tree.matching(&labels(&[("foo", "bar"), ("bar", "baz")])), [2, 3]);
        assert_eq!(tree.matching(&labels(&[("foo", "x")])), [4]);
        assert!(tree.nodes()[4].options.active_time_intervals.is_empty());
    }

    #[test]
    fn groups_are_told_apart_by_their_labels() {
        let tree = tree("receiver: r\ngroup_by: [b, a]\nroutes: [{group_by: [...]}]\n");
        let alert = labels(&[("a", "1"), ("b", "x\"y"), ("c", "3")]);
        let node = &tree.nodes()[0];
        let group = node.group_labels(&alert);
        assert_eq!(node.group_key(&group), "{}:{a=\"1\", b=\"x\\\"y\"}");
        assert_eq!(tree.nodes()[1].group_labels(&alert), alert);
    }
}
