//! What functions, aggregations and stages of the language do, in a sentence in two languages: shown
//! to whoever writes a query.

/// One sentence, in each language of the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doc {
    /// English.
    pub en: &'static str,
    /// Chinese.
    pub zh: &'static str,
}

/// What the function, aggregation, stage or sign of this name does; `None` if there is none.
pub fn documentation(name: &str) -> Option<Doc> {
    let name = name.strip_prefix("| ").unwrap_or(name);
    let found = TABLE.iter().find(|(one, ..)| *one == name)?;
    Some(Doc { en: found.1, zh: found.2 })
}

const TABLE: [(&str, &str, &str); 61] = [
    ("count_over_time", "Lines in the window.", "窗口内的行数。"),
    (
        "rate",
        "Lines per second; with unwrap, the sum of values per second.",
        "每秒行数；配合 unwrap 时为每秒的值之和。",
    ),
    (
        "rate_counter",
        "Increase of a counter per second, over values taken out by unwrap.",
        "计数器每秒的增量，取自 unwrap 的值。",
    ),
    ("bytes_over_time", "Bytes of the lines in the window.", "窗口内各行的字节数。"),
    ("bytes_rate", "Bytes of lines per second.", "每秒的行字节数。"),
    ("avg_over_time", "Mean of the values taken out by unwrap.", "unwrap 所得值的平均值。"),
    ("sum_over_time", "Sum of the values taken out by unwrap.", "unwrap 所得值之和。"),
    ("min_over_time", "Least of the values taken out by unwrap.", "unwrap 所得值的最小值。"),
    ("max_over_time", "Greatest of the values taken out by unwrap.", "unwrap 所得值的最大值。"),
    (
        "stddev_over_time",
        "Population standard deviation of the values taken out by unwrap.",
        "unwrap 所得值的总体标准差。",
    ),
    (
        "stdvar_over_time",
        "Population variance of the values taken out by unwrap.",
        "unwrap 所得值的总体方差。",
    ),
    (
        "quantile_over_time",
        "Quantile (0 to 1) of the values taken out by unwrap.",
        "unwrap 所得值的分位数（0 到 1）。",
    ),
    ("first_over_time", "Oldest of the values taken out by unwrap.", "unwrap 所得值中最早的一个。"),
    ("last_over_time", "Newest of the values taken out by unwrap.", "unwrap 所得值中最新的一个。"),
    ("absent_over_time", "1 if the window has no line.", "窗口内没有行时为 1。"),
    ("sum", "Sum of the group's values.", "组内各值之和。"),
    ("avg", "Mean of the group's values.", "组内各值的平均值。"),
    ("min", "Least of the group's values.", "组内的最小值。"),
    ("max", "Greatest of the group's values.", "组内的最大值。"),
    ("count", "Series in the group.", "组内的序列数。"),
    ("stddev", "Population standard deviation of the group's values.", "组内各值的总体标准差。"),
    ("stdvar", "Population variance of the group's values.", "组内各值的总体方差。"),
    ("topk", "The k series with the greatest values.", "值最大的 k 个序列。"),
    ("bottomk", "The k series with the least values.", "值最小的 k 个序列。"),
    (
        "approx_topk",
        "The k greatest, possibly estimated; for one time, without grouping.",
        "值最大的 k 个，可能是估计值；只用于单个时刻且不分组。",
    ),
    ("sort", "All series, the least value first.", "所有序列，值小的在前。"),
    ("sort_desc", "All series, the greatest value first.", "所有序列，值大的在前。"),
    ("vector", "One series without labels that has this value.", "一个没有标签、取此值的序列。"),
    (
        "label_replace",
        "Sets a label to what a regular expression found in another one.",
        "用正则表达式从另一标签取得的内容设置标签。",
    ),
    ("|=", "Lines that contain a text.", "包含某文本的行。"),
    (
        "!=",
        "What is not equal; behind lines: those that do not contain a text.",
        "不相等；在行之后表示不包含某文本的行。",
    ),
    ("|~", "Lines in which a regular expression finds something.", "正则表达式能匹配到的行。"),
    ("!~", "What a regular expression does not match.", "正则表达式不匹配的内容。"),
    ("|>", "Lines that fit a pattern such as <_> failed.", "符合模式的行，例如 <_> failed。"),
    ("!>", "Lines that do not fit a pattern.", "不符合模式的行。"),
    ("=", "Equal.", "相等。"),
    ("=~", "A regular expression matches the whole value.", "正则表达式匹配整个值。"),
    (">", "Greater: of numbers, durations and sizes.", "大于：用于数字、时长和大小。"),
    (">=", "Greater or equal.", "大于或等于。"),
    ("<", "Less: of numbers, durations and sizes.", "小于：用于数字、时长和大小。"),
    ("<=", "Less or equal.", "小于或等于。"),
    ("json", "Takes all fields out of lines that are JSON.", "从 JSON 行中取出所有字段。"),
    (
        "logfmt",
        "Takes all fields out of lines of key=value pairs.",
        "从 key=value 形式的行中取出所有字段。",
    ),
    (
        "pattern",
        "Takes fields out where a pattern such as <method> <path> names them.",
        "按模式取出字段，例如 <method> <path>。",
    ),
    (
        "regexp",
        "Takes out what the named groups of a regular expression find.",
        "取出正则表达式命名分组匹配到的内容。",
    ),
    ("unpack", "Opens lines that the stage “pack” has packed.", "还原由 pack 阶段打包的行。"),
    ("line_format", "Writes the line anew by a template.", "用模板重写行。"),
    ("label_format", "Renames fields or sets them by a template.", "重命名字段或用模板设置字段。"),
    ("decolorize", "Takes colours of terminals out of the line.", "去掉行中的终端颜色。"),
    ("drop", "Removes fields.", "删除字段。"),
    ("keep", "Removes all fields but these.", "只保留这些字段。"),
    ("unwrap", "Makes the value of a field the sample.", "把字段的值作为样本。"),
    ("ip", "Addresses in a range such as 10.0.0.0/8.", "某范围内的地址，例如 10.0.0.0/8。"),
    ("bytes", "Reads sizes such as 5MiB as bytes.", "把 5MiB 这样的大小读作字节。"),
    ("duration", "Reads lengths of time such as 1m5s as seconds.", "把 1m5s 这样的时长读作秒。"),
    (
        "duration_seconds",
        "Reads lengths of time such as 1m5s as seconds.",
        "把 1m5s 这样的时长读作秒。",
    ),
    ("by", "Groups by these labels.", "按这些标签分组。"),
    ("without", "Groups by all labels but these.", "按除这些以外的标签分组。"),
    ("offset", "Looks so much earlier.", "往前偏移这么长时间。"),
    (
        "--strict",
        "Lines that are not wholly pairs get an error.",
        "不完全由键值对组成的行会得到错误。",
    ),
    ("--keep-empty", "Keeps keys without a value.", "保留没有值的键。"),
];
