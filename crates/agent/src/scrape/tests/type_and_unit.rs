//! Type and unit of families as labels of their series: what Prometheus 3.14 stores with
//! `--enable-feature=type-and-unit-labels`.

use expect_test::expect;

use super::Target;
use crate::scrape::append::Format;

fn target() -> Target {
    Target::new().with(|target| target.samples.type_and_unit_labels = true)
}

#[test]
fn text_tells_types() {
    let body = "# TYPE a counter\na_total{__type__=\"gauge\",__unit__=\"own\",x=\"1\"} 1\n\
                # TYPE u untyped\nu{__type__=\"own\"} 2\n\
                # TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n\
                # TYPE s summary\ns{quantile=\"0.5\"} 1\ns_sum 1\n";
    let mut target = target();
    let shown = [target.scrape(body, Format::Text), target.scrape(body, Format::Text)];
    expect![[r#"
        -- 1000: scraped 7, kept 7, added 7
        a_total{__type__="counter", __unit__="own", instance="h:1", job="j", x="1"} 1 @1000
        h_bucket{__type__="histogram", instance="h:1", job="j", le="+Inf"} 1 @1000
        h_count{__type__="histogram", instance="h:1", job="j"} 1 @1000
        h_sum{__type__="histogram", instance="h:1", job="j"} 1 @1000
        s_sum{__type__="summary", instance="h:1", job="j"} 1 @1000
        s{__type__="summary", instance="h:1", job="j", quantile="0.5"} 1 @1000
        u{__type__="own", instance="h:1", job="j"} 2 @1000
        -- 2000: scraped 7, kept 7, added 0
        a_total{__type__="counter", __unit__="own", instance="h:1", job="j", x="1"} 1 @2000
        h_bucket{__type__="histogram", instance="h:1", job="j", le="+Inf"} 1 @2000
        h_count{__type__="histogram", instance="h:1", job="j"} 1 @2000
        h_sum{__type__="histogram", instance="h:1", job="j"} 1 @2000
        s_sum{__type__="summary", instance="h:1", job="j"} 1 @2000
        s{__type__="summary", instance="h:1", job="j", quantile="0.5"} 1 @2000
        u{__type__="own", instance="h:1", job="j"} 2 @2000
    "#]]
    .assert_eq(&shown.concat());
}

#[test]
fn open_metrics_tells_units_too() {
    let body = "# TYPE a_seconds gauge\n# UNIT a_seconds seconds\na_seconds{__unit__=\"own\"} 1\n\
                # TYPE b info\nb_info 1\n\
                # TYPE c stateset\n# UNIT c \nc{c=\"on\"} 1\n\
                # TYPE d gaugehistogram\nd_bucket{le=\"+Inf\"} 1\nd_gcount 1\n\
                # TYPE e unknown\ne 1\n# EOF\n";
    let mut target = target();
    let shown =
        [target.scrape(body, Format::OpenMetrics), target.scrape(body, Format::OpenMetrics)];
    expect![[r#"
        -- 1000: scraped 6, kept 6, added 6
        a_seconds{__type__="gauge", __unit__="seconds", instance="h:1", job="j"} 1 @1000
        b_info{__type__="info", __unit__="seconds", instance="h:1", job="j"} 1 @1000
        c{__type__="stateset", c="on", instance="h:1", job="j"} 1 @1000
        d_bucket{__type__="gaugehistogram", instance="h:1", job="j", le="+Inf"} 1 @1000
        d_gcount{__type__="gaugehistogram", instance="h:1", job="j"} 1 @1000
        e{instance="h:1", job="j"} 1 @1000
        -- 2000: scraped 6, kept 6, added 0
        a_seconds{__type__="gauge", __unit__="seconds", instance="h:1", job="j"} 1 @2000
        b_info{__type__="info", __unit__="seconds", instance="h:1", job="j"} 1 @2000
        c{__type__="stateset", c="on", instance="h:1", job="j"} 1 @2000
        d_bucket{__type__="gaugehistogram", instance="h:1", job="j", le="+Inf"} 1 @2000
        d_gcount{__type__="gaugehistogram", instance="h:1", job="j"} 1 @2000
        e{instance="h:1", job="j"} 1 @2000
    "#]]
    .assert_eq(&shown.concat());
}

/// The same text means another series once its type or its unit is another one.
#[test]
fn types_and_units_that_change_are_noticed() {
    let body = |kind: &str, unit: &str| {
        format!("# TYPE a_seconds {kind}\n# UNIT a_seconds {unit}\na_seconds 1\n# EOF\n")
    };
    let mut target = target();
    let bodies = [body("gauge", "seconds"), body("unknown", "seconds"), body("unknown", "")];
    let shown: String =
        bodies.iter().map(|body| target.scrape(body, Format::OpenMetrics)).collect();
    expect![[r#"
        -- 1000: scraped 1, kept 1, added 1
        a_seconds{__type__="gauge", __unit__="seconds", instance="h:1", job="j"} 1 @1000
        -- 2000: scraped 1, kept 1, added 1
        a_seconds{__type__="gauge", __unit__="seconds", instance="h:1", job="j"} stale @2000
        a_seconds{__unit__="seconds", instance="h:1", job="j"} 1 @2000
        -- 3000: scraped 1, kept 1, added 1
        a_seconds{__unit__="seconds", instance="h:1", job="j"} stale @3000
        a_seconds{instance="h:1", job="j"} 1 @3000
    "#]]
    .assert_eq(&shown);
}

#[test]
fn converted_histograms_have_a_type() {
    let mut target = target().with(|target| target.samples.histograms.convert_classic = true);
    let body = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\n\
                h_count 1\n# TYPE g gauge\ng 1\n";
    expect![[r#"
        -- 1000: scraped 2, kept 2, added 2
        g{__type__="gauge", instance="h:1", job="j"} 1 @1000
        h{__type__="histogram", instance="h:1", job="j"} histogram of sum 1 @1000
    "#]]
    .assert_eq(&target.scrape(body, Format::Text));
}

/// Units that vary do not pile up, and more of them in one answer than can be kept fail the scrape.
#[test]
fn units_are_bounded() {
    let family = |unit: usize| format!("# UNIT m_{unit} {unit}\nm_{unit} 1\n");
    let mut target = target();
    for round in 0..4 {
        let families: String = (round * 1_500..(round + 1) * 1_500).map(family).collect();
        let shown = target.scrape(&(families + "# EOF\n"), Format::OpenMetrics);
        assert!(shown.contains("kept 1500") && !shown.contains("error"), "{round}: {shown:.300}");
    }
    let families: String = (0..5_000).map(family).collect();
    let shown = target.scrape(&(families + "# EOF\n"), Format::OpenMetrics);
    assert!(shown.contains("error: the families of one answer have more than 4096 units"));
}
