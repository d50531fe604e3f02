//! Addresses of Prometheus' expression browser.

use std::collections::BTreeMap;

use form_urlencoded::Serializer;

/// The page for an address of Prometheus' expression browser: alerts bear such, and so do links in
/// messages, wikis and runbooks. Of all panels the expressions, of the first one the range, and whether it is
/// a table or stacked.
pub fn expression_browser(query: &str) -> String {
    let mut to = Serializer::new(String::new());
    let mut expressions = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let panel = name.strip_prefix('g').and_then(|name| name.split_once('.'));
        let Some((Ok(panel), name)) = panel.map(|(at, name)| (at.parse::<u32>(), name)) else {
            continue;
        };
        match (panel, name, &*value) {
            (_, "expr", _) => {
                expressions.insert(panel, value);
            }
            (0, "range_input", range) => {
                to.append_pair("range", range);
            }
            (0, "tab", "1" | "table") => {
                to.append_pair("tab", "table");
            }
            (0, "stacked", "1") | (0, "display_mode", "stacked") => {
                to.append_pair("stack", "1");
            }
            _ => {}
        }
    }
    expressions.values().filter(|expression| !expression.is_empty()).for_each(|expression| {
        to.append_pair("q", expression);
    });
    match to.finish() {
        parameters if parameters.is_empty() => "/explore".to_owned(),
        parameters => format!("/explore?{parameters}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_and_how_they_are_looked_at_go_along() {
        for (query, want) in [
            ("", "/explore"),
            ("g0.expr=&x=y", "/explore"),
            ("g0.expr=up+%3D%3D+0&g0.tab=1", "/explore?tab=table&q=up+%3D%3D+0"),
            (
                "g1.expr=b&g0.expr=a&g0.tab=0&g0.range_input=2h&g0.stacked=1&g1.range_input=1d",
                "/explore?range=2h&stack=1&q=a&q=b",
            ),
            ("g0.expr=a%0d%0aX&gx.expr=1&g.expr=2", "/explore?q=a%0D%0AX"),
        ] {
            assert_eq!(expression_browser(query), want, "{query}");
        }
    }
}
