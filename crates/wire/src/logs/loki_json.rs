//! Loki's push in JSON.
//!
//! ```text
//! {"streams":[{"stream":{"app":"a"},"values":[["1700000000000000000","a line",{"trace":"1"}]]}]}
//! ```
//!
//! Timestamps are nanoseconds as strings; the third part of a value, its structured metadata, may be
//! missing. Values of labels may be other than strings. Source: `pkg/loghttp/entry.go` and `labels.go` of Loki.

use std::borrow::Cow;
use std::fmt;

use model::LogBatch;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::intake::Intake;
use super::pairs::Pairs;
use super::{LogContext, LogPushError, LogSummary, check_body, stream_labels};

/// Decodes a decompressed request into `out`, which is emptied first.
///
/// # Errors
/// Status 400 for what is no JSON or of another shape, 413 for a body that is too large, 422 for one
/// without a stream; `out` is then empty. A stream or a value that is at fault is no error but a
/// refusal.
pub fn decode(
    body: &[u8],
    context: &LogContext<'_>,
    out: &mut LogBatch,
) -> Result<LogSummary, LogPushError> {
    let decoded = push(body, context, out);
    if decoded.is_err() {
        out.clear();
    }
    decoded
}

fn push(
    body: &[u8],
    context: &LogContext<'_>,
    out: &mut LogBatch,
) -> Result<LogSummary, LogPushError> {
    let intake = Intake::new(context, out);
    check_body(body, context.limits)?;
    let mut reader = Reader {
        intake,
        labels: Pairs::default(),
        metadata: Pairs::default(),
        streams: 0,
        full: None,
    };
    let mut json = serde_json::Deserializer::from_slice(body);
    let read = json.deserialize_map(Request(&mut reader)).and_then(|()| json.end());
    if let Some(full) = reader.full {
        return Err(full);
    }
    read.map_err(|error| LogPushError::bad_request(format!("loghttp.PushRequest: {error}")))?;
    if reader.streams == 0 {
        return Err(LogPushError::no_streams());
    }
    Ok(reader.intake.finish())
}

struct Reader<'a> {
    intake: Intake<'a>,
    labels: Pairs,
    metadata: Pairs,
    streams: u64,
    /// The batch is full.
    full: Option<LogPushError>,
}

/// A member of an object is there twice, which Go takes for the last one, and we for a fault.
fn twice<E: Error>(field: &'static str) -> E {
    E::duplicate_field(field)
}

/// The whole.
struct Request<'r, 'a>(&'r mut Reader<'a>);

impl<'de> Visitor<'de> for Request<'_, '_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object with the list `streams`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut is_read = false;
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if key != "streams" {
                map.next_value::<IgnoredAny>()?;
            } else if std::mem::replace(&mut is_read, true) {
                return Err(twice("streams"));
            } else {
                map.next_value_seed(Streams(self.0))?;
            }
        }
        Ok(())
    }
}

/// The list of streams; `null` is none.
struct Streams<'r, 'a>(&'r mut Reader<'a>);

impl<'de> DeserializeSeed<'de> for Streams<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Streams<'_, '_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("the list `streams`")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Stream(self.0))?.is_some() {
            self.0.streams += 1;
        }
        Ok(())
    }
}

/// One stream.
struct Stream<'r, 'a>(&'r mut Reader<'a>);

