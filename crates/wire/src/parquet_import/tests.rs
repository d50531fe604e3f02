use model::{Labels, Limits, MetricBatch};

use super::*;
use crate::decode_labels;
use crate::parquet_export::ParquetWriter;

/// Written by pyarrow: the same rows in several types, encodings, codecs and orders of columns.
const FOREIGN: [(&str, &[u8]); 6] = [
    ("snappy", include_bytes!("files/snappy.parquet")),
    ("gzip-v2-groups", include_bytes!("files/gzip-v2-groups.parquet")),
    ("delta", include_bytes!("files/delta.parquet")),
    ("int96", include_bytes!("files/int96.parquet")),
    ("pairs", include_bytes!("files/pairs.parquet")),
    ("fields", include_bytes!("files/fields.parquet")),
];

type Sample = (Labels, i64, u64);

fn samples(batch: &MetricBatch) -> Vec<Sample> {
    let mut samples = Vec::new();
    for series in &batch.series {
        let bytes = batch.label_bytes_of(series);
        let labels = decode_labels(series.form, bytes, &Limits::default()).expect("labels");
        for row in series.first_row as usize..(series.first_row + series.rows) as usize {
            let sample = (batch.timestamps_ms[row], batch.values[row].to_bits());
            samples.push((labels.clone(), sample.0, sample.1));
        }
    }
    samples
}

fn own(series: usize, rows: usize) -> (Vec<u8>, Vec<Sample>) {
    let (mut writer, mut file, mut wanted) = (ParquetWriter::new(), Vec::new(), Vec::new());
    for number in 0..series {
        let number = number.to_string();
        let pairs = [("__name__", "m"), ("n", &number), ("z", "ü\"\n")];
        // Series without labels have lists of no entries.
        let pairs = if number == "3" { &pairs[..1] } else { &pairs[..] };
        let labels = Labels::from_pairs(pairs.iter().copied()).expect("labels");
        let times: Vec<i64> = (0..rows as i64).map(|row| row * 15_000 - 7).collect();
        let mut values: Vec<f64> = (0..rows).map(|row| (row as f64).sqrt() / 3.0).collect();
        values[0] = f64::from_bits(model::STALE_NAN_BITS);
        writer.push(&labels, &times, &values, &mut file);
        for (t_ms, value) in times.iter().zip(&values) {
            wanted.push((labels.clone(), *t_ms, value.to_bits()));
        }
    }
    writer.finish(&mut file);
    (file, wanted)
}

#[test]
fn own_files_come_back_bit_by_bit() {
    // Series end within row groups, and groups within series.
    for (series, rows) in [(0, 1), (1, 1), (5, 100), (5, 60_000)] {
        let (file, wanted) = own(series, rows);
        let mut batch = MetricBatch::default();
        let refusals = decode(&file, &Limits::default(), &mut batch).expect("own file");
        assert!(refusals.is_empty());
        assert!(samples(&batch) == wanted, "{series} series of {rows} rows");
        // Each series once, but where a row group ended.
        assert!(batch.series.len() <= series, "{} entries", batch.series.len());
    }
}

#[test]
fn files_of_other_programs_are_read() {
    let labels =
        |pairs: &[(&str, &str)]| Labels::from_pairs(pairs.iter().copied()).expect("labels");
    let both = labels(&[("__name__", "m"), ("a", "b"), ("c", "d")]);
    let wanted = [
        (both.clone(), 1_700_000_000_000, 1.5_f64.to_bits()),
        (both, 1_700_000_001_000, 2.5_f64.to_bits()),
        (labels(&[("__name__", "n")]), 1_700_000_000_001, (-0.0_f64).to_bits()),
        (labels(&[("__name__", "m"), ("a", "ü")]), 1_700_000_000_004, f64::INFINITY.to_bits()),
    ];
    for (name, file) in FOREIGN {
        let mut batch = MetricBatch::default();
        let refusals = decode(file, &Limits::default(), &mut batch);
        let refusals = refusals.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(samples(&batch), wanted, "{name}");
        let told: Vec<_> =
            refusals.iter().map(|one| (&one.reason[..], one.samples, &one.first[..])).collect();
        assert_eq!(told, [("no name", 1, "row 5"), ("no timestamp", 1, "row 6")], "{name}");
    }
}

