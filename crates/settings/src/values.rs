//! Values for configurations read with serde.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::duration::{format_duration, parse_duration};
use crate::size::parse_size;

/// A duration in a file: `15d`, `1h30m`, `10s`. Its error says what to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DurationValue(pub Duration);

impl<'de> Deserialize<'de> for DurationValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_duration(&text)
            .map(DurationValue)
            .map_err(|error| de::Error::custom(format!("{error}\nhelp: {}", error.help())))
    }
}

impl Serialize for DurationValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format_duration(self.0))
    }
}

/// A size in a file, in bytes: `32MB`, `1.5GiB`, or a plain number of bytes. Its error says what
/// to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SizeValue(pub u64);

impl<'de> Deserialize<'de> for SizeValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if let Ok(bytes) = text.parse() {
            return Ok(SizeValue(bytes));
        }
        parse_size(&text)
            .map(SizeValue)
            .map_err(|error| de::Error::custom(format!("{error}\nhelp: {}", error.help())))
    }
}

impl Serialize for SizeValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}