impl<'de> DeserializeSeed<'de> for Stream<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Stream<'_, '_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object with `stream` and `values`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let reader = self.0;
        reader.labels.clear();
        let (mut has_labels, mut has_values) = (false, false);
        // Values that stand before the labels are looked at later.
        let mut early: Option<&'de RawValue> = None;
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match &*key {
                "stream" if has_labels => return Err(twice("stream")),
                "stream" => {
                    has_labels = true;
                    map.next_value_seed(Texts { pairs: &mut reader.labels, is_metadata: false })?
                        .map_err(A::Error::custom)?;
                    reader.begin();
                }
                "values" if has_values => return Err(twice("values")),
                "values" => {
                    has_values = true;
                    if has_labels {
                        map.next_value_seed(Values(reader))?;
                    } else {
                        early = Some(map.next_value()?);
                    }
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        if !has_labels {
            reader.begin();
        }
        if let Some(values) = early {
            let mut json = serde_json::Deserializer::from_str(values.get());
            Values(reader).deserialize(&mut json).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

impl Reader<'_> {
    /// Begins the stream with the labels that were read.
    fn begin(&mut self) {
        // Of a label that is there twice the last counts, as in Go's maps.
        let is_last = |index: usize| {
            let (name, _) = self.labels.at(index);
            (index + 1..self.labels.len()).all(|later| self.labels.at(later).0 != name)
        };
        // Of so many labels, which are above the limit in all likelihood, twins are a fault.
        let has_twins = self.labels.len() <= 64 && !(0..self.labels.len()).all(is_last);
        if has_twins {
            let mut last = Pairs::default();
            for index in (0..self.labels.len()).filter(|index| is_last(*index)) {
                let (name, value) = self.labels.at(index);
                last.push(name, value);
            }
            self.labels = last;
        }
        if self.labels.iter().all(|(name, _)| stream_labels::is_plain_name(name)) {
            self.intake.begin(&self.labels);
            return;
        }
        // What is wrong is what a reader of the text would say.
        let mut labels: Vec<(&str, &str)> = self.labels.iter().collect();
        labels.sort_unstable();
        let mut text = String::new();
        stream_labels::write_bare(labels.into_iter(), &mut text);
        let error = stream_labels::read(&text, &mut self.metadata).err();
        let error = error.unwrap_or_else(|| "invalid name of a label".to_owned());
        self.intake.begin_unreadable(&text, &error);
    }
}

/// The values of a stream; `null` is none.
struct Values<'r, 'a>(&'r mut Reader<'a>);

impl<'de> DeserializeSeed<'de> for Values<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Values<'_, '_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("the list `values`")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Entry(self.0))?.is_some() {
            if self.0.full.is_some() {
                // Not shown: the reason why it is full is.
                return Err(A::Error::custom("the batch is full"));
            }
        }
        Ok(())
    }
}

/// One value.
struct Entry<'r, 'a>(&'r mut Reader<'a>);

impl<'de> DeserializeSeed<'de> for Entry<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Entry<'_, '_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a list of a timestamp, a line, and an object")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        const ARITY: &str = "error reading entry: array must have at least 2 and up to 3 values";
        let reader = self.0;
        reader.metadata.clear();
        let mut fault: Option<String> = None;
        let (mut timestamp_ns, mut line) = (None, None);
        if let Some(text) = list.next_element::<MaybeText<'de>>()? {
            match read_timestamp(text.0.as_deref()) {
                Ok(read_ns) => timestamp_ns = Some(read_ns),
                Err(error) => fault = Some(error),
            }
        }
        if let Some(text) = list.next_element::<MaybeText<'de>>()? {
            line = text.0;
            if line.is_none() {
                fault.get_or_insert_with(|| {
                    "error reading entry: the line must be a string".to_owned()
                });
            }
        } else {
            fault.get_or_insert_with(|| ARITY.to_owned());
        }
        let texts = Texts { pairs: &mut reader.metadata, is_metadata: true };
        if let Some(Err(error)) = list.next_element_seed(texts)? {
            fault
                .get_or_insert_with(|| format!("error reading entry: structured metadata {error}"));
        }
        while list.next_element::<IgnoredAny>()?.is_some() {
            fault.get_or_insert_with(|| ARITY.to_owned());
        }
        let line = line.as_deref().unwrap_or_default().as_bytes();
        match (fault, timestamp_ns) {
            (None, Some(timestamp_ns)) => {
                if let Err(full) = reader.intake.line(timestamp_ns, line, &mut reader.metadata) {
                    reader.full = Some(full);
                }
            }
            (fault, _) => {
                let bytes = line.len() + reader.metadata.bytes();
                reader.intake.refuse_malformed(fault.unwrap_or_else(|| ARITY.to_owned()), bytes);
            }
        }
        Ok(())
    }
}

