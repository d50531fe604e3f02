//! What may stand at places of a query whatever is stored.

/// What begins a stage.
pub(super) const STAGES: [&str; 18] = [
    "|=",
    "!=",
    "|~",
    "!~",
    "|>",
    "!>",
    "| json",
    "| logfmt",
    "| pattern",
    "| regexp",
    "| unpack",
    "| line_format",
    "| label_format",
    "| decolorize",
    "| drop",
    "| keep",
    "| unwrap",
    "|",
];

pub(super) const BEHIND_OPERATOR: [&str; 5] =
    ["bool", "on", "ignoring", "group_left", "group_right"];

pub(super) const BINARY: [&str; 17] = [
    "by", "without", "and", "or", "unless", "+", "-", "*", "/", "%", "^", "==", "!=", ">", ">=",
    "<", "<=",
];
