//! What was made for one scrape target after the other, and will be wanted again.
//!
//! Series of one target have the same timestamps, and what follows from those is made once for them. They
//! do not come one after the other: in the order of labels `{cpu="0"}` of all targets is before
//! `{cpu="1"}` of the first. So that of some targets is kept.

/// The one at hand, and some of those before it.
#[derive(Debug, Default)]
pub(super) struct Recent<T> {
    at_hand: T,
    kept: Vec<T>,
    /// The next of them to be given up.
    oldest: usize,
}

impl<T: Default> Recent<T> {
    #[inline]
    pub(super) fn at_hand(&self) -> &T {
        &self.at_hand
    }

    /// Puts at hand what `is_it`, if it is kept.
    #[inline]
    pub(super) fn find(&mut self, is_it: impl Fn(&T) -> bool) -> bool {
        // Fast path: it was wanted last.
        is_it(&self.at_hand) || self.find_kept(is_it)
    }

    fn find_kept(&mut self, is_it: impl Fn(&T) -> bool) -> bool {
        let Some(place) = self.kept.iter().position(is_it) else { return false };
        std::mem::swap(&mut self.kept[place], &mut self.at_hand);
        true
    }

    /// Yields what is to be overwritten by the next one, and is at hand then. What is at hand now is
    /// kept, if it `is_worth_it`, as one of at most `room`: in the place of the oldest.
    pub(super) fn next(&mut self, is_worth_it: bool, room: usize) -> &mut T {
        if is_worth_it && room > 0 {
            let place = if self.kept.len() < room {
                self.kept.push(T::default());
                self.kept.len() - 1
            } else {
                self.oldest = (self.oldest + 1) % room;
                self.oldest
            };
            std::mem::swap(&mut self.kept[place], &mut self.at_hand);
        }
        &mut self.at_hand
    }

    /// How many are kept besides the one at hand.
    pub(super) fn kept(&self) -> usize {
        self.kept.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_given_up() {
        let mut recent = Recent::<u32>::default();
        for number in 1..=4 {
            let is_worth_it = *recent.at_hand() != 0;
            *recent.next(is_worth_it, 3) = number;
        }
        assert_eq!((*recent.at_hand(), recent.kept()), (4, 3));
        for number in [1, 4, 2, 3] {
            assert!(recent.find(|one| *one == number), "{number}");
            assert_eq!(*recent.at_hand(), number);
        }
        assert!(!recent.find(|one| *one == 9));
        *recent.next(true, 3) = 5;
        let left = (1..=5).filter(|number| recent.find(|one| one == number)).count();
        assert_eq!((left, recent.kept()), (4, 3));
        *recent.next(true, 0) = 6;
        assert_eq!((*recent.at_hand(), recent.kept()), (6, 3));
    }
}
