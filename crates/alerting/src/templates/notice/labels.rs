//! Labels in templates: `KV`, `Pairs` and `Strings`, and what can be done with them.

use gotemplate::{Budget, Class, Element, Method, MethodBody, Param, Signature, Value};

type Outcome<'d> = Result<Value<'d>, String>;

pub(super) const fn method(
    name: &'static str,
    fixed: &'static [Param],
    body: MethodBody,
) -> Method {
    Method { signature: Signature::fixed(name, fixed), body }
}

/// Labels or annotations by name.
pub(super) static KV: Class = Class {
    name: "template.KV",
    fields: &[],
    json: &[],
    element: Element::Text,
    methods: &[
        method("SortedPairs", &[], |budget, value, _| pairs(budget, value)),
        method("Remove", &[Param::Texts], remove),
        method("Names", &[], |budget, value, _| {
            let names = sorted(value).into_iter().map(|(name, _)| name).collect();
            budget.list(&STRINGS, names)
        }),
        method("Values", &[], |budget, value, _| {
            let values = sorted(value).into_iter().map(|(_, value)| value).collect();
            budget.list(&STRINGS, values)
        }),
        method("String", &[], |budget, value, _| shown(budget, value)),
    ],
    text: Some(|value, out| write_pairs(sorted(value).iter().map(|(k, v)| (k, v)), out)),
};

/// Labels in order.
static PAIRS: Class = Class {
    name: "template.Pairs",
    fields: &[],
    json: &[],
    element: Element::Any,
    methods: &[
        method("Names", &[], |budget, value, _| column(budget, value, "Name")),
        method("Values", &[], |budget, value, _| column(budget, value, "Value")),
        method("String", &[], |budget, value, _| shown(budget, value)),
    ],
    text: Some(|value, out| {
        let Value::List(list) = value else { return };
        let pairs = list.items.iter().filter_map(|pair| match pair {
            Value::Struct(pair) => Some((pair.field("Name")?, pair.field("Value")?)),
            _ => None,
        });
        write_pairs(pairs, out);
    }),
};

/// One label.
static PAIR: Class = Class {
    name: "template.Pair",
    fields: &["Name", "Value"],
    json: &[],
    element: Element::Text,
    methods: &[],
    text: None,
};

/// Names or values.
static STRINGS: Class = Class {
    name: "template.Strings",
    fields: &[],
    json: &[],
    element: Element::Text,
    methods: &[method("Join", &[Param::Text], |budget, value, args| {
        join(budget, value, args[0].as_text().unwrap_or_default())
    })],
    text: None,
};

/// The elements of a list as one text.
pub(super) fn join<'d>(budget: &mut Budget, list: &Value<'d>, separator: &str) -> Outcome<'d> {
    let most = budget.limits().text_bytes;
    let mut out = String::new();
    if let Value::List(list) = list {
        for (index, item) in list.items.iter().enumerate() {
            if index > 0 {
                out.push_str(separator);
            }
            item.write(&mut out, most);
            budget.allow(out.len())?;
        }
    }
    budget.text(out)
}

/// Names and values; the name of the alert comes first, the others in their order.
fn sorted<'d>(labels: &Value<'d>) -> Vec<(Value<'d>, Value<'d>)> {
    const FIRST: &str = "alertname";
    let Value::Map(map) = labels else { return Vec::new() };
    let first = map.entries.iter().filter(|(name, _)| *name == FIRST);
    let others = map.entries.iter().filter(|(name, _)| *name != FIRST);
    first.chain(others).map(|(name, value)| (Value::Text(name.clone()), value.clone())).collect()
}

fn pairs<'d>(budget: &mut Budget, labels: &Value<'d>) -> Outcome<'d> {
    let pair = |(name, value)| Value::structure(&PAIR, vec![name, value]);
    budget.list(&PAIRS, sorted(labels).into_iter().map(pair).collect())
}

fn column<'d>(budget: &mut Budget, pairs: &Value<'d>, name: &str) -> Outcome<'d> {
    let Value::List(pairs) = pairs else { return budget.list(&STRINGS, Vec::new()) };
    let of = |pair: &Value<'d>| match pair {
        Value::Struct(pair) => pair.field(name).cloned(),
        _ => None,
    };
    budget.list(&STRINGS, pairs.items.iter().filter_map(of).collect())
}

fn remove<'d>(budget: &mut Budget, labels: &Value<'d>, args: &[Value<'d>]) -> Outcome<'d> {
    let (Value::Map(map), names) = (labels, &args[0]) else { return Ok(labels.clone()) };
    let mut entries = map.entries.clone();
    if let Value::List(names) = names {
        for name in names.items.iter().filter_map(Value::as_text) {
            entries.remove(name);
        }
    }
    budget.map(&KV, entries)
}

fn write_pairs<'v, 'd: 'v>(
    pairs: impl Iterator<Item = (&'v Value<'d>, &'v Value<'d>)>,
    out: &mut String,
) {
    for (index, (name, value)) in pairs.enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        out.push_str(name.as_text().unwrap_or_default());
        out.push('=');
        out.push_str(value.as_text().unwrap_or_default());
    }
}

fn shown<'d>(budget: &mut Budget, value: &Value<'d>) -> Outcome<'d> {
    let mut out = String::new();
    value.write(&mut out, budget.limits().text_bytes);
    budget.text(out)
}
