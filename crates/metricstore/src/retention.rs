//! How long the samples of some series are kept, where that is shorter than the retention of all.
//!
//! A rule is applied as a delete that moves with the clock: it hides what is older, in whatever
//! head or block it lies, whenever it was committed. So reads, merges and lists of labels know
//! nothing of rules.

use std::sync::Arc;

use model::{Matcher, TenantId, TimeRange};

use crate::deletes::{Delete, Deletes};

/// How long the series of one selector are kept.
#[derive(Debug, Clone)]
pub struct RetentionRule {
    /// A series is concerned if it satisfies all conditions.
    pub selector: Vec<Matcher>,
    /// Age after which its samples are neither answered nor kept, milliseconds.
    pub kept_ms: i64,
}

/// All rules, ascending by time. A series that several concern is kept as the shortest says.
/// Cloning copies nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RetentionRules(Arc<[Rule]>);

#[derive(Debug, PartialEq)]
struct Rule {
    selectors: Arc<[Vec<Matcher>]>,
    kept_ms: i64,
}

impl RetentionRules {
    /// Takes the rules in any order.
    pub fn new(mut rules: Vec<RetentionRule>) -> Self {
        rules.sort_by_key(|rule| rule.kept_ms);
        let rule = |rule: RetentionRule| Rule {
            selectors: Arc::from([rule.selector]),
            kept_ms: rule.kept_ms,
        };
        RetentionRules(rules.into_iter().map(rule).collect())
    }

    /// Number of rules.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// How long each rule keeps, ascending, milliseconds.
    pub fn kept_ms(&self) -> impl Iterator<Item = i64> {
        self.0.iter().map(|rule| rule.kept_ms)
    }

    /// Conditions, all of which a series must satisfy, and time of each rule, ascending by time.
    pub fn iter(&self) -> impl Iterator<Item = (&[Matcher], i64)> {
        self.0.iter().map(|rule| (rule.selectors[0].as_slice(), rule.kept_ms))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many rules, the first so many, have nothing of a source left that ends at `end_ms`.
    pub fn past(&self, end_ms: i64, now_ms: i64) -> usize {
        self.0.partition_point(|rule| end_ms <= rule.before_ms(now_ms))
    }

    /// What the rules hide now of a tenant's samples in `range`.
    pub fn deletes(
        &self,
        tenant: TenantId,
        range: TimeRange,
        now_ms: i64,
    ) -> impl Iterator<Item = Arc<Delete>> {
        let hidden = self.0.iter().filter(move |rule| range.start_ms < rule.before_ms(now_ms));
        hidden.map(move |rule| {
            Arc::new(Delete::older_than(rule.before_ms(now_ms), tenant, &rule.selectors))
        })
    }

    /// The deletes of a tenant together with what the rules hide now in `range`.
    #[must_use]
    pub fn with(
        &self,
        deletes: Deletes,
        tenant: TenantId,
        range: TimeRange,
        now_ms: i64,
    ) -> Deletes {
        // Fast path: most stores have no rules, most queries are about what is young.
        let mut hidden = self.deletes(tenant, range, now_ms).peekable();
        if hidden.peek().is_none() {
            return deletes;
        }
        // Their numbers are above all others, so the order stays.
        Deletes::new(deletes.iter().cloned().chain(hidden).collect())
    }
}

impl Rule {
    /// What is older than this is not kept.
    fn before_ms(&self, now_ms: i64) -> i64 {
        now_ms.saturating_sub(self.kept_ms)
    }
}

#[cfg(test)]
mod tests {
    use model::{DEFAULT_TENANT, MatchOp};

    use super::*;

    fn rules(kept_ms: &[i64]) -> RetentionRules {
        let selector = vec![Matcher::new("env", MatchOp::Equal, "dev").expect("no pattern")];
        let rule = |&kept_ms: &i64| RetentionRule { selector: selector.clone(), kept_ms };
        RetentionRules::new(kept_ms.iter().map(rule).collect())
    }

    #[test]
    fn rules_are_past_in_order_of_time() {
        let rules = rules(&[300, 100, 200]);
        let past = |end_ms| rules.past(end_ms, 1_000);
        assert_eq!([950, 901, 900, 800, 700].map(past), [0, 0, 1, 2, 3]);
    }

    #[test]
    fn only_what_reaches_back_meets_a_rule() {
        let rules = rules(&[100, 300]);
        let hidden = |start_ms| {
            let range = TimeRange::new(start_ms, 2_000);
            let all = rules.with(Deletes::default(), DEFAULT_TENANT, range, 1_000);
            all.iter().map(|delete| delete.tombstone().range.end_ms).collect::<Vec<_>>()
        };
        assert_eq!(hidden(900), []);
        assert_eq!(hidden(899), [900]);
        assert_eq!(hidden(0), [900, 700]);
    }
}
