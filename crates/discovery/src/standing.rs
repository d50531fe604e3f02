//! What the log says of something that fails: once when it begins, once when it is for another reason,
//! and once when it works again, with how often it failed.

/// How something stands that may fail again and again, such as a source of targets.
#[derive(Debug, Default)]
pub struct Standing {
    /// Why it fails, and how often it did in a row.
    failing: Option<(String, u64)>,
}

impl Standing {
    /// Takes a failure; whether it is news.
    pub fn fails(&mut self, reason: &str) -> bool {
        match &mut self.failing {
            Some((known, times)) => {
                *times += 1;
                let is_news = known != reason;
                if is_news {
                    reason.clone_into(known);
                }
                is_news
            }
            None => {
                self.failing = Some((reason.to_owned(), 1));
                true
            }
        }
    }

    /// Takes that it works; how often it failed before, if that is over now.
    pub fn works(&mut self) -> Option<u64> {
        self.failing.take().map(|(_, times)| times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_are_news() {
        let mut standing = Standing::default();
        assert_eq!(standing.works(), None);
        assert!(standing.fails("no answer"));
        assert!((0..100).all(|_| !standing.fails("no answer")));
        assert!(standing.fails("404"));
        assert!(!standing.fails("404"));
        assert_eq!(standing.works(), Some(103));
        assert_eq!(standing.works(), None);
        assert!(standing.fails("404"));
    }
}
