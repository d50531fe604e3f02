//! The elements of the "one" side of a match group, joined into a single row.

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
        let mut joined = Joined { values: vec![ABSENT; rows.steps], owner: vec![0; rows.steps] };
        for &member in &members {
            for (step, &value) in rows.row(member as usize).iter().enumerate() {
                if is_absent(value) {
                    continue;
                }
                if active[step] && !is_absent(joined.values[step]) {
                    return Err(Clash { earlier: joined.owner[step], later: member });
                }
                joined.values[step] = value;
                joined.owner[step] = member;
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

    /// Whether the value at `step` is that of `member`.
    pub(super) fn is_owner(&self, step: usize, member: u32) -> bool {
        self.joined.as_ref().is_none_or(|joined| joined.owner[step] == member)
    }
}
