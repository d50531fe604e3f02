//! What is said of samples in windows of time, the naive way.

use std::collections::BTreeMap;

use model::RollupRow;

pub(crate) fn window_of(t_ms: i64, window_ms: i64) -> i64 {
    (t_ms - 1).div_euclid(window_ms)
}

pub(crate) fn row_of(t_ms: i64, value: f64) -> RollupRow {
    let [first, last, min, max, sum] = [value; 5];
    let (first_ms, last_ms, count) = (t_ms, t_ms, 1);
    let (resets, before_resets) = (0, 0.0);
    RollupRow { first_ms, last_ms, count, resets, first, last, min, max, sum, before_resets }
}

/// Adds a row that is later than those before to its window.
pub(crate) fn combine(windows: &mut BTreeMap<i64, RollupRow>, window_ms: i64, row: RollupRow) {
    let all = match windows.get_mut(&window_of(row.last_ms, window_ms)) {
        Some(all) => all,
        None => {
            windows.insert(window_of(row.last_ms, window_ms), row);
            return;
        }
    };
    let is_reset = row.first < all.last;
    *all = RollupRow {
        first_ms: all.first_ms,
        last_ms: row.last_ms,
        count: all.count + row.count,
        resets: all.resets + row.resets + u32::from(is_reset),
        first: all.first,
        last: row.last,
        min: all.min.min(row.min),
        max: all.max.max(row.max),
        sum: all.sum + row.sum,
        before_resets: all.before_resets
            + row.before_resets
            + if is_reset { all.last } else { 0.0 },
    };
}

/// What a row says exactly; any NaN is as good as another for an extreme.
pub(crate) fn exact(row: &RollupRow) -> impl PartialEq + std::fmt::Debug + use<> {
    let extreme = |value: f64| if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() };
    let RollupRow { first_ms, last_ms, count, resets, first, last, min, max, .. } = *row;
    // Zero of either sign is as small as the other.
    let (min, max) = (extreme(min + 0.0), extreme(max + 0.0));
    (first_ms, last_ms, count, resets, first.to_bits(), last.to_bits(), min, max)
}
