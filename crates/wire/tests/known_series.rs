//! Recognising series by their text changes nothing about what an exposition says.

use proptest::prelude::*;
use wire::{Entry, Exemplar, WireError, exposition, openmetrics};

/// What a sample is to a reader.
type Sample = (Vec<u8>, u64, Option<i64>, Option<String>);

/// Both parsers behind one face.
trait Parse {
    fn sample(&mut self) -> Result<Option<Option<Sample>>, WireError>;
    fn known(&mut self, text: &[u8]) -> Result<Option<Sample>, WireError>;
}

macro_rules! parse {
    ($parser:ty) => {
        impl Parse for $parser {
            fn sample(&mut self) -> Result<Option<Option<Sample>>, WireError> {
                Ok(self.next_entry()?.map(|entry| match entry {
                    Entry::Series(series) => Some((
                        series.as_written().to_vec(),
                        series.value.to_bits(),
                        series.timestamp_ms,
                        series.exemplar.as_ref().map(shown),
                    )),
                    _ => None,
                }))
            }

            fn known(&mut self, text: &[u8]) -> Result<Option<Sample>, WireError> {
                Ok(self.known_series(text)?.map(|known| {
                    let exemplar = known.exemplar.as_ref().map(shown);
                    (text.to_vec(), known.value.to_bits(), known.timestamp_ms, exemplar)
                }))
            }
        }
    };
}

fn shown(exemplar: &Exemplar<'_>) -> String {
    format!("{:?} {} {:?}", exemplar.labels(), exemplar.value, exemplar.timestamp_ms)
}

parse!(exposition::Parser<'_>);
parse!(openmetrics::Parser<'_>);

/// All samples, and the error that ended them; `hints` are tried before each entry, in turn.
fn read(parser: &mut dyn Parse, hints: &[Vec<u8>]) -> (Vec<Sample>, Option<String>) {
    let mut samples = Vec::new();
    let mut next = 0;
    loop {
        if let Some(hint) = hints.get(next) {
            match parser.known(hint) {
                Ok(None) => {}
                Ok(Some(sample)) => {
                    samples.push(sample);
                    next += 1;
                    continue;
                }
                Err(error) => return (samples, Some(error.to_string())),
            }
        }
        match parser.sample() {
            Ok(None) => return (samples, None),
            Ok(Some(None)) => {}
            Ok(Some(Some(sample))) => {
                let place = hints.iter().position(|hint| *hint == sample.0);
                next = place.map_or(next, |place| place + 1);
                samples.push(sample);
            }
            Err(error) => return (samples, Some(error.to_string())),
        }
    }
}

fn check(before: &str, now: &str) -> Result<(), TestCaseError> {
    let hints = |parser: &mut dyn Parse| -> Vec<Vec<u8>> {
        read(parser, &[]).0.into_iter().map(|(text, ..)| text).collect()
    };
    let known = hints(&mut exposition::Parser::new(before.as_bytes()));
    let plain = read(&mut exposition::Parser::new(now.as_bytes()), &[]);
    prop_assert_eq!(read(&mut exposition::Parser::new(now.as_bytes()), &known), plain);
    let known = hints(&mut openmetrics::Parser::new(before.as_bytes()));
    let plain = read(&mut openmetrics::Parser::new(now.as_bytes()), &[]);
    prop_assert_eq!(read(&mut openmetrics::Parser::new(now.as_bytes()), &known), plain);
    Ok(())
}

const PIECES: [&str; 22] = [
    "a",
    "ab",
    "a_b",
    "{",
    "}",
    "x=\"1\"",
    "x=\"}\"",
    ",",
    "\"q\"",
    " ",
    "\t",
    "1",
    "2.5",
    "NaN",
    " 17",
    "\n",
    "# TYPE a counter\n",
    "# HELP a b\n",
    "# EOF\n",
    "a{x=\"1\"} 2\n",
    "a 1\n",
    " # {t=\"1\"} 3",
];

fn exposition() -> impl Strategy<Value = String> {
    proptest::collection::vec(proptest::sample::select(PIECES.to_vec()), 0..24)
        .prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn hints_change_nothing(before in exposition(), now in exposition()) {
        check(&before, &now)?;
        check(&now, &now)?;
    }

    #[test]
    fn hints_of_a_slightly_other_exposition_change_nothing(
        lines in proptest::collection::vec((0..6_u8, 0..3_u8, any::<bool>()), 1..12),
        at in any::<proptest::sample::Index>(),
        byte in proptest::sample::select(b" {}\"\\,=a1\n\t#".to_vec()),
    ) {
        let mut text = String::new();
        for (series, value, stamped) in lines {
            let stamp = if stamped { " 5" } else { "" };
            text.push_str(&format!("m{{l=\"{series}\"}} {value}{stamp}\n"));
        }
        text.push_str("# EOF\n");
        let mut other = text.clone().into_bytes();
        let at = at.index(other.len());
        other[at] = byte;
        let other = String::from_utf8(other).expect("ASCII");
        check(&text, &other)?;
        check(&other, &text)?;
    }
}

#[test]
fn a_name_is_not_taken_for_the_series_it_begins() {
    let mut parser = exposition::Parser::new(b"a {x=\"1\"} 2\nab 3\na\t4\n");
    assert!(parser.known_series(b"a").expect("no fault").is_none());
    assert!(matches!(parser.next_entry(), Ok(Some(Entry::Series(_)))));
    assert!(parser.known_series(b"a").expect("no fault").is_none());
    assert!(matches!(parser.next_entry(), Ok(Some(Entry::Series(_)))));
    let known = parser.known_series(b"a").expect("no fault").expect("it is");
    assert_eq!((known.value, known.timestamp_ms, known.exemplar.is_some()), (4.0, None, false));
    let mut parser = openmetrics::Parser::new(b"a 1 2.5 # {} 3\n# EOF\n");
    let known = parser.known_series(b"a").expect("no fault").expect("it is");
    assert_eq!((known.timestamp_ms, known.exemplar.is_some()), (Some(2_500), true));
    assert!(matches!(parser.next_entry(), Ok(None)));
}
