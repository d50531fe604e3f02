//! What groups of files and servers bear besides what is written in them.

use model::{Labels, LabelsBuilder};
use settings::TargetGroup;

/// Gives every group the label `name` with the value `place`, and a source that begins with it.
pub(super) fn placed(groups: Vec<TargetGroup>, name: &str, place: &str) -> Vec<TargetGroup> {
    let place_one = |group: TargetGroup| TargetGroup {
        labels: LabelsBuilder::from_labels(&group.labels).set(name, place).build(),
        source: format!("{place}:{}", group.source),
        ..group
    };
    groups.into_iter().map(place_one).collect()
}

/// The labels of one target; those with an empty value are left out.
pub(super) fn target<const N: usize>(pairs: [(&str, &str); N]) -> Labels {
    Labels::from_pairs(pairs).expect("names are unique and not empty")
}
