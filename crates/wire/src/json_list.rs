//! JSON lists that are read without holding all of them at once.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use crate::WireError;

/// Reads the object `body` and calls `each` with every element of its list `field`, one at a time:
/// read at once they would take many times the body.
///
/// # Errors
/// [`WireError::Text`] for what is no such JSON, and what `each` says.
pub(crate) fn for_each<'b, T: Deserialize<'b>>(
    body: &'b [u8],
    field: &'static str,
    mut each: impl FnMut(T) -> Result<(), WireError>,
) -> Result<(), WireError> {
    let mut fault = None;
    let mut each = |element| each(element).map_err(|error| fault = Some(error)).is_ok();
    let mut json = serde_json::Deserializer::from_slice(body);
    let elements = Object { field, elements: Elements { each: &mut each, of: PhantomData } };
    let result = elements.deserialize(&mut json).and_then(|()| json.end());
    match (fault, result) {
        (Some(fault), _) => Err(fault),
        (None, result) => result
            .map_err(|error| WireError::Text { line: error.line(), message: error.to_string() }),
    }
}

/// Longest part of a body that an error repeats.
const SHOWN_BYTES: usize = 120;

/// What is wrong with an element, without where: its place in itself helps nobody, and would make a
/// reason of its own of each.
pub(crate) fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rfind(" at line ").map_or(&*text, |end| &text[..end]).to_owned()
}

/// The beginning of an element, for who sent it.
pub(crate) fn shown(text: &str) -> String {
    text[..text.floor_char_boundary(SHOWN_BYTES)].to_owned()
}

/// The list in its object.
struct Object<'f, T, F> {
    field: &'static str,
    elements: Elements<'f, T, F>,
}

impl<'de, T: Deserialize<'de>, F: FnMut(T) -> bool> DeserializeSeed<'de> for Object<'_, T, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de, T: Deserialize<'de>, F: FnMut(T) -> bool> Visitor<'de> for Object<'_, T, F> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "an object with the list `{}`", self.field)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut elements = Some(self.elements);
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            if key != self.field {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let elements = elements.take().ok_or_else(|| A::Error::duplicate_field(self.field))?;
            map.next_value_seed(elements)?;
        }
        match elements {
            Some(_) => Err(A::Error::missing_field(self.field)),
            None => Ok(()),
        }
    }
}

/// The list.
struct Elements<'f, T, F> {
    /// Whether to go on.
    each: &'f mut F,
    of: PhantomData<fn(T)>,
}

impl<'de, T: Deserialize<'de>, F: FnMut(T) -> bool> DeserializeSeed<'de> for Elements<'_, T, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de, T: Deserialize<'de>, F: FnMut(T) -> bool> Visitor<'de> for Elements<'_, T, F> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(element) = list.next_element()? {
            if !(self.each)(element) {
                // Not shown: the caller's error is.
                return Err(A::Error::custom("an element is refused"));
            }
        }
        Ok(())
    }
}

/// The first `MOST` elements of a list and how many there are in all.
#[derive(Debug)]
pub(crate) struct Few<T, const MOST: usize> {
    pub(crate) first: Vec<T>,
    pub(crate) count: usize,
}

impl<T, const MOST: usize> Default for Few<T, MOST> {
    fn default() -> Self {
        Few { first: Vec::new(), count: 0 }
    }
}

impl<T, const MOST: usize> Few<T, MOST> {
    /// Adds one more.
    pub(crate) fn push(&mut self, element: T) {
        self.count += 1;
        if self.first.len() < MOST {
            self.first.push(element);
        }
    }
}

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for Few<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Reader<T, const MOST: usize>(PhantomData<fn() -> T>);

        impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for Reader<T, MOST> {
            type Value = Few<T, MOST>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut few = Few::default();
                while let Some(element) = list.next_element()? {
                    few.push(element);
                }
                Ok(few)
            }
        }

        json.deserialize_seq(Reader(PhantomData))
    }
}
