//! Requests that are wrong, and the answers Prometheus gives to them.

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::harness::{Launch, Scratch};

/// Target, status, `errorType` and `error`, by which path: each also holds as a POST form where
/// the path takes one.
const FAULTS: &[(&str, u16, &str, &str)] = &[
    // Instant queries.
    (
        "/api/v1/query",
        400,
        "bad_data",
        r#"invalid parameter "query": unknown position: parse error: no expression found in input"#,
    ),
    (
        "/api/v1/query?query=sum(",
        400,
        "bad_data",
        r#"invalid parameter "query": 1:5: parse error: unclosed left parenthesis"#,
    ),
    (
        "/api/v1/query?query=up%20and%20on%20foo",
        400,
        "bad_data",
        r#"invalid parameter "query": 1:11: parse error: unexpected identifier "foo" in grouping opts, expected "(""#,
    ),
    (
        "/api/v1/query?query=up%0A%2B%2B%2B%29",
        400,
        "bad_data",
        r#"invalid parameter "query": 2:5: parse error: unexpected right parenthesis ')'"#,
    ),
    (
        "/api/v1/query?query=up&time=x",
        400,
        "bad_data",
        r#"invalid parameter "time": invalid time value for 'time': cannot parse "x" to a valid timestamp"#,
    ),
    (
        "/api/v1/query?query=up&timeout=x",
        400,
        "bad_data",
        r#"invalid parameter "timeout": cannot parse "x" to a valid duration"#,
    ),
    (
        "/api/v1/query?query=up&timeout=1e30",
        400,
        "bad_data",
        r#"invalid parameter "timeout": cannot parse "1e30" to a valid duration. It overflows int64"#,
    ),
    (
        "/api/v1/query?query=up&lookback_delta=x",
        400,
        "bad_data",
        r#"error parsing lookback delta duration: cannot parse "x" to a valid duration"#,
    ),
    (
        "/api/v1/query?query=up&limit=x",
        400,
        "bad_data",
        r#"invalid parameter "limit": strconv.Atoi: parsing "x": invalid syntax"#,
    ),
    (
        "/api/v1/query?query=up&limit=99999999999999999999",
        400,
        "bad_data",
        r#"invalid parameter "limit": strconv.Atoi: parsing "99999999999999999999": value out of range"#,
    ),
    (
        "/api/v1/query?query=up&limit=-1",
        400,
        "bad_data",
        r#"invalid parameter "limit": limit must be non-negative"#,
    ),
    (
        "/api/v1/query?query=label_replace(vector(1),%22a%22,%22%22,%22%22,%22(%22)",
        422,
        "execution",
        "invalid regular expression in label_replace(): (",
    ),
    (
        "/api/v1/query?query=vector(1)%20%2B%20on(a)%20(label_replace(vector(1),%22b%22,%22x%22,%22%22,%22%22)%20or%20vector(2))",
        422,
        "execution",
        r#"found duplicate series for the match group {} on the right hand-side of the operation: [{}, {b="x"}];many-to-many matching not allowed: matching labels must be unique on one side"#,
    ),
    (
        "/api/v1/query?query=up[step()*3]",
        400,
        "bad_data",
        r#"invalid parameter "query": 3:11: duration must be greater than 0"#,
    ),
    // Range queries, in the order of the checks.
    (
        "/api/v1/query_range?query=1&limit=x",
        400,
        "bad_data",
        r#"invalid parameter "limit": strconv.Atoi: parsing "x": invalid syntax"#,
    ),
    (
        "/api/v1/query_range?query=1",
        400,
        "bad_data",
        r#"invalid parameter "start": cannot parse "" to a valid timestamp"#,
    ),
    (
        "/api/v1/query_range?query=1&start=yesterday",
        400,
        "bad_data",
        r#"invalid parameter "start": cannot parse "yesterday" to a valid timestamp"#,
    ),
    (
        "/api/v1/query_range?query=1&start=1",
        400,
        "bad_data",
        r#"invalid parameter "end": cannot parse "" to a valid timestamp"#,
    ),
    (
        "/api/v1/query_range?query=1&start=2&end=1&step=1",
        400,
        "bad_data",
        r#"invalid parameter "end": end timestamp must not be before start time"#,
    ),
    (
        "/api/v1/query_range?query=1&start=1&end=2",
        400,
        "bad_data",
        r#"invalid parameter "step": cannot parse "" to a valid duration"#,
    ),
    (
        "/api/v1/query_range?query=1&start=1&end=2&step=1e30",
        400,
        "bad_data",
        r#"invalid parameter "step": cannot parse "1e30" to a valid duration. It overflows int64"#,
    ),
    (
        "/api/v1/query_range?query=sum(&start=1&end=2&step=0",
        400,
        "bad_data",
        r#"invalid parameter "step": zero or negative query resolution step widths are not accepted. Try a positive integer"#,
    ),
    (
        "/api/v1/query_range?query=sum(&start=0&end=11001&step=1",
        400,
        "bad_data",
        "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
    ),
    (
        "/api/v1/query_range?query=sum(&start=0&end=11000&step=1&timeout=soon",
        400,
        "bad_data",
        r#"invalid parameter "timeout": cannot parse "soon" to a valid duration"#,
    ),
    (
        "/api/v1/query_range?query=sum(&start=0&end=11000&step=1",
        400,
        "bad_data",
        r#"invalid parameter "query": 1:5: parse error: unclosed left parenthesis"#,
    ),
    (
        "/api/v1/query_range?query=up%5B5m%5D&start=0&end=10&step=1",
        400,
        "bad_data",
        r#"invalid parameter "query": invalid expression type "range vector" for range query, must be Scalar or instant Vector"#,
    ),
    (
        "/api/v1/query_range?query=%22a%22&start=0&end=10&step=1",
        400,
        "bad_data",
        r#"invalid parameter "query": invalid expression type "string" for range query, must be Scalar or instant Vector"#,
    ),
    // Names, values and series.
    (
        "/api/v1/labels?start=x",
        400,
        "bad_data",
        r#"invalid parameter "start": invalid time value for 'start': cannot parse "x" to a valid timestamp"#,
    ),
    (
        "/api/v1/labels?match[]=%7B",
        400,
        "bad_data",
        "1:2: parse error: unexpected end of input inside braces",
    ),
    (
        "/api/v1/labels?match[]=%7Ba%3D%22%22%7D",
        400,
        "bad_data",
        "match[] must contain at least one non-empty matcher",
    ),
    ("/api/v1/series", 400, "bad_data", "no match[] parameter provided"),
    ("/api/v1/series?start=x", 400, "bad_data", "no match[] parameter provided"),
    (
        "/api/v1/series?match[]=up&end=x",
        400,
        "bad_data",
        r#"invalid parameter "end": invalid time value for 'end': cannot parse "x" to a valid timestamp"#,
    ),
    (
        "/api/v1/series?match[]=%7Ba%3D~%22.*%22%7D",
        400,
        "bad_data",
        r#"invalid parameter "match[]": match[] must contain at least one non-empty matcher"#,
    ),
    // Paths that take GET only.
    (
        "/api/v1/label/a/values?end=x",
        400,
        "bad_data",
        r#"invalid parameter "end": invalid time value for 'end': cannot parse "x" to a valid timestamp"#,
    ),
    ("/api/v1/label/U__/values", 400, "bad_data", r#"invalid label name: """#),
    ("/api/v1/metadata?limit=x", 400, "bad_data", "limit must be a number"),
    ("/api/v1/metadata?limit_per_metric=x", 400, "bad_data", "limit_per_metric must be a number"),
    ("/api/v1/search/label_values", 400, "bad_data", r#"missing required parameter "label""#),
    (
        "/api/v1/search/metric_names?sort_by=size",
        400,
        "bad_data",
        r#"invalid sort_by "size" for metric_names: must be "alpha" or "score""#,
    ),
    ("/api/v1/completions?query=up&pos=3", 400, "bad_data", "pos 3 is beyond the end of the query"),
    ("/api/v1/status/tsdb?limit=x", 400, "bad_data", "limit must be a positive number"),
    ("/api/v1/status/tsdb?limit=0", 400, "bad_data", "limit must be a positive number"),
    // Rules, of which there are none.
    (
        "/api/v1/rules?type=x",
        400,
        "bad_data",
        r#"invalid parameter "type": not supported value "x""#,
    ),
    (
        "/api/v1/rules?exclude_alerts=x",
        400,
        "bad_data",
        r#"invalid parameter "exclude_alerts": error converting exclude_alerts: strconv.ParseBool: parsing "x": invalid syntax"#,
    ),
    (
        "/api/v1/rules?group_limit=x",
        400,
        "bad_data",
        r#"invalid parameter "group_limit": group_limit needs to be a valid number: strconv.ParseInt: parsing "x": invalid syntax"#,
    ),
    (
        "/api/v1/rules?group_limit=0",
        400,
        "bad_data",
        r#"invalid parameter "group_limit": group_limit needs to be greater than 0"#,
    ),
    (
        "/api/v1/rules?group_next_token=a",
        400,
        "bad_data",
        r#"invalid parameter "group_next_token": group_limit needs to be present in order to paginate over the groups"#,
    ),
    (
        "/api/v1/rules?group_limit=2&group_next_token=a",
        400,
        "bad_data",
        r#"invalid parameter "group_next_token": invalid group_next_token 'a'. were rule groups changed?"#,
    ),
    (
        "/api/v1/rules?match[]=%7Ba=%22%22%7D",
        400,
        "bad_data",
        "match[] must contain at least one non-empty matcher",
    ),
    // Formatting.
    (
        "/api/v1/format_query?query=sum(",
        400,
        "bad_data",
        r#"invalid parameter "query": 1:5: parse error: unclosed left parenthesis"#,
    ),
    (
        "/api/v1/parse_query?query=",
        400,
        "bad_data",
        r#"invalid parameter "query": unknown position: parse error: no expression found in input"#,
    ),
];

/// Paths without a POST form.
const GET_ONLY: &[&str] =
    &["/api/v1/label/", "/api/v1/metadata", "/api/v1/rules", "/api/v1/status/"];

/// Every fault as GET and, where there is one, as POST form.
pub(super) fn faults(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data")).start()?;
    let client = server.client();
    let mut asked = 0;
    let mut wrong = Vec::new();
    for &(target, status, error_type, error) in FAULTS {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut answers = vec![("GET", client.get(target)?)];
        if !GET_ONLY.iter().any(|prefix| path.starts_with(prefix)) {
            let headers = [("Content-Type", "application/x-www-form-urlencoded")];
            answers.push(("POST", client.post(path, &headers, query.as_bytes())?));
        }
        for (method, answer) in answers {
            asked += 1;
            let wanted = serde_json::json!({
                "status": "error", "errorType": error_type, "error": error,
            });
            let got: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let is_json = answer.header("content-type") == Some("application/json");
            if (answer.status, &got, is_json) != (status, &wanted, true) {
                wrong.push(format!("{method} {target}: {} {}", answer.status, answer.text()));
            }
        }
    }
    server.stop()?;
    ensure!(wrong.is_empty(), "{} of {asked} differ:\n  {}", wrong.len(), wrong.join("\n  "));
    Ok(format!("{asked} requests"))
}
