//! `decolorize`: lines without the control sequences of terminals.

use std::ops::Range;
use std::sync::OnceLock;

use model::regex::Finder;

use super::entry::State;

/// Control sequences, as `ansi-regex` knows them.
/// Source: <https://github.com/chalk/ansi-regex>, version 5.
const SEQUENCES: &str = concat!(
    r"[\x{1B}\x{9B}][[\]()#;?]*",
    r"(?:(?:(?:[a-zA-Z\d]*(?:;[a-zA-Z\d]*)*)?\x{07})",
    r"|(?:(?:\d{1,4}(?:;\d{0,4})*)?[\dA-PRZcf-ntqry=><~]))",
);

fn sequences() -> &'static Finder {
    static FINDER: OnceLock<Finder> = OnceLock::new();
    FINDER.get_or_init(|| Finder::new(SEQUENCES).expect("the expression is valid"))
}

/// Takes control sequences out of the line.
pub(crate) fn process(line: &str, state: &mut State) {
    // 0xC2 begins U+009B.
    if memchr::memchr2(0x1B, 0xC2, line.as_bytes()).is_none() {
        return;
    }
    let Some(first) = sequences().find_at(line, 0) else { return };
    let plain = state.write_with(|out| write_plain(line, first, out));
    state.set_line(plain);
}

/// Appends `line` without control sequences to `out`, if it has any. Yields whether it has.
pub fn decolorize(line: &str, out: &mut String) -> bool {
    if memchr::memchr2(0x1B, 0xC2, line.as_bytes()).is_none() {
        return false;
    }
    let Some(first) = sequences().find_at(line, 0) else { return false };
    write_plain(line, first, out);
    true
}

fn write_plain(line: &str, first: Range<usize>, out: &mut String) {
    let mut found = first;
    let mut end = 0;
    loop {
        out.push_str(&line[end..found.start]);
        end = found.end;
        match sequences().find_at(line, end) {
            Some(next) => found = next,
            None => break,
        }
    }
    out.push_str(&line[end..]);
}
