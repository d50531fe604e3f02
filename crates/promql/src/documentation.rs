//! What functions, aggregations and words of the language do, in a sentence in two languages: shown to
//! whoever writes a query.

use crate::ast::{AggregateOp, ValueType};
use crate::functions::Function;

/// One sentence, in each language of the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doc {
    /// English.
    pub en: &'static str,
    /// Chinese.
    pub zh: &'static str,
}

/// What the function of this name does; `None` if there is none.
pub fn documentation(name: &str) -> Option<Doc> {
    find(&FUNCTIONS, name)
}

/// What a word of the language such as `offset` does; `None` if it is none.
pub fn keyword_documentation(word: &str) -> Option<Doc> {
    find(&KEYWORDS, word)
}

fn find(table: &[(&str, &'static str, &'static str)], name: &str) -> Option<Doc> {
    let at = table.binary_search_by(|(one, ..)| one.cmp(&name)).ok()?;
    let (_, en, zh) = table[at];
    Some(Doc { en, zh })
}

impl Function {
    /// Its arguments and what it yields: `(range vector) instant vector`.
    pub fn signature(&self) -> String {
        let optional = usize::try_from(self.variadic).unwrap_or(1);
        let required = self.args.len().saturating_sub(optional);
        let arg = |(at, kind): (usize, &ValueType)| match at < required {
            true => kind.documented().to_owned(),
            false if self.variadic < 0 => format!("{} …", kind.documented()),
            false => format!("[{}]", kind.documented()),
        };
        let args: Vec<String> = self.args.iter().enumerate().map(arg).collect();
        format!("({}) {}", args.join(", "), self.returns.documented())
    }
}

impl AggregateOp {
    /// Its arguments and what it yields.
    pub fn signature(self) -> &'static str {
        match self {
            AggregateOp::CountValues => "(string, instant vector) instant vector",
            op if op.takes_parameter() => "(scalar, instant vector) instant vector",
            _ => "(instant vector) instant vector",
        }
    }
}

/// The aggregations and what each does.
pub static AGGREGATORS: [(AggregateOp, Doc); 14] = [
    (AggregateOp::Sum, Doc { en: "Sum of the group's values.", zh: "组内各值之和。" }),
    (AggregateOp::Avg, Doc { en: "Mean of the group's values.", zh: "组内各值的平均值。" }),
    (AggregateOp::Count, Doc { en: "Number of elements in the group.", zh: "组内元素个数。" }),
    (AggregateOp::Min, Doc { en: "Smallest value of the group.", zh: "组内最小值。" }),
    (AggregateOp::Max, Doc { en: "Largest value of the group.", zh: "组内最大值。" }),
    (AggregateOp::Group, Doc { en: "1 for each group.", zh: "每组返回 1。" }),
    (
        AggregateOp::Stddev,
        Doc {
            en: "Population standard deviation of the group's values.",
            zh: "组内各值的总体标准差。",
        },
    ),
    (
        AggregateOp::Stdvar,
        Doc {
            en: "Population variance of the group's values.", zh: "组内各值的总体方差。"
        },
    ),
    (
        AggregateOp::Topk,
        Doc {
            en: "The k elements with the largest values of each group, with their labels.",
            zh: "每组中值最大的 k 个元素，保留其标签。",
        },
    ),
    (
        AggregateOp::Bottomk,
        Doc {
            en: "The k elements with the smallest values of each group, with their labels.",
            zh: "每组中值最小的 k 个元素，保留其标签。",
        },
    ),
    (
        AggregateOp::CountValues,
        Doc {
            en: "Number of elements per value; the value becomes the label that is named.",
            zh: "每个取值的元素个数；取值写入指定的标签。",
        },
    ),
    (
        AggregateOp::Quantile,
        Doc {
            en: "The φ-quantile (0 to 1) of the group's values.",
            zh: "组内各值的 φ 分位数（0 到 1）。",
        },
    ),
    (AggregateOp::Limitk, Doc { en: "Any k elements of each group.", zh: "每组任取 k 个元素。" }),
    (
        AggregateOp::LimitRatio,
        Doc {
            en: "A share of all elements (-1 to 1), chosen by their labels.",
            zh: "按标签选取一定比例的元素（-1 到 1）。",
        },
    ),
];

