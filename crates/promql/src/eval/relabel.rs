//! `label_replace` and `label_join`, and the labels `absent` makes up.

use model::regex::{Groups, Regex, Template};
use model::{Labels, LabelsBuilder, METRIC_NAME, MatchOp, Matcher};

use super::rows::Rows;
use crate::ast::StringLiteral;
use crate::engine::EvalError;

/// `label_replace`: sets `target` to `replacement` where the whole of `source` matches `pattern`.
pub(crate) fn replace(
    rows: &mut Rows,
    target: &StringLiteral,
    replacement: &str,
    source: &str,
    pattern: &str,
) -> Result<(), EvalError> {
    let regex = Regex::new(pattern).map_err(|_| {
        EvalError::Execution(format!("invalid regular expression in label_replace(): {pattern}"))
    })?;
    check_name(target, "destination", "label_replace")?;
    let template = Template::parse(replacement, &regex);
    let (mut groups, mut replaced) = (Groups::default(), String::new());
    for index in 0..rows.len() {
        let value = rows.labels[index].get(source).unwrap_or("");
        if !regex.captures(value, &mut groups) {
            continue;
        }
        replaced.clear();
        template.expand(&mut replaced, &groups, value);
        set(rows, index, &target.value, &replaced);
    }
    rows.merge_same_labels()
}

/// `label_join`: sets `target` to the values of `sources` with `separator` between them.
pub(crate) fn join(
    rows: &mut Rows,
    target: &StringLiteral,
    separator: &str,
    sources: &[&StringLiteral],
) -> Result<(), EvalError> {
    for source in sources {
        check_name(source, "source", "label_join")?;
    }
    check_name(target, "destination", "label_join")?;
    for index in 0..rows.len() {
        let labels = &rows.labels[index];
        let values: Vec<&str> =
            sources.iter().map(|source| labels.get(&source.value).unwrap_or("")).collect();
        let joined = values.join(separator);
        set(rows, index, &target.value, &joined);
    }
    rows.merge_same_labels()
}

fn set(rows: &mut Rows, index: usize, target: &str, value: &str) {
    let mut builder = LabelsBuilder::from_labels(&rows.labels[index]);
    rows.labels[index] = builder.set(target, value).build();
    if target == METRIC_NAME {
        // A name given on purpose stays.
        rows.drop_name[index] = false;
    }
}

fn check_name(name: &StringLiteral, role: &str, function: &str) -> Result<(), EvalError> {
    let StringLiteral { value, bytes, .. } = name;
    if value.is_empty() || bytes.is_some() {
        let error = format!("invalid {role} label name in {function}(): {value}");
        return Err(EvalError::Execution(error));
    }
    Ok(())
}

/// The labels of `absent(…)`: those the selector asks for by `=`, once each.
pub(crate) fn absent_labels(matchers: &[Matcher]) -> Labels {
    let mut builder = LabelsBuilder::new();
    let mut seen: Vec<&str> = Vec::new();
    for matcher in matchers.iter().filter(|matcher| matcher.name != METRIC_NAME) {
        if matcher.op == MatchOp::Equal && !seen.contains(&matcher.name.as_str()) {
            builder.set(&matcher.name, &matcher.value);
            seen.push(&matcher.name);
        } else {
            builder.remove(&matcher.name);
        }
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_takes_equal_matchers_once() {
        let matchers: Vec<Matcher> = [
            ("__name__", MatchOp::Equal, "x"),
            ("job", MatchOp::Equal, "a"),
            ("twice", MatchOp::Equal, "a"),
            ("twice", MatchOp::Equal, "b"),
            ("regex", MatchOp::Regex, "a.*"),
        ]
        .into_iter()
        .map(|(name, op, value)| Matcher::new(name, op, value).expect("test matcher"))
        .collect();
        assert_eq!(absent_labels(&matchers).to_string(), r#"{job="a"}"#);
    }
}
