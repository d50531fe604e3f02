//! Label names and values of chosen series, for both indexes.

use crate::select::{POSTINGS_PER_ROW, Rows, Store};
use crate::sets;

/// Names of the labels that `series` bear, in no order.
pub(crate) fn names_of<'a, S: Store>(store: &'a S, series: &[u32]) -> Vec<&'a str> {
    let mut all: Vec<(u32, &str)> = store.names().collect();
    all.sort_unstable();
    let mut is_borne = vec![false; all.len()];
    let mut missing = all.len();
    let mut rows = store.rows();
    for &one in series {
        if missing == 0 {
            break;
        }
        for &pair in rows.pairs_of(one) {
            let place = &mut is_borne[store.name_of(pair) as usize];
            missing -= usize::from(!*place);
            *place = true;
        }
    }
    all.retain(|(number, _)| is_borne[*number as usize]);
    all.into_iter().map(|(_, name)| name).collect()
}

/// Pairs of the label `name` in `series`, which ascend; each once, in no order.
pub(crate) fn values_of<S: Store>(store: &S, name: u32, series: &[u32]) -> Vec<u32> {
    let pairs: Vec<u32> = store.pairs(name, "").collect();
    let postings: usize = pairs.iter().map(|&pair| store.postings_len(pair)).sum();
    if postings / POSTINGS_PER_ROW > series.len() {
        borne_by_rows(store, name, series)
    } else {
        borne_by_postings(store, pairs, series)
    }
}

/// Looks at every series.
fn borne_by_rows<S: Store>(store: &S, name: u32, series: &[u32]) -> Vec<u32> {
    let mut borne = Vec::new();
    let mut rows = store.rows();
    for &one in series {
        let pair = rows.pairs_of(one).iter().find(|pair| store.name_of(**pair) == name);
        // Neighbours often have the same value.
        if let Some(&pair) = pair
            && borne.last() != Some(&pair)
        {
            borne.push(pair);
        }
    }
    borne.sort_unstable();
    borne.dedup();
    borne
}

/// Looks at every pair.
fn borne_by_postings<S: Store>(store: &S, mut pairs: Vec<u32>, series: &[u32]) -> Vec<u32> {
    let mut postings = Vec::new();
    pairs.retain(|&pair| {
        postings.clear();
        store.append_postings(pair, &mut postings);
        sets::intersects(&postings, series)
    });
    pairs
}

/// The strings in ascending order.
pub(crate) fn sorted<'a>(strings: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut all: Vec<String> = strings.map(str::to_owned).collect();
    all.sort_unstable();
    all
}