/// By name.
#[rustfmt::skip]
static FUNCTIONS: [(&str, &str, &str); 90] = [
    ("abs", "Absolute value of each element.", "每个元素的绝对值。"),
    ("absent", "1 if the vector has no element, with the labels that the selector fixes; else nothing.", "向量没有元素时返回 1，带上选择器固定的标签；否则没有结果。"),
    ("absent_over_time", "1 if no series has a sample in the range; else nothing.", "区间内没有任何样本时返回 1；否则没有结果。"),
    ("acos", "Arc cosine of each element, radians.", "反余弦，单位弧度。"),
    ("acosh", "Inverse hyperbolic cosine of each element.", "反双曲余弦。"),
    ("asin", "Arc sine of each element, radians.", "反正弦，单位弧度。"),
    ("asinh", "Inverse hyperbolic sine of each element.", "反双曲正弦。"),
    ("atan", "Arc tangent of each element, radians.", "反正切，单位弧度。"),
    ("atanh", "Inverse hyperbolic tangent of each element.", "反双曲正切。"),
    ("avg_over_time", "Mean of the samples in the range.", "区间内样本的平均值。"),
    ("ceil", "Each element rounded up to a whole number.", "向上取整。"),
    ("changes", "How often the value changed within the range.", "区间内数值变化的次数。"),
    ("clamp", "Each element, brought between a minimum and a maximum.", "把每个元素限制在最小值和最大值之间。"),
    ("clamp_max", "Each element, at most the maximum.", "每个元素最大不超过给定值。"),
    ("clamp_min", "Each element, at least the minimum.", "每个元素最小不低于给定值。"),
    ("cos", "Cosine of each element in radians.", "余弦，参数为弧度。"),
    ("cosh", "Hyperbolic cosine of each element.", "双曲余弦。"),
    ("count_over_time", "Number of samples in the range.", "区间内样本的个数。"),
    ("day_of_month", "Day of the month in UTC, 1 to 31, of times in seconds.", "UTC 日期中的日，1 到 31，参数为秒级时间戳。"),
    ("day_of_week", "Day of the week in UTC, 0 for Sunday to 6, of times in seconds.", "UTC 星期几，0 为星期日，到 6，参数为秒级时间戳。"),
    ("day_of_year", "Day of the year in UTC, 1 to 366, of times in seconds.", "UTC 一年中的第几天，1 到 366，参数为秒级时间戳。"),
    ("days_in_month", "Number of days in the month, 28 to 31, of times in seconds.", "当月天数，28 到 31，参数为秒级时间戳。"),
    ("deg", "Radians as degrees.", "弧度换算成角度。"),
    ("delta", "Difference between the last and the first value of the range, extrapolated to it; for gauges.", "区间首尾样本之差，外推到整个区间；用于 gauge。"),
    ("deriv", "Change per second by linear regression; for gauges.", "按线性回归计算的每秒变化率；用于 gauge。"),
    ("double_exponential_smoothing", "Smoothed value by Holt-Winters' method, with a factor for the level and one for the trend.", "霍尔特-温特斯双指数平滑值，需给出水平因子和趋势因子。"),
    ("end", "End of the query's range, seconds since 1970.", "查询区间的终点，1970 年以来的秒数。"),
    ("exp", "e to the power of each element.", "e 的幂。"),
    ("first_over_time", "Oldest sample in the range.", "区间内最早的样本。"),
    ("floor", "Each element rounded down to a whole number.", "向下取整。"),
    ("histogram_avg", "Mean of the observations in a native histogram.", "原生直方图观测值的平均值。"),
    ("histogram_count", "Number of observations in a native histogram.", "原生直方图的观测次数。"),
    ("histogram_fraction", "Share of observations between a lower and an upper bound.", "落在上下界之间的观测值占比。"),
    ("histogram_quantile", "The φ-quantile (0 to 1) of the observations, of native or classic histograms (with the label le).", "观测值的 φ 分位数（0 到 1），支持原生直方图和带 le 标签的经典直方图。"),
    ("histogram_quantiles", "Several quantiles of histograms; the label that is named says which.", "直方图的多个分位数，用指定标签区分。"),
    ("histogram_stddev", "Estimated standard deviation of the observations in a native histogram.", "原生直方图观测值的估计标准差。"),
    ("histogram_stdvar", "Estimated variance of the observations in a native histogram.", "原生直方图观测值的估计方差。"),
    ("histogram_sum", "Sum of the observations in a native histogram.", "原生直方图观测值之和。"),
    ("hour", "Hour of the day in UTC, 0 to 23, of times in seconds.", "UTC 小时，0 到 23，参数为秒级时间戳。"),
    ("idelta", "Difference between the last two samples of the range; for gauges.", "区间内最后两个样本之差；用于 gauge。"),
    ("increase", "How much a counter increased over the range, resets considered, extrapolated to the range.", "计数器在区间内的增量，已处理重置，并外推到整个区间。"),
    ("info", "Adds labels of info series such as target_info.", "补上 target_info 等信息序列的标签。"),
    ("irate", "Increase per second between the last two samples of the range; for counters that change fast.", "最后两个样本之间的每秒增量；用于变化快的计数器。"),
    ("label_join", "Joins values of labels with a separator into another label.", "用分隔符把多个标签的值连接成另一个标签。"),
    ("label_replace", "Sets a label to a replacement where the value of another one matches a regular expression.", "当某标签的值匹配正则表达式时，把替换结果写入另一个标签。"),
    ("last_over_time", "Newest sample in the range.", "区间内最新的样本。"),
    ("ln", "Natural logarithm of each element.", "自然对数。"),
    ("log10", "Decimal logarithm of each element.", "以 10 为底的对数。"),
    ("log2", "Binary logarithm of each element.", "以 2 为底的对数。"),
    ("mad_over_time", "Median absolute deviation of the samples in the range.", "区间内样本的绝对中位差。"),
    ("max_of", "The larger of two numbers.", "两个数中较大的一个。"),
    ("max_over_time", "Largest sample in the range.", "区间内的最大值。"),
    ("min_of", "The smaller of two numbers.", "两个数中较小的一个。"),
    ("min_over_time", "Smallest sample in the range.", "区间内的最小值。"),
    ("minute", "Minute of the hour in UTC, 0 to 59, of times in seconds.", "UTC 分钟，0 到 59，参数为秒级时间戳。"),
    ("month", "Month in UTC, 1 to 12, of times in seconds.", "UTC 月份，1 到 12，参数为秒级时间戳。"),
    ("pi", "π.", "圆周率 π。"),
    ("predict_linear", "Value to be expected in so many seconds, by linear regression; for gauges.", "按线性回归预测若干秒后的值；用于 gauge。"),
    ("present_over_time", "1 for each series with a sample in the range.", "区间内有样本的每条序列返回 1。"),
    ("quantile_over_time", "The φ-quantile (0 to 1) of the samples in the range.", "区间内样本的 φ 分位数（0 到 1）。"),
    ("rad", "Degrees as radians.", "角度换算成弧度。"),
    ("range", "Length of the query's range, seconds.", "查询区间的长度，单位秒。"),
    ("rate", "Increase of a counter per second, averaged over the range, resets considered.", "计数器在区间内的平均每秒增量，已处理重置。"),
    ("resets", "How often a counter was reset within the range.", "计数器在区间内重置的次数。"),
    ("round", "Each element rounded to the nearest whole number, or multiple of a number.", "四舍五入到整数，或到给定数的倍数。"),
    ("scalar", "The value of the only element; NaN if there are none or several.", "唯一元素的值；没有或多于一个时为 NaN。"),
    ("sgn", "1, -1 or 0, by the sign of each element.", "按符号返回 1、-1 或 0。"),
    ("sin", "Sine of each element in radians.", "正弦，参数为弧度。"),
    ("sinh", "Hyperbolic sine of each element.", "双曲正弦。"),
    ("sort", "Elements by value, ascending; instant queries only.", "按值升序排列；仅用于瞬时查询。"),
    ("sort_by_label", "Elements by the values of labels, ascending; instant queries only.", "按标签值升序排列；仅用于瞬时查询。"),
    ("sort_by_label_desc", "Elements by the values of labels, descending; instant queries only.", "按标签值降序排列；仅用于瞬时查询。"),
    ("sort_desc", "Elements by value, descending; instant queries only.", "按值降序排列；仅用于瞬时查询。"),
    ("sqrt", "Square root of each element.", "平方根。"),
    ("start", "Start of the query's range, seconds since 1970.", "查询区间的起点，1970 年以来的秒数。"),
    ("start_timestamp", "When the counts of each sample began, seconds since 1970; 0 if not known.", "每个样本开始计数的时间，1970 年以来的秒数；未知时为 0。"),
    ("stddev_over_time", "Population standard deviation of the samples in the range.", "区间内样本的总体标准差。"),
    ("stdvar_over_time", "Population variance of the samples in the range.", "区间内样本的总体方差。"),
    ("step", "The query's step, seconds.", "查询步长，单位秒。"),
    ("sum_over_time", "Sum of the samples in the range.", "区间内样本之和。"),
    ("tan", "Tangent of each element in radians.", "正切，参数为弧度。"),
    ("tanh", "Hyperbolic tangent of each element.", "双曲正切。"),
    ("time", "The time of evaluation, seconds since 1970.", "求值时刻，1970 年以来的秒数。"),
    ("timestamp", "When each sample was taken, seconds since 1970.", "每个样本的采集时间，1970 年以来的秒数。"),
    ("ts_of_first_over_time", "When the oldest sample in the range was taken, seconds since 1970.", "区间内最早样本的时间，1970 年以来的秒数。"),
    ("ts_of_last_over_time", "When the newest sample in the range was taken, seconds since 1970.", "区间内最新样本的时间，1970 年以来的秒数。"),
    ("ts_of_max_over_time", "When the largest sample in the range was taken, seconds since 1970.", "区间内最大样本的时间，1970 年以来的秒数。"),
    ("ts_of_min_over_time", "When the smallest sample in the range was taken, seconds since 1970.", "区间内最小样本的时间，1970 年以来的秒数。"),
    ("vector", "A number as a vector of one element without labels.", "把一个数变成只有一个元素、没有标签的向量。"),
    ("year", "Year in UTC, of times in seconds.", "UTC 年份，参数为秒级时间戳。"),
];

