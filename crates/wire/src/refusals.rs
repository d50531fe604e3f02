//! What a decoder leaves out of a request whose other parts it takes.

/// Most distinct reasons kept; further ones are counted under the last.
const MAX_REASONS: usize = 16;

/// Parts of a request that were left out for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Why, in words for the sender.
    pub reason: String,
    /// How many series, points or lines it hit, as the protocol counts.
    pub series: u64,
    /// How many samples it hit, floats and histograms.
    pub samples: u64,
    /// How many of them are native histograms.
    pub histograms: u64,
    /// The first of them as the sender would recognise it; may be empty.
    pub first: String,
}

/// What was left out of one request, one entry per reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusals(Vec<Refused>);

impl Refusals {
    /// Counts one more series, point or line. `first` is asked only for the first of a reason.
    pub fn add(
        &mut self,
        reason: &str,
        samples: u64,
        histograms: u64,
        first: impl FnOnce() -> String,
    ) {
        let known = self.0.iter().position(|refused| refused.reason == reason);
        let slot = match known {
            Some(slot) => slot,
            None if self.0.len() == MAX_REASONS => MAX_REASONS - 1,
            None => {
                let (reason, first) = (reason.to_owned(), first());
                self.0.push(Refused { reason, series: 0, samples: 0, histograms: 0, first });
                self.0.len() - 1
            }
        };
        let refused = &mut self.0[slot];
        refused.series += 1;
        refused.samples += samples;
        refused.histograms += histograms;
    }

    /// Whether everything was taken.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each reason, in the order in which they came up.
    pub fn iter(&self) -> impl Iterator<Item = &Refused> {
        self.0.iter()
    }
}

impl IntoIterator for Refusals {
    type Item = Refused;
    type IntoIter = std::vec::IntoIter<Refused>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_counted_and_bounded() {
        let mut refusals = Refusals::default();
        assert!(refusals.is_empty());
        refusals.add("bad", 2, 1, || "a".to_owned());
        refusals.add("bad", 3, 0, || unreachable!("only the first is named"));
        let bad = Refused {
            reason: "bad".to_owned(),
            series: 2,
            samples: 5,
            histograms: 1,
            first: "a".to_owned(),
        };
        assert_eq!(refusals.iter().collect::<Vec<_>>(), [&bad]);
        for index in 0..100 {
            refusals.add(&format!("reason {index}"), 1, 0, String::new);
        }
        assert_eq!(refusals.iter().count(), MAX_REASONS);
        assert_eq!(refusals.into_iter().map(|refused| refused.samples).sum::<u64>(), 105);
    }
}
