//! Values of any size in a key space whose values are bounded: a large one is cut into pieces, and the
//! key names them once all are there, so that a crash leaves the old value or the new one.
//!
//! The value of a key begins with a byte of version and a byte that tells what follows: the bytes
//! themselves (0), or in decimal the number of the write and of its pieces (1), which lie behind the key
//! as `<key>#<write>/<piece>`.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::keep::{Keep, KeepError, MAX_VALUE_BYTES};

const VERSION: u8 = 1;
const WHOLE: u8 = 0;
const IN_PIECES: u8 = 1;
const HEADER_BYTES: usize = 2;

/// Names of values that cannot be read, and why.
pub(crate) type Problems = Vec<(String, String)>;

/// All values below a prefix.
pub(crate) struct Pages {
    keep: Arc<dyn Keep>,
    prefix: &'static str,
}

impl Pages {
    pub(crate) fn new(keep: Arc<dyn Keep>, prefix: &'static str) -> Pages {
        Pages { keep, prefix }
    }

    /// All values, by what follows the prefix in their keys, and those that cannot be read with the reason.
    pub(crate) fn read(&self) -> (BTreeMap<String, Vec<u8>>, Problems) {
        let all: BTreeMap<String, Vec<u8>> = self.keep.list(self.prefix).into_iter().collect();
        let (mut values, mut problems) = (BTreeMap::new(), Vec::new());
        for (key, value) in all.iter().filter(|(key, _)| !key.contains('#')) {
            let name = key[self.prefix.len()..].to_owned();
            match value.as_slice() {
                [VERSION, WHOLE, bytes @ ..] => drop(values.insert(name, bytes.to_vec())),
                [VERSION, IN_PIECES, place @ ..] => match in_pieces(&all, key, place) {
                    Some(bytes) => drop(values.insert(name, bytes)),
                    None => problems.push((name, "a piece of it is missing".to_owned())),
                },
                [version, ..] => {
                    let reason = format!("its version is {version}, and {VERSION} is known");
                    problems.push((name, reason));
                }
                [] => problems.push((name, "it is empty".to_owned())),
            }
        }
        (values, problems)
    }

    /// As [`Keep::fence`].
    pub(crate) async fn fence(&self) -> Result<(), KeepError> {
        self.keep.fence().await
    }

    /// Writes a value; it is durable when this is done.
    ///
    /// # Errors
    /// The value of before counts.
    pub(crate) async fn put(&self, name: &str, bytes: &[u8]) -> Result<(), KeepError> {
        let key = format!("{}{name}", self.prefix);
        let before: Vec<String> =
            self.keep.list(&format!("{key}#")).into_iter().map(|(key, _)| key).collect();
        if bytes.len() + HEADER_BYTES <= MAX_VALUE_BYTES {
            self.keep.put(key, [&[VERSION, WHOLE], bytes].concat()).await?;
        } else {
            // A number that no piece which is there has.
            let of = |key: &String| key.rsplit_once('#')?.1.split_once('/')?.0.parse::<u64>().ok();
            let write = before.iter().filter_map(of).max().map_or(1, |last| last + 1);
            let mut pieces = 0;
            for piece in bytes.chunks(MAX_VALUE_BYTES) {
                self.keep.put(format!("{key}#{write}/{pieces}"), piece.to_vec()).await?;
                pieces += 1;
            }
            let place = format!("{write} {pieces}");
            self.keep.put(key, [&[VERSION, IN_PIECES], place.as_bytes()].concat()).await?;
        }
        // What is left of an earlier write is removed with the next one.
        for key in before {
            if self.keep.delete(key).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Removes a value.
    ///
    /// # Errors
    /// It may still be there.
    pub(crate) async fn delete(&self, name: &str) -> Result<(), KeepError> {
        let key = format!("{}{name}", self.prefix);
        self.keep.delete(key.clone()).await?;
        for (key, _) in self.keep.list(&format!("{key}#")) {
            self.keep.delete(key).await?;
        }
        Ok(())
    }
}

fn in_pieces(all: &BTreeMap<String, Vec<u8>>, key: &str, place: &[u8]) -> Option<Vec<u8>> {
    let (write, pieces) = std::str::from_utf8(place).ok()?.split_once(' ')?;
    let pieces: u64 = pieces.parse().ok()?;
    let mut bytes = Vec::new();
    for piece in 0..pieces {
        bytes.extend_from_slice(all.get(&format!("{key}#{write}/{piece}"))?);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::shelf::Shelf;

    #[tokio::test]
    async fn a_write_that_broke_off_leaves_the_value_of_before() {
        let large = |byte: u8| vec![byte; MAX_VALUE_BYTES * 2 + 5];
        for first in [vec![1; 10], large(1)] {
            for writes in 0..8 {
                let shelf = Shelf::new();
                let pages = Pages::new(Arc::clone(&shelf) as _, "p/");
                pages.put("a", &first).await.expect("is written");
                pages.put("b", b"other").await.expect("is written");
                shelf.writes_left.store(writes, Ordering::SeqCst);
                let second = pages.put("a", &large(2)).await;
                let (values, problems) = pages.read();
                assert_eq!(problems, []);
                let want = if second.is_ok() { large(2) } else { first.clone() };
                assert!(values["a"] == want, "{writes}");
                shelf.writes_left.store(usize::MAX, Ordering::SeqCst);
                pages.put("a", &large(3)).await.expect("is written");
                pages.put("a", b"short").await.expect("is written");
                assert_eq!(pages.read().0["a"], b"short");
                let keys: Vec<String> = shelf.list("p/").into_iter().map(|(key, _)| key).collect();
                assert_eq!(keys, ["p/a", "p/b"], "{writes}");
                pages.put("a", &large(4)).await.expect("is written");
                pages.delete("a").await.expect("is removed");
                assert_eq!(shelf.list("p/a").len(), 0);
            }
        }
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_told() {
        let shelf = Shelf::new();
        let pages = Pages::new(Arc::clone(&shelf) as _, "p/");
        pages.put("a", &vec![1; MAX_VALUE_BYTES * 2]).await.expect("is written");
        shelf.keys.lock().remove("p/a#1/1");
        shelf.keys.lock().insert("p/b".to_owned(), vec![9, 0, 1]);
        let names: Vec<String> = pages.read().1.into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a", "b"]);
    }
}