/// By name.
#[rustfmt::skip]
static KEYWORDS: [(&str, &str, &str); 19] = [
    ("anchored", "Takes the sample at or before each border of the range, without extrapolation.", "取区间边界上或边界前的样本，不做外推。"),
    ("and", "Elements of the left side that have a partner on the right.", "左侧中在右侧有对应元素的部分。"),
    ("atan2", "Arc tangent of left over right, radians.", "左侧除以右侧的反正切，单位弧度。"),
    ("bool", "Makes a comparison yield 0 or 1 instead of filtering.", "让比较返回 0 或 1，而不是过滤。"),
    ("by", "Groups by these labels and keeps only them.", "按这些标签分组，只保留它们。"),
    ("end", "The end of the query's range.", "查询区间的终点。"),
    ("fill", "Value for elements that have no partner on the other side.", "另一侧没有对应元素时使用的值。"),
    ("fill_left", "Value where the left side has no element.", "左侧没有元素时使用的值。"),
    ("fill_right", "Value where the right side has no element.", "右侧没有元素时使用的值。"),
    ("group_left", "Many elements on the left match one on the right; takes over these labels.", "左侧多个元素对应右侧一个；带过来这些标签。"),
    ("group_right", "Many elements on the right match one on the left; takes over these labels.", "右侧多个元素对应左侧一个；带过来这些标签。"),
    ("ignoring", "Matches both sides by all labels but these.", "忽略这些标签后匹配两侧。"),
    ("offset", "Looks so far into the past.", "向过去平移一段时间。"),
    ("on", "Matches both sides by these labels alone.", "只按这些标签匹配两侧。"),
    ("or", "All elements of the left side, and those of the right that have no partner.", "左侧全部元素，加上右侧没有对应的元素。"),
    ("smoothed", "Interpolates at each border of the range.", "在区间边界处插值。"),
    ("start", "The start of the query's range.", "查询区间的起点。"),
    ("unless", "Elements of the left side that have no partner on the right.", "左侧中在右侧没有对应元素的部分。"),
    ("without", "Groups by all labels but these.", "按除这些以外的所有标签分组。"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::{FUNCTIONS as ALL, find_function};

    #[test]
    fn every_function_and_aggregation_is_explained() {
        for function in ALL {
            let doc = documentation(function.name).expect("explained");
            assert!(doc.en.ends_with('.') && doc.zh.ends_with('。'), "{}", function.name);
        }
        assert_eq!((FUNCTIONS.len(), documentation("no")), (ALL.len(), None));
        assert!(KEYWORDS.is_sorted_by_key(|(word, ..)| word));
        for (op, _) in AGGREGATORS {
            let text = format!("{}(x)", op.as_str());
            assert_eq!(
                crate::parse(&text).is_ok(),
                op.signature().starts_with("(instant"),
                "{text}"
            );
        }
    }

    #[test]
    fn signatures_tell_what_may_be_left_out() {
        let signature = |name| find_function(name).expect("known").signature();
        assert_eq!(signature("rate"), "(range vector) instant vector");
        assert_eq!(signature("round"), "(instant vector, [scalar]) instant vector");
        assert_eq!(signature("time"), "() scalar");
        assert_eq!(
            signature("label_join"),
            "(instant vector, string, string, string …) instant vector"
        );
    }
}
