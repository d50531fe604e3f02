//! What goes on over evaluations of the past, writes that fail, and reloads.

use super::*;

#[test]
fn an_evaluation_after_the_fact_leaves_the_present_alone() {
    let recording = rule(RuleKind::Recording, "r", "up");
    let mut bench = Bench::with(aligned(vec![recording, alert_rule(0, 0)]), true);
    let late = |bench: &mut Bench, minute: i64, result: Vec<Sample>| {
        let evaluation = bench.group().evaluation_after_the_fact(minute * MIN);
        let mut applied = bench.apply(&evaluation, 0, Ok(result));
        bench.group().written(&evaluation, 0, Ok(()));
        applied.samples.extend(bench.group().finish(&evaluation, Timing::default()));
        shown(&applied)
    };
    bench.group().end_later([labels(&[("__name__", "gone")])]);
    // Before any regular one, each follows from the one before it.
    assert_eq!(late(&mut bench, 1, vec![up("a", 1.0)]), [r#"r{instance="a"} 1"#]);
    let ended = [r#"r{instance="b"} 1"#, r#"r{instance="a"} ends"#];
    assert_eq!(late(&mut bench, 2, vec![up("b", 1.0)]), ended);
    assert_eq!(bench.group().evaluated_for_ms, Some(2 * MIN));
    assert_eq!(bench.group().restores_in, Some(2), "it is none of the two before a restore");
    let now = bench.run(100, Ok(vec![up("c", 1.0)]));
    let wanted = [r#"r{instance="c"} 1"#, r#"r{instance="b"} ends"#, "gone{} ends"];
    assert_eq!(shown(&now)[..2], wanted[..2]);
    assert_eq!(now.samples.len(), 3);
    // Behind a regular one it only writes.
    assert_eq!(late(&mut bench, 3, vec![up("d", 1.0)]), [r#"r{instance="d"} 1"#]);
    assert_eq!(bench.group().evaluated_for_ms, Some(100 * MIN));
    let next = bench.run(101, Ok(vec![up("c", 1.0)]));
    assert_eq!(shown(&next), [r#"r{instance="c"} 1"#], "nothing of the past ends now");
}

#[test]
fn series_that_were_written_in_part_end_too() {
    let mut bench = Bench::new(vec![rule(RuleKind::Recording, "r", "up")]);
    bench.run(1, Ok(vec![up("a", 1.0)]));
    let evaluation = bench.group().evaluation_at(2 * MIN);
    bench.apply(&evaluation, 0, Ok(vec![up("b", 1.0)]));
    bench.group().written(&evaluation, 0, Err("half of it".to_owned()));
    bench.group().finish(&evaluation, Timing::default());
    let applied = bench.run(3, Ok(vec![up("c", 1.0)]));
    let wanted = [r#"r{instance="c"} 1"#, r#"r{instance="a"} ends"#, r#"r{instance="b"} ends"#];
    assert_eq!(shown(&applied), wanted);
    assert_eq!(shown(&bench.run(4, Ok(vec![up("c", 1.0)]))), [r#"r{instance="c"} 1"#]);
}

#[test]
fn texts_follow_the_configuration() {
    struct Region;

    impl Expand for Region {
        fn expand(&self, _: &str, _: &str, data: &TextData<'_>) -> Result<String, String> {
            let region = data.external_labels.get("region").unwrap_or_default();
            Ok(format!("{region} {}", data.external_url))
        }
    }

    let mut down = alert_rule(0, 0);
    down.labels = [("region".to_owned(), "{{ $externalLabels.region }}".to_owned())].into();
    let mut bench = Bench::new(vec![down]);
    let mut told = |minute: i64, region: &str, url: &str| {
        let external = labels(&[("region", region)]);
        let with = Surroundings {
            expand: &Region,
            external_labels: &external,
            external_url: url,
            limits: &RuleLimits::default(),
            resend_delay_ms: MIN,
        };
        let mut group = bench.group();
        let evaluation = group.evaluation_at(minute * MIN);
        group.apply(&evaluation, 0, Ok(vec![up("a", 1.0)]), Timing::default(), &with);
        group.written(&evaluation, 0, Ok(()));
        let firing = group.alerts(0).filter(|alert| alert.is_active());
        let regions: Vec<String> =
            firing.filter_map(|alert| alert.labels.get("region").map(str::to_owned)).collect();
        regions
    };
    assert_eq!(told(1, "eu", "http://w"), ["eu http://w"]);
    assert_eq!(told(2, "us", "http://w"), ["us http://w"]);
    assert_eq!(told(3, "us", "http://x"), ["us http://x"]);
}
