//! The elements of the "one" side of a match group, joined into a single row.

use std::sync::Arc;

use model::FloatHistogram;

use super::super::histogram_rows::{self, HistogramRow};
use super::super::rows::{ABSENT, Rows, is_absent};

/// Which series of a group has a value at each step. At most one may at a time.
pub(super) struct OneSide {
    /// The series of the group.
    pub(super) members: Vec<u32>,
    /// With several members: the value at each step, and whose it is.
    joined: Option<Joined>,
}

struct Joined {
    values: Vec<f64>,
    /// Empty if there are none.
    histograms: HistogramRow,
    owner: Vec<u32>,
}

/// Two series of a group with a value at the same step.
pub(super) struct Clash {
    pub(super) earlier: u32,
    pub(super) later: u32,
}

impl OneSide {
    /// Joins `members`, indices into `rows` in ascending order. Only at `active` steps must they
    /// keep out of each other's way.
    pub(super) fn new(rows: &Rows, members: Vec<u32>, active: &[bool]) -> Result<Self, Clash> {
        if members.len() < 2 {
            return Ok(OneSide { members, joined: None });
        }
        let mut joined = Joined {
            values: vec![ABSENT; rows.steps],
            histograms: HistogramRow::new(),
            owner: vec![0; rows.steps],
        };
        for &member in &members {
            let row = rows.row(member as usize);
            let histograms = rows.histograms.row(member as usize);
            for (step, &value) in row.iter().enumerate() {
                if is_absent(value) {
                    continue;
                }
                if active[step] && !is_absent(joined.values[step]) {
                    return Err(Clash { earlier: joined.owner[step], later: member });
                }
                joined.values[step] = value;
                joined.owner[step] = member;
                let histogram = histogram_rows::at(row, histograms, step);
                if histogram.is_some() && joined.histograms.is_empty() {
                    joined.histograms.resize(rows.steps, None);
                }
                if let Some(target) = joined.histograms.get_mut(step) {
                    *target = histogram.cloned();
                }
            }
        }
        Ok(OneSide { members, joined: Some(joined) })
    }

    /// The value of the group at every step.
    pub(super) fn row<'r>(&'r self, rows: &'r Rows) -> Option<&'r [f64]> {
        match (&self.joined, self.members.first()) {
            (Some(joined), _) => Some(&joined.values),
            (None, Some(member)) => Some(rows.row(*member as usize)),
            (None, None) => None,
        }
    }

    /// The histograms of the group beside its values; empty if there are none.
    pub(super) fn histograms<'r>(&'r self, rows: &'r Rows) -> &'r [Option<Arc<FloatHistogram>>] {
        match (&self.joined, self.members.first()) {
            (Some(joined), _) => &joined.histograms,
            (None, Some(member)) => rows.histograms.row(*member as usize),
            (None, None) => &[],
        }
    }

    /// Whether the value at `step` is that of `member`.
    pub(super) fn is_owner(&self, step: usize, member: u32) -> bool {
        self.joined.as_ref().is_none_or(|joined| joined.owner[step] == member)
    }
}
