//! Native histograms by row and by column.

use std::sync::Arc;

use codec::{
    decode_histograms, encode_histograms, put_histogram, put_layout, take_histogram, take_layout,
};
use model::{BucketLayout, Histogram};

use crate::input::Input;

/// The first byte picks row or column; bytes of a row begin with its layout.
pub(crate) fn histogram_columns(bytes: &[u8]) {
    let mut input = Input(bytes);
    let is_column = input.byte().is_multiple_of(2);
    if is_column {
        let count = usize::from(input.byte());
        let mut out = Vec::new();
        let mut rest = input.0;
        match decode_histograms(&mut rest, count, &mut out) {
            Ok(()) => {
                assert_eq!(out.len(), count);
                let mut written = Vec::new();
                encode_histograms(&out, &mut written);
                let mut again = Vec::new();
                decode_histograms(&mut &written[..], count, &mut again).expect("own bytes");
                assert_eq!(shown(&again), shown(&out));
            }
            Err(_) => assert!(out.is_empty(), "an error leaves nothing behind"),
        }
        out.iter().for_each(use_it);
        return;
    }
    let mut rest = input.0;
    let Ok(layout) = take_layout(&mut rest) else { return };
    let mut written = Vec::new();
    put_layout(&layout, &mut written);
    let again = take_layout(&mut &written[..]).expect("own bytes");
    assert_eq!(layout_shown(&again), layout_shown(&layout));
    let layout = Arc::new(layout);
    let Ok(histogram) = take_histogram(&mut rest, &layout) else { return };
    written.clear();
    put_histogram(&histogram, &mut written);
    let again = take_histogram(&mut &written[..], &layout).expect("own bytes");
    assert_eq!(shown(&[again]), shown(std::slice::from_ref(&histogram)));
    use_it(&histogram);
}

/// What a store and a query do with a histogram.
fn use_it(histogram: &Histogram) {
    if histogram.validate().is_err() {
        return;
    }
    let float = histogram.to_float();
    assert!(float.buckets().count() <= histogram.bucket_count() + 1);
    let mut counted = histogram.clone();
    counted.compact(0);
    assert!(counted.bucket_count() <= histogram.bucket_count());
}

fn layout_shown(layout: &BucketLayout) -> String {
    let bounds: Vec<u64> = layout.custom_bounds.iter().map(|bound| bound.to_bits()).collect();
    let zero = layout.zero_threshold.to_bits();
    format!("{} {zero} {:?} {:?} {bounds:?}", layout.schema, layout.positive, layout.negative)
}

/// As text, floats as bits.
fn shown(histograms: &[Histogram]) -> Vec<String> {
    let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    let one = |histogram: &Histogram| match histogram {
        Histogram::Integer(h) => format!(
            "{} {:?} {} {} {} {:?} {:?}",
            layout_shown(&h.layout),
            h.reset_hint,
            h.count,
            h.zero_count,
            h.sum.to_bits(),
            h.positive,
            h.negative
        ),
        Histogram::Float(h) => format!(
            "{} {:?} {:?} {:?} {:?}",
            layout_shown(&h.layout),
            h.reset_hint,
            bits(&[h.count, h.zero_count, h.sum]),
            bits(&h.positive),
            bits(&h.negative)
        ),
    };
    histograms.iter().map(one).collect()
}
