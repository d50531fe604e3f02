//! Where who is told of an alert looks on.

use alerting::rules::generator_path;
use form_urlencoded::Serializer;
use model::Labels;

use super::RuleLanguage;

/// The page shows at least so much time around the beginning of an alert, milliseconds.
const AROUND_MS: i64 = 15 * 60_000;

/// The path, behind the external URL, of the page that shows why an alert fires. A rule over samples: its
/// expression, where Prometheus has it. A rule over lines: the lines that it counted when the alert began, of
/// the alert's labels but those that the rule sets itself.
pub(super) fn of_alert(
    language: RuleLanguage,
    expression: &str,
    labels: &Labels,
    of_rule: &[(String, String)],
    starts_at_ms: i64,
) -> String {
    if language == RuleLanguage::Promql {
        return generator_path(expression);
    }
    let is_own = |name: &str| {
        name == alerting::rules::ALERT_NAME || of_rule.iter().any(|(of_rule, _)| of_rule == name)
    };
    let behind = logql::syntax::parse_metric(expression)
        .map(|expr| logql::behind::behind(&expr, labels.iter(), &is_own))
        .unwrap_or_default();
    let (query, range_ms) = match behind.into_iter().next() {
        Some(one) => {
            let range_ns = one.interval.saturating_add(one.offset);
            (Some(one.log.to_string()), range_ns / 1_000_000)
        }
        None => (None, 0),
    };
    let from_ms = starts_at_ms.saturating_sub(range_ms.max(AROUND_MS));
    let to_ms = starts_at_ms.saturating_add(AROUND_MS);
    let mut to = Serializer::new(String::new());
    if let Some(query) = query {
        to.append_pair("q", &query);
    }
    to.append_pair("from", &from_ms.to_string()).append_pair("to", &to_ms.to_string());
    format!("/logs?{}", to.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_leads_to_the_lines_behind_it() {
        let labels = [("alertname", "A"), ("app", "x"), ("severity", "page")];
        let labels = Labels::from_pairs(labels).expect("a test's labels");
        let of_rule = [("severity".to_owned(), "page".to_owned())];
        let expression = r#"sum by (app, severity) (count_over_time({env="p"} |= "e" [20m])) > 1"#;
        let path = of_alert(RuleLanguage::Logql, expression, &labels, &of_rule, 1_700_000_000_000);
        let (path, parameters) = path.split_once('?').expect("parameters");
        assert!(parameters.starts_with("q="), "{parameters}");
        assert_eq!(path, "/logs");
        let parameters: Vec<(String, String)> =
            form_urlencoded::parse(parameters.as_bytes()).into_owned().collect();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let want = [
            pair("q", r#"{env="p"} |= "e" | app="x""#),
            pair("from", "1699998800000"),
            pair("to", "1700000900000"),
        ];
        assert_eq!(parameters, want);
        let path = of_alert(RuleLanguage::Promql, "up == 0", &labels, &of_rule, 0);
        assert_eq!(path, "/graph?g0.expr=up+%3D%3D+0&g0.tab=1");
    }
}