#[test]
fn damage_never_panics_and_leaves_nothing_behind() {
    let limits = Limits { max_body_bytes: 1 << 16, ..Limits::default() };
    let (file, _) = own(5, 20);
    let all = FOREIGN.iter().map(|(_, file)| *file).chain([&file[..]]);
    let (mut batch, mut failed) = (MetricBatch::default(), 0);
    for file in all {
        for at in 0..file.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut damaged = file.to_vec();
                damaged[at] ^= flip;
                if decode(&damaged, &limits, &mut batch).is_err() {
                    assert_eq!(batch, MetricBatch::default());
                    failed += 1;
                }
            }
            assert!(decode(&file[..at], &limits, &mut batch).is_err(), "cut at {at}");
            assert_eq!(batch, MetricBatch::default());
        }
    }
    assert!(failed > 1_000, "{failed} faults seen");
}

#[test]
fn what_unfolds_to_too_much_is_a_limit() {
    // Pages of a megabyte, which are next to nothing compressed.
    let labels = Labels::from_pairs([("__name__", "m")]).expect("labels");
    let (mut writer, mut file) = (ParquetWriter::new(), Vec::new());
    writer.push(&labels, &vec![7; 1_000_000], &vec![1.0; 1_000_000], &mut file);
    writer.finish(&mut file);
    for (max_body_bytes, wanted) in [
        (file.len() - 1, "Parquet file of"),
        (file.len(), "write smaller row groups and pages or raise `limits.max_body_bytes`"),
        (3 << 19, "series of a Parquet file, written out with labels and rows,"),
    ] {
        let limits = Limits { max_body_bytes, ..Limits::default() };
        let mut batch = MetricBatch::default();
        let error = decode(&file, &limits, &mut batch).expect_err("too large");
        assert!(error.is_limit() && error.to_string().contains(wanted), "{error}");
        assert_eq!(batch, MetricBatch::default());
    }
    let decoded = decode(&file, &Limits::default(), &mut MetricBatch::default());
    assert!(decoded.is_ok());
}

#[test]
fn long_texts_that_come_often_do_not_take_forever() {
    // A text of 32 KiB in each of 50,000 rows is 1.6 GB that nothing in the file takes up.
    let long = "x".repeat(32 << 10);
    let (mut writer, mut file) = (ParquetWriter::new(), Vec::new());
    for value in ["a", "b"] {
        let pairs = [("__name__", "m"), ("a", &long), ("b", value)];
        let labels = Labels::from_pairs(pairs).expect("labels");
        writer.push(&labels, &vec![7; 25_000], &vec![1.0; 25_000], &mut file);
    }
    writer.finish(&mut file);
    let limits = Limits { max_body_bytes: 1 << 20, ..Limits::default() };
    let error = decode(&file, &limits, &mut MetricBatch::default()).expect_err("too much");
    assert!(error.is_limit() && error.to_string().contains("unpacked"), "{error}");
}

#[test]
fn what_is_no_such_file_is_named() {
    let (file, _) = own(1, 1);
    let mut encrypted = file.clone();
    let end = encrypted.len() - 1;
    encrypted[end] = b'E';
    // The first time that the footer names it is in the schema, behind its length.
    let renamed = |from: &str, to: &str| {
        let from = [&[from.len() as u8], from.as_bytes()].concat();
        let footer = file.windows(6).rposition(|part| part == b"schema").expect("a root");
        let at = file[footer..].windows(from.len()).position(|part| part == from);
        let at = footer + at.expect("the schema names it") + 1;
        let mut file = file.clone();
        file[at..at + to.len()].copy_from_slice(to.as_bytes());
        file
    };
    for (file, wanted) in [
        (b"".to_vec(), "this is no Parquet file"),
        (b"{\"metric\":{}}".to_vec(), "this is no Parquet file"),
        (file[..file.len() - 1].to_vec(), "the file is cut off"),
        (encrypted, "it is encrypted"),
        (renamed("timestamp", "timestomp"), "no place for the column \"timestomp\""),
        (renamed("name", "game"), "no place for the column \"game\""),
        (renamed("labels", "l4bels"), "no place for the column \"l4bels\""),
        (renamed("key", "abc"), "neither a map of texts, a list of pairs nor a struct"),
    ] {
        let error = decode(&file, &Limits::default(), &mut MetricBatch::default());
        let error = error.expect_err("no such file").to_string();
        assert!(error.contains(wanted), "{error}");
    }
}
