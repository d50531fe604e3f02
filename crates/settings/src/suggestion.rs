//! "Did you mean".

/// The candidate nearest to `wrong`, if one is near enough to be a slip of the pen, or the only
/// one that has `wrong` among its words: `interval` for `scrape_interval`.
pub(crate) fn nearest<'a>(
    wrong: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let candidates: Vec<&'a str> = candidates.into_iter().collect();
    near(wrong, &candidates).or_else(|| with_word(wrong, &candidates))
}

fn with_word<'a>(wrong: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let mut found = candidates.iter().filter(|candidate| {
        let rest = candidate.strip_prefix(wrong).or_else(|| candidate.strip_suffix(wrong));
        rest.is_some_and(|rest| rest.starts_with('_') || rest.ends_with('_'))
    });
    let first = found.next()?;
    (wrong.len() > 2 && found.next().is_none()).then_some(first)
}

fn near<'a>(wrong: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let wrong_folded = fold(wrong);
    let mut best: Option<(usize, &'a str)> = None;
    for candidate in candidates {
        let distance = distance(&wrong_folded, &fold(candidate));
        if best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    let (distance, candidate) = best?;
    let allowed = (wrong.chars().count().max(candidate.len()) / 3).max(1);
    (distance <= allowed).then_some(candidate)
}

/// Case and the choice between `-`, `_` and a missing separator are the most frequent slips.
fn fold(text: &str) -> Vec<char> {
    text.chars().filter(|c| !matches!(c, '-' | '_' | ' ')).flat_map(char::to_lowercase).collect()
}

/// Fewest insertions, deletions, replacements and swaps of neighbours (optimal string alignment).
/// Costs the product of the lengths, so texts longer than any key count as far away.
fn distance(a: &[char], b: &[char]) -> usize {
    if a.len() > 64 || b.len() > 64 {
        return usize::MAX;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replace = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replace.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_slips_and_nothing_else() {
        let keys = ["scrape_interval", "scrape_timeout", "job_name", "static_configs"];
        for (wrong, want) in [
            ("scrape_intervall", Some("scrape_interval")),
            ("scrapeInterval", Some("scrape_interval")),
            ("static-config", Some("static_configs")),
            ("jobname", Some("job_name")),
            ("job_nmae", Some("job_name")),
            ("scrape_timout", Some("scrape_timeout")),
            ("job", Some("job_name")),
            ("interval", Some("scrape_interval")),
            ("scrape", None),
            ("nonexistent_field", None),
            ("", None),
        ] {
            assert_eq!(nearest(wrong, keys), want, "{wrong}");
        }
        let long = "x".repeat(1 << 20);
        assert_eq!(nearest(&long, keys), None);
    }
}