/// The nanoseconds of a timestamp, as Go's `strconv.ParseInt` reads them and says why not.
fn read_timestamp(text: Option<&str>) -> Result<i64, String> {
    let Some(text) = text else {
        return Err("error reading entry timestamp: it must be a string of nanoseconds".to_owned());
    };
    text.parse::<i64>().map_err(|error| {
        use std::num::IntErrorKind;
        let is_far = matches!(error.kind(), IntErrorKind::PosOverflow | IntErrorKind::NegOverflow);
        let reason = if is_far { "value out of range" } else { "invalid syntax" };
        let shown = model::quote::quote(crate::json_list::shown(text).as_str());
        format!("error reading entry timestamp: strconv.ParseInt: parsing {shown}: {reason}")
    })
}

/// A string; anything else is nothing.
pub(super) struct MaybeText<'t>(pub(super) Option<Cow<'t, str>>);

impl<'de: 't, 't> serde::Deserialize<'de> for MaybeText<'t> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Any<'t>(std::marker::PhantomData<&'t ()>);

        impl<'de: 't, 't> Visitor<'de> for Any<'t> {
            type Value = MaybeText<'t>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a value")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<MaybeText<'t>, E> {
                Ok(MaybeText(Some(Cow::Borrowed(text))))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<MaybeText<'t>, E> {
                Ok(MaybeText(Some(Cow::Owned(text.to_owned()))))
            }

            fn visit_unit<E: Error>(self) -> Result<MaybeText<'t>, E> {
                Ok(MaybeText(None))
            }

            fn visit_bool<E: Error>(self, _: bool) -> Result<MaybeText<'t>, E> {
                Ok(MaybeText(None))
            }

            fn visit_i64<E: Error>(self, _: i64) -> Result<MaybeText<'t>, E> {
                Ok(MaybeText(None))
            }

            fn visit_u64<E: Error>(self, _: u64) -> Result<MaybeText<'t>, E> {
                Ok(MaybeText(None))
            }

            fn visit_f64<E: Error>(self, _: f64) -> Result<MaybeText<'t>, E> {
                Ok(MaybeText(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<MaybeText<'t>, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(MaybeText(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<MaybeText<'t>, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(MaybeText(None))
            }
        }

        json.deserialize_any(Any(std::marker::PhantomData))
    }
}

/// An object of strings, of labels also of anything else, into pairs; yields what is wrong where it is another thing.
struct Texts<'r> {
    pairs: &'r mut Pairs,
    /// Whether they are metadata: names become those of labels, and values are strings.
    is_metadata: bool,
}

impl<'de> DeserializeSeed<'de> for Texts<'_> {
    type Value = Result<(), &'static str>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_any(self)
    }
}

const NO_OBJECT: Result<(), &str> = Err("must be an object of strings");

impl<'de> Visitor<'de> for Texts<'_> {
    type Value = Result<(), &'static str>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object of strings")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Ok(()))
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(NO_OBJECT)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(NO_OBJECT)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(NO_OBJECT)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(NO_OBJECT)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(NO_OBJECT)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(NO_OBJECT)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut outcome = Ok(());
        while let Some(name) = map.next_key::<MaybeText<'de>>()? {
            let name = name.0.unwrap_or_default();
            if self.is_metadata {
                match map.next_value::<MaybeText<'de>>()?.0 {
                    Some(value) => self.pairs.push_named(&name, &value),
                    None => outcome = NO_OBJECT,
                }
                continue;
            }
            // Loki does not look at what a label's value is: a number is taken as it is written.
            let raw = map.next_value::<&'de RawValue>()?.get();
            let text: MaybeText<'_> = serde_json::from_str(raw).map_err(A::Error::custom)?;
            self.pairs.push(&name, text.0.as_deref().unwrap_or(raw));
        }
        Ok(outcome)
    }
}
