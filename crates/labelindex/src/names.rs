//! Label names and values of chosen series, for both indexes.

use model::Matcher;

use crate::evaluate::{Rows, Store, select};

/// Names of the labels that `series` bear, ascending.
pub(crate) fn names_of<S: Store>(store: &S, series: &[u32]) -> Vec<String> {
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
    let borne = all.iter().filter(|(number, _)| is_borne[*number as usize]);
    sorted(borne.map(|(_, name)| *name))
}

/// Values of the label `name` in series that satisfy `matchers` and `is_there`, ascending.
pub(crate) fn values_of<S: Store>(
    store: &S,
    name: &str,
    matchers: &[Matcher],
    is_there: impl Fn(u32) -> bool,
) -> Vec<String> {
    let Some(name) = store.name(name) else { return Vec::new() };
    let mut series = select(store, matchers);
    series.retain(|&one| is_there(one));
    let mut pairs = Vec::new();
    let mut rows = store.rows();
    for one in series {
        let pair = rows.pairs_of(one).iter().find(|pair| store.name_of(**pair) == name);
        // Neighbours often have the same value.
        if let Some(&pair) = pair
            && pairs.last() != Some(&pair)
        {
            pairs.push(pair);
        }
    }
    pairs.sort_unstable();
    pairs.dedup();
    sorted(pairs.iter().map(|&pair| store.value_of(pair)))
}

/// The strings in ascending order.
pub(crate) fn sorted<'a>(strings: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut all: Vec<String> = strings.map(str::to_owned).collect();
    all.sort_unstable();
    all
}
