//! Labels of a result with those that a rule sets.

use model::{Labels, METRIC_NAME};

/// The labels of `metric` with those of `set` in place of its own; an empty value takes a label
/// away. `set` ascends by name and has each name once.
pub(super) fn merge<'a>(
    metric: &'a Labels,
    set: impl Iterator<Item = (&'a str, &'a str)>,
) -> Labels {
    let mut packed = Vec::with_capacity(metric.as_packed().len() + 64);
    let mut push = |name: &str, value: &str| {
        if !value.is_empty() && !name.is_empty() {
            Labels::push_packed(&mut packed, name, value);
        }
    };
    let mut own = metric.iter().peekable();
    for (name, value) in set {
        while let Some((before, its)) = own.next_if(|(own, _)| *own < name) {
            push(before, its);
        }
        own.next_if(|(own, _)| *own == name);
        push(name, value);
    }
    for (name, value) in own {
        push(name, value);
    }
    Labels::from_trusted_packed(&packed)
}

/// `labels` with the name of a metric in place of theirs.
pub(super) fn named(labels: &Labels, name: &str) -> Labels {
    merge(labels, std::iter::once((METRIC_NAME, name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::LabelsBuilder;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied()).expect("a test's labels")
    }

    #[test]
    fn what_is_set_wins_and_nothing_takes_away() {
        let metric = labels(&[("__name__", "up"), ("a", "1"), ("c", "3"), ("z", "9")]);
        let set = [("__name__", "n"), ("a", ""), ("b", "2"), ("c", "4"), ("zz", "")];
        let merged = merge(&metric, set.into_iter());
        assert_eq!(merged.to_string(), r#"n{b="2", c="4", z="9"}"#);
        assert_eq!(named(&Labels::empty(), "x").to_string(), "x");
    }

    #[test]
    fn it_is_what_a_builder_yields() {
        let metric = labels(&[("b", "1"), ("d", "2"), ("f", "3")]);
        for names in [["a", "b"], ["b", "c"], ["e", "g"], ["d", "f"]] {
            let mut builder = LabelsBuilder::from_labels(&metric);
            names.iter().for_each(|name| {
                builder.set(name, "x");
            });
            let merged = merge(&metric, names.into_iter().map(|name| (name, "x")));
            assert_eq!(merged, builder.build());
        }
    }
}
