//! What a text that is searched says about the groups that can hold it.

use crate::grams;
use crate::tokens::{tokens, words};
use crate::words::WordTest;

/// One condition that a line with the needle in it meets; a group that cannot meet it has no such line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Condition<'a> {
    /// A word like this one is in the group.
    Word {
        test: WordTest<'a>,
        /// Whether the word is known to lie in a token without digits. If not, the group may have left it
        /// out of its words.
        is_plain: bool,
    },
    /// This hash was kept of the group.
    Hash(u64),
}

/// All conditions for a line to hold `needle`. Without any, every group may.
pub(crate) fn conditions(needle: &[u8], mut each: impl FnMut(Condition<'_>)) {
    for token in tokens(needle) {
        let end = token.start + token.bytes.len();
        // What touches an end of the needle may go on in the line.
        let (open_before, open_behind) = (token.start == 0, end == needle.len());
        let is_whole = !open_before && !open_behind;
        if token.is_long() {
            grams::kept(token.bytes, |hash| each(Condition::Hash(hash)));
        } else if is_whole && token.has_digit {
            each(Condition::Hash(grams::whole(token.bytes)));
        }
        for (start, piece) in words(token.bytes) {
            let test = WordTest {
                piece,
                open_before: open_before && start == 0,
                open_behind: open_behind && start + piece.len() == token.bytes.len(),
            };
            each(Condition::Word { test, is_plain: is_whole && !token.has_digit });
        }
    }
}
