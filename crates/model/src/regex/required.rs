//! Texts without which an expression matches nothing.

use regex_syntax::hir::{Hir, HirKind};

/// Shorter ones are in nearly every text.
const MIN_BYTES: usize = 2;
/// More texts in place of each other are no help.
const MAX_ALTERNATIVES: usize = 16;
/// The longest ones say most.
const MAX_LISTS: usize = 4;
/// May stand for bytes that are no UTF-8.
const REPLACEMENT: &str = "\u{fffd}";

/// A list of texts, of which a match has one.
pub(super) type OneOf = Box<[Box<[u8]>]>;

/// Of each of these lists a match has a text. Only the longest are told.
pub(super) fn required(hir: &Hir) -> Vec<OneOf> {
    let mut lists = Vec::new();
    add(hir, &mut lists);
    lists.sort_by_key(|list| std::cmp::Reverse(shortest(list)));
    lists.truncate(MAX_LISTS);
    lists
}

fn shortest(list: &OneOf) -> usize {
    list.iter().map(|text| text.len()).min().unwrap_or(0)
}

fn add(hir: &Hir, lists: &mut Vec<OneOf>) {
    match hir.kind() {
        HirKind::Literal(literal) => {
            let mut pieces = literal.0.windows(REPLACEMENT.len());
            let is_itself = !pieces.any(|piece| piece == REPLACEMENT.as_bytes());
            if literal.0.len() >= MIN_BYTES && is_itself {
                lists.push([literal.0.clone()].into());
            }
        }
        HirKind::Capture(capture) => add(&capture.sub, lists),
        HirKind::Repetition(repetition) if repetition.min > 0 => add(&repetition.sub, lists),
        HirKind::Concat(parts) => parts.iter().for_each(|part| add(part, lists)),
        HirKind::Alternation(ways) => {
            let mut all = Vec::new();
            for way in ways {
                // Whichever way it matches, it has one of the best list of that way.
                let Some(best) = required(way).into_iter().next() else { return };
                all.extend(best);
                if all.len() > MAX_ALTERNATIVES {
                    return;
                }
            }
            lists.push(all.into());
        }
        HirKind::Empty | HirKind::Class(_) | HirKind::Look(_) | HirKind::Repetition(_) => {}
    }
}
