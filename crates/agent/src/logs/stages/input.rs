//! What a stage reads: the line, or a value.

use super::line::Line;

/// Hands what is read to `read`: the line, or the value `source`, if there is such a text. `read` must
/// not touch the line's own text if that is what it is given.
pub(super) fn with_input(
    line: &mut Line,
    source: Option<&str>,
    scratch: &mut String,
    read: impl FnOnce(&str, &mut Line),
) {
    match source {
        None => {
            let bytes = std::mem::take(&mut line.text);
            read(&String::from_utf8_lossy(&bytes), line);
            line.text = bytes;
        }
        Some(name) => {
            let Some(value) = line.value_text(name) else { return };
            scratch.clear();
            scratch.push_str(value);
            read(scratch, line);
        }
    }
}

/// Writes what was made of the input to where it came from.
pub(super) fn put_back(line: &mut Line, source: Option<&str>, text: &str) {
    match source {
        None => line.set_text(text),
        Some(name) => line.values.set_text(name, text),
    }
}
