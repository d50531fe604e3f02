//! `decolorize`: lines without the control sequences of terminals.

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
    let finder = sequences();
    let Some(mut found) = finder.find_at(line, 0) else { return };
    let mut end = 0;
    let plain = state.write_with(|out| {
        loop {
            out.push_str(&line[end..found.start]);
            end = found.end;
            match finder.find_at(line, end) {
                Some(next) => found = next,
                None => break,
            }
        }
        out.push_str(&line[end..]);
    });
    state.set_line(plain);
}
