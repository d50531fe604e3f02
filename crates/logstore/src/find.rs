//! Finding lines by what is in them: all lines at once, as one text.

use std::ops::Range;

use memchr::memmem::Finder;

use crate::texts::AnyOf;

/// Rows among `rows` whose lines hold what is wanted, ascending. Lines lie at `starts` in `lines`; something is
/// wanted.
pub(crate) fn rows_with(
    needles: &[AnyOf],
    rows: Range<u32>,
    starts: &[u32],
    lines: &[u8],
) -> Vec<u32> {
    let Some((first, others)) = needles.split_first() else { return rows.collect() };
    let has_others = |row: u32| {
        let line = starts[row as usize] as usize..starts[row as usize + 1] as usize;
        others.iter().all(|needle| needle.is_in(&lines[line.clone()]))
    };
    let with = |finder| rows_with_text(finder, rows.clone(), starts, lines);
    let mut found: Vec<u32> = match first.sole() {
        Some(text) => with(&text.finder),
        None => {
            let mut all: Vec<u32> =
                first.texts().iter().flat_map(|text| with(&text.finder)).collect();
            all.sort_unstable();
            all.dedup();
            all
        }
    };
    if !others.is_empty() {
        found.retain(|row| has_others(*row));
    }
    found
}

fn rows_with_text(text: &Finder<'_>, rows: Range<u32>, starts: &[u32], lines: &[u8]) -> Vec<u32> {
    let mut found = Vec::new();
    let end = starts[rows.end as usize] as usize;
    let mut row = rows.start as usize;
    let mut at = starts[row] as usize;
    while let Some(hit) = text.find(&lines[at..end]) {
        let hit = at + hit;
        while starts[row + 1] as usize <= hit {
            row += 1;
        }
        let line_end = starts[row + 1] as usize;
        if hit + text.needle().len() > line_end {
            // It lies across two lines.
            at = hit + 1;
            continue;
        }
        found.push(row as u32);
        at = line_end;
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_lines_are_those_that_a_look_at_each_finds(
            texts in prop::collection::vec(r"[ab\\]{0,6}", 0..20),
            needles in prop::collection::vec("[ab]{1,3}", 1..3),
            value in prop::option::of("[ab]{1,3}"),
            from in any::<prop::sample::Index>(),
            to in any::<prop::sample::Index>(),
        ) {
            let mut starts = vec![0];
            let mut lines = Vec::new();
            for text in &texts {
                lines.extend_from_slice(text.as_bytes());
                starts.push(lines.len() as u32);
            }
            let (a, b) = (from.index(texts.len() + 1), to.index(texts.len() + 1));
            let rows = a.min(b) as u32..a.max(b) as u32;
            let mut wanted: Vec<AnyOf> = needles.iter().map(|n| AnyOf::one(n.as_bytes())).collect();
            wanted.extend(value.iter().map(|value| AnyOf::value(value.as_bytes())));
            wanted.rotate_right(usize::from(value.is_some()));
            let is_wanted = |row: &u32| {
                let line = texts[*row as usize].as_str();
                needles.iter().all(|n| line.contains(n.as_str()))
                    && value.iter().all(|v| line.contains(v.as_str()) || line.contains('\\'))
            };
            let found: Vec<u32> = rows.clone().filter(is_wanted).collect();
            prop_assert_eq!(rows_with(&wanted, rows, &starts, &lines), found);
        }
    }
}
