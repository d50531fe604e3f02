//! Selectors of Kubernetes discovery.

use crate::yaml::{Context, Node, Section};

/// Checks the selectors of an entry with the given role.
pub(super) fn check(context: &Context<'_>, role: &str, nodes: &[&Node]) {
    let allowed = allowed(role);
    let mut seen: Vec<String> = Vec::new();
    for node in nodes {
        let Some(mut section) = Section::open(context, node, "kubernetes.SelectorConfig") else {
            continue;
        };
        let of: String = section.value("role");
        if seen.contains(&of) {
            let message = format!("duplicated selector role: {of}");
            section.fault("role", message, Some("join the two selectors with a comma"));
        } else if !allowed.is_empty() && !allowed.contains(&of.as_str()) {
            let message = format!("{role} role supports only {} selectors", allowed.join(", "));
            section.fault("role", message, None);
        }
        seen.push(of);
        for (key, parse) in
            [("field", check_fields as fn(&str) -> Result<(), String>), ("label", check_labels)]
        {
            let text: String = section.value(key);
            if let Err(message) = parse(&text) {
                section.fault(key, message, None);
            }
        }
        section.finish();
    }
}

/// Which selectors each role takes; none for a role that is unknown, which is told elsewhere.
fn allowed(role: &str) -> &'static [&'static str] {
    match role {
        "pod" => &["pod", "node"],
        "service" => &["service"],
        "endpoints" => &["pod", "service", "endpoints"],
        "endpointslice" => &["pod", "service", "endpointslice"],
        "node" => &["node"],
        "ingress" => &["ingress"],
        _ => &[],
    }
}

/// Field selectors: `name=value`, `name==value`, `name!=value`, separated by commas. A backslash
/// takes the next character as it is (`k8s.io/apimachinery`, `fields.ParseSelector`).
fn check_fields(text: &str) -> Result<(), String> {
    let mut start = 0;
    let mut terms = Vec::new();
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    for term in terms.iter().filter(|term| !term.is_empty()) {
        if !term.contains('=') {
            return Err(format!("invalid selector: '{text}'; can't understand '{term}'"));
        }
    }
    Ok(())
}

/// Label selectors: `name`, `!name`, `name=value`, `name in (a,b)` and so on, separated by commas.
fn check_labels(text: &str) -> Result<(), String> {
    let fault = |why: &str| Err(format!("unable to parse requirement: {why} in {text:?}"));
    let mut depth = 0_usize;
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' if depth == 0 => return fault("found ')', expected a key"),
            ')' => depth -= 1,
            _ => {}
        }
        if depth > 1 {
            return fault("found '(', expected a value");
        }
    }
    if depth > 0 {
        return fault("found the end, expected ')'");
    }
    let name_character = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    let mut rest = text;
    while !rest.trim().is_empty() {
        let end = rest
            .char_indices()
            .scan(0_i32, |depth, (at, c)| {
                *depth += i32::from(c == '(') - i32::from(c == ')');
                Some((at, c == ',' && *depth == 0))
            })
            .find(|(_, split)| *split)
            .map_or(rest.len(), |(at, _)| at);
        let term = rest[..end].trim().trim_start_matches('!').trim_start();
        let key_end = term.find(|c| !name_character(c)).unwrap_or(term.len());
        if key_end == 0 {
            return fault("found no label name");
        }
        let operator = term[key_end..].trim_start();
        let known = ["=", "!=", "in", "notin", "<", ">"];
        if !operator.is_empty() && !known.iter().any(|known| operator.starts_with(known)) {
            return fault(&format!("found '{operator}', expected an operator"));
        }
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_read_as_kubernetes_reads_them() {
        for text in ["", "a=b", "a==b,c!=d", "metadata.name=a\\,b"] {
            check_fields(text).expect(text);
        }
        check_fields("a=b,c").expect_err("no operator");
        for text in ["", "a", "!a", "a=b, c in (d,e),f notin (g)", "x.io/y!=z", "a>1"] {
            check_labels(text).expect(text);
        }
        for text in ["=", "a in (b", "a)", "a ~ b", "a in ((b))"] {
            check_labels(text).expect_err(text);
        }
    }
}
