//! Finding lines by what is in them: all lines at once, as one text.

use std::ops::Range;

use memchr::memmem::Finder;

/// Rows among `rows` whose lines hold all needles, ascending. Lines lie at `starts` in `lines`; there is a
/// needle, and none is empty.
pub(crate) fn rows_with(
    needles: &[Finder<'_>],
    rows: Range<u32>,
    starts: &[u32],
    lines: &[u8],
) -> Vec<u32> {
    let mut found = Vec::new();
    let Some((first, others)) = needles.split_first() else { return rows.collect() };
    let end = starts[rows.end as usize] as usize;
    let mut row = rows.start as usize;
    let mut at = starts[row] as usize;
    while let Some(hit) = first.find(&lines[at..end]) {
        let hit = at + hit;
        while starts[row + 1] as usize <= hit {
            row += 1;
        }
        let line_end = starts[row + 1] as usize;
        if hit + first.needle().len() > line_end {
            // It lies across two lines.
            at = hit + 1;
            continue;
        }
        let line = &lines[starts[row] as usize..line_end];
        if others.iter().all(|needle| needle.find(line).is_some()) {
            found.push(row as u32);
        }
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
            texts in prop::collection::vec("[ab]{0,6}", 0..20),
            needles in prop::collection::vec("[ab]{1,3}", 1..3),
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
            let finders: Vec<Finder<'_>> = needles.iter().map(|n| Finder::new(n.as_bytes())).collect();
            let wanted: Vec<u32> = rows
                .clone()
                .filter(|row| needles.iter().all(|n| texts[*row as usize].contains(n.as_str())))
                .collect();
            prop_assert_eq!(rows_with(&finders, rows, &starts, &lines), wanted);
        }
    }
}
