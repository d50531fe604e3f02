//! Writes query results as JSON straight from columns.
//!
//! Numbers look as Prometheus prints them (`util/jsonutil`): times in seconds with up to three
//! decimals, values as strings in the shortest form that reads back to the same bits.

use model::{Exemplar, FloatHistogram, Labels};
use promql::{InstantSample, QueryValue, RangeSeries};

/// Appends `{"resultType":…,"result":…}`.
pub(crate) fn write_value(out: &mut Vec<u8>, value: &QueryValue) {
    match value {
        QueryValue::Scalar { t_ms, value } => {
            out.extend_from_slice(br#"{"resultType":"scalar","result":["#);
            write_time(out, *t_ms);
            out.extend_from_slice(b",\"");
            write_float_without_exponent(out, *value);
            out.extend_from_slice(b"\"]");
        }
        QueryValue::String { t_ms, value } => {
            out.extend_from_slice(br#"{"resultType":"string","result":["#);
            write_time(out, *t_ms);
            out.push(b',');
            write_string(out, value);
            out.push(b']');
        }
        QueryValue::Vector(samples) => {
            out.extend_from_slice(br#"{"resultType":"vector","result":"#);
            write_vector(out, samples);
        }
        QueryValue::Matrix(series) => {
            out.extend_from_slice(br#"{"resultType":"matrix","result":["#);
            for (index, one) in series.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_series(out, one);
            }
            out.push(b']');
        }
    }
    out.push(b'}');
}

/// Appends the elements of an instant vector as a JSON array.
pub(crate) fn write_vector(out: &mut Vec<u8>, samples: &[InstantSample]) {
    out.push(b'[');
    for (index, sample) in samples.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(br#"{"metric":"#);
        write_labels(out, &sample.labels);
        if let Some(histogram) = &sample.histogram {
            out.extend_from_slice(br#","histogram":"#);
            write_histogram_point(out, sample.t_ms, histogram);
        } else {
            out.extend_from_slice(br#","value":"#);
            write_point(out, sample.t_ms, sample.value);
        }
        out.push(b'}');
    }
    out.push(b']');
}

fn write_series(out: &mut Vec<u8>, series: &RangeSeries) {
    out.extend_from_slice(br#"{"metric":"#);
    write_labels(out, &series.labels);
    // A series has the one, the other, or both.
    if !series.values.is_empty() || series.histograms.is_empty() {
        out.extend_from_slice(br#","values":["#);
        for (index, (t_ms, value)) in series.timestamps_ms.iter().zip(&series.values).enumerate() {
            if index > 0 {
                out.push(b',');
            }
            write_point(out, *t_ms, *value);
        }
        out.push(b']');
    }
    if !series.histograms.is_empty() {
        out.extend_from_slice(br#","histograms":["#);
        for (index, (t_ms, histogram)) in series.histograms.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            write_histogram_point(out, *t_ms, histogram);
        }
        out.push(b']');
    }
    out.push(b'}');
}

fn write_histogram_point(out: &mut Vec<u8>, t_ms: i64, histogram: &FloatHistogram) {
    out.push(b'[');
    write_time(out, t_ms);
    out.push(b',');
    write_histogram(out, histogram);
    out.push(b']');
}

/// Appends a native histogram: count, sum, and of each bucket with observations what its bounds
/// include, the bounds and the count. Source: `marshalHistogram` in Prometheus' `util/jsonutil`.
fn write_histogram(out: &mut Vec<u8>, histogram: &FloatHistogram) {
    let quoted = |out: &mut Vec<u8>, value: f64| {
        out.push(b'"');
        write_float(out, value);
        out.push(b'"');
    };
    out.extend_from_slice(br#"{"count":"#);
    quoted(out, histogram.count);
    out.extend_from_slice(br#","sum":"#);
    quoted(out, histogram.sum);
    let listed = histogram.buckets().filter(|bucket| bucket.count != 0.0);
    for (index, bucket) in listed.enumerate() {
        out.extend_from_slice(if index == 0 { br#","buckets":[["# } else { b",[" });
        out.push(match (bucket.has_lower, bucket.has_upper) {
            (false, true) => b'0',
            (true, false) => b'1',
            (false, false) => b'2',
            (true, true) => b'3',
        });
        for value in [bucket.lower, bucket.upper, bucket.count] {
            out.push(b',');
            quoted(out, value);
        }
        out.push(b']');
    }
    if out.last() == Some(&b']') {
        out.push(b']');
    }
    out.push(b'}');
}

/// Appends an exemplar.
pub(crate) fn write_exemplar(out: &mut Vec<u8>, exemplar: &Exemplar) {
    out.extend_from_slice(br#"{"labels":"#);
    write_labels(out, &exemplar.labels);
    out.extend_from_slice(br#","value":""#);
    write_float(out, exemplar.value);
    out.extend_from_slice(br#"","timestamp":"#);
    write_time(out, exemplar.t_ms);
    out.push(b'}');
}

/// Appends a label set as a JSON object.
pub(crate) fn write_labels(out: &mut Vec<u8>, labels: &Labels) {
    out.push(b'{');
    for (index, (name, value)) in labels.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_string(out, name);
        out.push(b':');
        write_string(out, value);
    }
    out.push(b'}');
}

#[inline]
fn write_point(out: &mut Vec<u8>, t_ms: i64, value: f64) {
    out.push(b'[');
    write_time(out, t_ms);
    out.extend_from_slice(b",\"");
    write_float(out, value);
    out.extend_from_slice(b"\"]");
}

#[inline]
pub(crate) fn write_time(out: &mut Vec<u8>, t_ms: i64) {
    if t_ms < 0 {
        out.push(b'-');
    }
    let ms = t_ms.unsigned_abs();
    out.extend_from_slice(itoa::Buffer::new().format(ms / 1_000).as_bytes());
    let fraction = (ms % 1_000) as u16;
    if fraction != 0 {
        let digit = |n: u16| b'0' + (n % 10) as u8;
        out.extend_from_slice(&[
            b'.',
            digit(fraction / 100),
            digit(fraction / 10),
            digit(fraction),
        ]);
    }
}

/// Appends a number as Go's `strconv.FormatFloat(v, 'f', -1, 64)` prints it, with an exponent
/// below 1e-6 and from 1e21 on.
pub(crate) fn write_float(out: &mut Vec<u8>, value: f64) {
    // Fast path: whole numbers, which most samples are.
    if value.abs() < 9_007_199_254_740_992.0 && value.fract() == 0.0 {
        if value == 0.0 && value.is_sign_negative() {
            out.push(b'-');
        }
        out.extend_from_slice(itoa::Buffer::new().format(value as i64).as_bytes());
        return;
    }
    if !value.is_finite() {
        let text: &[u8] = if value.is_nan() {
            b"NaN"
        } else if value > 0.0 {
            b"+Inf"
        } else {
            b"-Inf"
        };
        out.extend_from_slice(text);
        return;
    }
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(value);
    // Fast path: without an exponent the shortest form is Go's form, but for a final `.0`.
    if has_exponent(text) {
        write_shortest(out, text);
    } else {
        out.extend_from_slice(text.strip_suffix(".0").unwrap_or(text).as_bytes());
    }
}

/// Appends a number as Prometheus prints scalars: digits only, however large or small it is.
pub(crate) fn write_float_without_exponent(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() {
        // Rust's own display is the shortest that reads back, without an exponent.
        out.extend_from_slice(value.to_string().as_bytes());
    } else {
        write_float(out, value);
    }
}

fn has_exponent(text: &str) -> bool {
    text.as_bytes().contains(&b'e')
}

/// Rewrites a shortest decimal such as `1.5e-7` or `12.25` in Go's form.
fn write_shortest(out: &mut Vec<u8>, text: &str) {
    let (sign, text) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (mantissa, exponent) = match text.split_once('e') {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().unwrap_or(0)),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    // The value is 0.DIGITS × 10^point.
    let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
    let mut point = whole.len() as i32 + exponent;
    while digits.last() == Some(&b'0') {
        digits.pop();
    }
    let leading = digits.iter().take_while(|digit| **digit == b'0').count();
    digits.drain(..leading);
    point -= leading as i32;
    out.extend_from_slice(sign.as_bytes());
    let power = point - 1;
    if !(-6..21).contains(&power) {
        out.push(digits[0]);
        if digits.len() > 1 {
            out.push(b'.');
            out.extend_from_slice(&digits[1..]);
        }
        out.extend_from_slice(if power < 0 { b"e-" } else { b"e+" });
        if power.abs() < 10 {
            out.push(b'0');
        }
        out.extend_from_slice(itoa::Buffer::new().format(power.abs()).as_bytes());
    } else if point <= 0 {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', point.unsigned_abs() as usize));
        out.extend_from_slice(&digits);
    } else {
        let whole = point.unsigned_abs() as usize;
        for place in 0..whole {
            out.push(digits.get(place).copied().unwrap_or(b'0'));
        }
        if digits.len() > whole {
            out.push(b'.');
            out.extend_from_slice(&digits[whole..]);
        }
    }
}

/// Appends a JSON string.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut copied = 0;
    for (index, &byte) in bytes.iter().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0..0x20 => b"",
            _ => continue,
        };
        out.extend_from_slice(&bytes[copied..index]);
        copied = index + 1;
        if escape.is_empty() {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            out.extend_from_slice(b"\\u00");
            out.push(HEX[usize::from(byte >> 4)]);
            out.push(HEX[usize::from(byte & 15)]);
        } else {
            out.extend_from_slice(escape);
        }
    }
    out.extend_from_slice(&bytes[copied..]);
    out.push(b'"');
}

/// Appends `,"name":[…]`, or nothing if there are no strings.
pub(crate) fn write_strings(body: &mut Vec<u8>, name: &str, strings: &[String]) {
    if strings.is_empty() {
        return;
    }
    body.extend_from_slice(format!(",\"{name}\":[").as_bytes());
    for (index, text) in strings.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        write_string(body, text);
    }
    body.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn float(value: f64) -> String {
        let mut out = Vec::new();
        write_float(&mut out, value);
        String::from_utf8(out).expect("digits are ASCII")
    }

    #[test]
    fn floats_look_as_go_prints_them() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.5, "1.5"),
            (-12.25, "-12.25"),
            (0.1, "0.1"),
            (1e-6, "0.000001"),
            (1.5e-6, "0.0000015"),
            (9.9e-7, "9.9e-07"),
            (1e-300, "1e-300"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.7976931348623157e308, "1.7976931348623157e+308"),
            (123_456_789.125, "123456789.125"),
            (1e16 + 2.0, "10000000000000002"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(float(value), expected);
        }
    }

    #[test]
    fn histograms_list_buckets_with_observations() {
        let layout = model::BucketLayout {
            schema: 0,
            zero_threshold: 0.001,
            positive: vec![model::Span { offset: 0, len: 3 }],
            negative: vec![model::Span { offset: 1, len: 1 }],
            ..Default::default()
        };
        let mut histogram = FloatHistogram::empty(layout.into());
        histogram.count = 12.5;
        histogram.sum = 0.1;
        let json = |histogram: &FloatHistogram| {
            let mut out = Vec::new();
            write_histogram_point(&mut out, 1_500, histogram);
            String::from_utf8(out).expect("JSON is text")
        };
        assert_eq!(json(&histogram), r#"[1.500,{"count":"12.5","sum":"0.1"}]"#);
        histogram.zero_count = 2.0;
        histogram.positive = vec![1.0, 0.0, 4.5];
        histogram.negative = vec![5.0];
        assert_eq!(
            json(&histogram),
            concat!(
                r#"[1.500,{"count":"12.5","sum":"0.1","buckets":[[1,"-2","-1","5"],"#,
                r#"[3,"-0.001","0.001","2"],[0,"0.5","1","1"],[0,"2","4","4.5"]]}]"#
            )
        );
    }

    #[test]
    fn scalars_never_have_an_exponent() {
        let scalar = |value| {
            let mut out = Vec::new();
            write_value(&mut out, &QueryValue::Scalar { t_ms: 0, value });
            String::from_utf8(out).expect("digits are ASCII")
        };
        for (value, expected) in [
            (1e-7, "0.0000001"),
            (1e21, "1000000000000000000000"),
            (-0.0, "-0"),
            (0.1, "0.1"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            let expected = format!(r#"{{"resultType":"scalar","result":[0,"{expected}"]}}"#);
            assert_eq!(scalar(value), expected);
        }
    }

    #[test]
    fn floats_read_back_to_the_same_bits() {
        let mut state = 7_u64;
        for _ in 0..100_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let value = f64::from_bits(state);
            if value.is_finite() {
                assert_eq!(float(value).parse::<f64>().map(f64::to_bits), Ok(value.to_bits()));
            }
        }
    }

    #[test]
    fn times_have_up_to_three_decimals() {
        let time = |t_ms| {
            let mut out = Vec::new();
            write_time(&mut out, t_ms);
            String::from_utf8(out).expect("digits are ASCII")
        };
        assert_eq!(time(1_435_781_451_781), "1435781451.781");
        assert_eq!(time(1_000), "1");
        assert_eq!(time(1_050), "1.050");
        assert_eq!(time(-1), "-0.001");
    }

    #[test]
    fn strings_are_valid_json() {
        let text = "a\"b\\c\n\u{1}é";
        let mut out = Vec::new();
        write_string(&mut out, text);
        assert_eq!(serde_json::from_slice::<String>(&out).expect("valid JSON"), text);
    }
}
