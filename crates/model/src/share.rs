//! How much of what all tenants share one of them may have.

/// A bound over all tenants, of which each may have two thirds of what the others leave free.
///
/// So one tenant alone has two thirds of it, two have two fifths each, ten nearly a tenth each; and whoever
/// comes next finds room, however much those before them have. Nothing is taken away from who has more
/// than that by now; they get no more of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    all: usize,
}

impl Share {
    /// A tenant alone may have `most`, and all together half as much again.
    pub const fn of_one_alone(most: usize) -> Share {
        Share { all: most.saturating_add(most / 2) }
    }

    /// What all may have together.
    pub const fn all(self) -> usize {
        self.all
    }

    /// What a tenant may have when all others together have `others`.
    pub const fn beside(self, others: usize) -> usize {
        let free = self.all.saturating_sub(others);
        free - free.div_ceil(3)
    }

    /// Whether a tenant that has `own` may have `more` when all others together have `others`.
    ///
    /// # Errors
    /// It may not; the limit.
    pub const fn admit(self, own: usize, more: usize, others: usize) -> Result<(), usize> {
        let limit = self.beside(others);
        match more == 0 || own.saturating_add(more) <= limit {
            true => Ok(()),
            false => Err(limit),
        }
    }

    /// Where a limit comes from, for its refusal.
    pub fn rule(self) -> String {
        format!("a tenant may have two thirds of what others leave of {}", self.all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_next_finds_room() {
        let share = Share::of_one_alone(1_000_000);
        assert_eq!((share.all(), share.beside(0)), (1_500_000, 1_000_000));
        // Each takes what it can get, in turn, until nobody gets more.
        let mut has = [0_usize; 10];
        for _ in 0..100 {
            for one in 0..has.len() {
                let others = has.iter().sum::<usize>() - has[one];
                has[one] = has[one].max(share.beside(others));
            }
        }
        let used: usize = has.iter().sum();
        assert!(used < share.all() && share.beside(used) > 0, "{has:?}");
        assert_eq!(share.beside(1_500_000), 0);
        assert_eq!(share.beside(usize::MAX), 0);
        // Nothing is taken away, and nothing more is given.
        assert_eq!(share.admit(2_000_000, 0, 0), Ok(()));
        assert_eq!(share.admit(999_999, 1, 0), Ok(()));
        assert_eq!(share.admit(999_999, 2, 0), Err(1_000_000));
        assert_eq!(share.admit(1, usize::MAX, usize::MAX), Err(0));
        // Those who grow side by side have the same.
        let share = Share::of_one_alone(1_000);
        let mut has = [0_usize; 10];
        while (0..10).any(|one| has[one] < share.beside(has.iter().sum::<usize>() - has[one])) {
            for one in 0..10 {
                let others = has.iter().sum::<usize>() - has[one];
                has[one] += usize::from(has[one] < share.beside(others));
            }
        }
        assert!(has.iter().all(|own| (141..=143).contains(own)), "{has:?}");
    }
}
