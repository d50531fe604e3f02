//! The label by which series of one cluster are told from those of another, if that is wanted.
//!
//! Brokers know nothing of it: conditions on it are looked at here, and it is added to what they answer.
//! It takes the place of a label of that name which a series has of its own.

use model::{Labels, LabelsBuilder, Matcher};

/// Name and value of the label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ClusterLabel {
    pub(super) name: String,
    pub(super) value: String,
}

impl ClusterLabel {
    /// The conditions that are left for the brokers; `None` if no series of the cluster satisfies all.
    pub(super) fn left_of(&self, matchers: &[Matcher]) -> Option<Vec<Matcher>> {
        let (own, others): (Vec<&Matcher>, Vec<&Matcher>) =
            matchers.iter().partition(|matcher| matcher.name == self.name);
        let holds = own.iter().all(|matcher| matcher.matches(&self.value));
        holds.then(|| others.into_iter().cloned().collect())
    }

    pub(super) fn added_to(&self, labels: &Labels) -> Labels {
        let mut builder = LabelsBuilder::from_labels(labels);
        builder.set(&self.name, &self.value);
        builder.build()
    }
}

/// The conditions of any of `selectors` that are left for the brokers; `None` if no series of the
/// cluster satisfies any.
pub(super) fn left_of_all(
    label: Option<&ClusterLabel>,
    selectors: &[Vec<Matcher>],
) -> Option<Vec<Vec<Matcher>>> {
    let Some(label) = label.filter(|_| !selectors.is_empty()) else {
        return Some(selectors.to_vec());
    };
    let left: Vec<_> = selectors.iter().filter_map(|one| label.left_of(one)).collect();
    (!left.is_empty()).then_some(left)
}

#[cfg(test)]
mod tests {
    use model::MatchOp;

    use super::*;

    #[test]
    fn conditions_on_the_label_are_not_for_the_broker() {
        let label = ClusterLabel { name: "cluster".to_owned(), value: "eu".to_owned() };
        let matcher =
            |op, name: &str, value: &str| Matcher::new(name, op, value).expect("a matcher");
        let job = matcher(MatchOp::Equal, "job", "a");
        let left = |op, value: &str| label.left_of(&[job.clone(), matcher(op, "cluster", value)]);
        assert_eq!(left(MatchOp::Equal, "eu").expect("holds").len(), 1);
        assert_eq!(left(MatchOp::Regex, "eu|us").expect("holds").len(), 1);
        assert!(left(MatchOp::Equal, "us").is_none());
        assert!(left(MatchOp::NotRegex, ".*").is_none());
        assert!(left(MatchOp::Equal, "").is_none());
        let all = |values: &[&str]| {
            let selectors: Vec<_> = values
                .iter()
                .map(|value| vec![matcher(MatchOp::Equal, "cluster", value)])
                .collect();
            left_of_all(Some(&label), &selectors)
        };
        assert_eq!(all(&["us", "eu"]).expect("one holds"), [Vec::<Matcher>::new()]);
        assert!(all(&["us"]).is_none());
        assert!(all(&[]).expect("every series").is_empty());
        let named = Labels::from_pairs([("cluster", "own"), ("job", "a")]).expect("labels");
        assert_eq!(label.added_to(&named).get("cluster"), Some("eu"));
    }
}
