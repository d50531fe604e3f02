//! When scraped series began.

use expect_test::expect;

use super::Target;
use crate::scrape::append::Format;

#[test]
fn created_lines_tell_when_series_began() {
    let mut target = Target::new().with(|target| target.samples.folds_created = true);
    let body = "# TYPE a counter\na_total{x=\"1\"} 1\na_created{x=\"1\"} 5.5\na_total{x=\"2\"} 1\n\
                # TYPE g gauge\ng 1\ng_created 5\n# EOF\n";
    let shown =
        [target.scrape(body, Format::OpenMetrics), target.scrape(body, Format::OpenMetrics)];
    expect![[r#"
        -- 1000: scraped 4, kept 4, added 4
        a_total{instance="h:1", job="j", x="1"} 1 @1000 since 5500
        a_total{instance="h:1", job="j", x="2"} 1 @1000
        g_created{instance="h:1", job="j"} 5 @1000
        g{instance="h:1", job="j"} 1 @1000
        -- 2000: scraped 4, kept 4, added 0
        a_total{instance="h:1", job="j", x="1"} 1 @2000 since 5500
        a_total{instance="h:1", job="j", x="2"} 1 @2000
        g_created{instance="h:1", job="j"} 5 @2000
        g{instance="h:1", job="j"} 1 @2000
    "#]]
    .assert_eq(&shown.concat());
}
