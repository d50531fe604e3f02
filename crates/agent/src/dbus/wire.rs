//! How values are written on the wire. Source: the D-Bus specification, "Message Protocol".

/// A value that came. Types that differ only in width are one here.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// Bytes, booleans and unsigned numbers.
    Number(u64),
    /// Signed numbers.
    Signed(i64),
    /// Floats.
    Float(f64),
    /// Strings, paths of objects and signatures.
    Text(String),
    /// Arrays, structures and entries of dictionaries.
    List(Vec<Value>),
    /// A value with its type.
    Variant(Box<Value>),
}

impl Value {
    /// The text, if it is one.
    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if it is one.
    pub(crate) fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Number(number) => Some(*number as f64),
            Value::Signed(number) => Some(*number as f64),
            Value::Float(number) => Some(*number),
            _ => None,
        }
    }

    /// The parts of an array or structure; nothing for other values.
    pub(crate) fn into_items(self) -> Vec<Value> {
        match self {
            Value::List(items) => items,
            _ => Vec::new(),
        }
    }
}

/// Containers in containers; the specification allows 64.
const MAX_DEPTH: usize = 32;

/// Writes in the order of bytes of this machine.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    out: Vec<u8>,
}

impl Encoder {
    pub(crate) fn len(&self) -> usize {
        self.out.len()
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    pub(crate) fn align(&mut self, bytes: usize) {
        self.out.resize(self.out.len().next_multiple_of(bytes), 0);
    }

    pub(crate) fn u32(&mut self, number: u32) {
        self.align(4);
        self.out.extend(number.to_ne_bytes());
    }

    pub(crate) fn string(&mut self, text: &str) {
        self.u32(text.len() as u32);
        self.out.extend_from_slice(text.as_bytes());
        self.out.push(0);
    }

    pub(crate) fn signature(&mut self, text: &str) {
        self.out.push(text.len() as u8);
        self.out.extend_from_slice(text.as_bytes());
        self.out.push(0);
    }

    /// An array of structures, which `write` adds.
    pub(crate) fn array(&mut self, write: impl FnOnce(&mut Self)) {
        self.u32(0);
        let length_at = self.out.len() - 4;
        self.align(8);
        let start = self.out.len();
        write(self);
        let length = (self.out.len() - start) as u32;
        self.out[length_at..length_at + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// A field of a header: a code and a value with its type.
    pub(crate) fn field(&mut self, code: u8, kind: &str, write: impl FnOnce(&mut Self)) {
        self.align(8);
        self.out.push(code);
        self.signature(kind);
        write(self);
    }

    /// The bytes written, then those of `other`, which starts at a multiple of 8.
    pub(crate) fn append(mut self, other: Encoder) -> Vec<u8> {
        self.out.extend(other.out);
        self.out
    }
}

/// The lengths of a message's fields and of its body.
pub(crate) fn lengths(fixed: &[u8; 16]) -> Option<(u32, u32)> {
    let mut decoder = Decoder::new(fixed)?;
    decoder.skip(4)?;
    let body = decoder.u32()?;
    decoder.skip(4)?;
    Some((decoder.u32()?, body))
}

/// Reads one message, from its first byte.
#[derive(Debug)]
pub(crate) struct Decoder<'a> {
    bytes: &'a [u8],
    at: usize,
    is_little: bool,
}

impl<'a> Decoder<'a> {
    /// `None` if the first byte names no order of bytes.
    pub(crate) fn new(bytes: &'a [u8]) -> Option<Self> {
        let is_little = match bytes.first()? {
            b'l' => true,
            b'B' => false,
            _ => return None,
        };
        Some(Decoder { bytes, at: 0, is_little })
    }

    pub(crate) fn skip(&mut self, count: usize) -> Option<()> {
        self.take(count).map(|_| ())
    }

    pub(crate) fn align(&mut self, bytes: usize) -> Option<()> {
        self.skip(self.at.next_multiple_of(bytes) - self.at)
    }

    /// A value of each type in `signature`; nothing may follow.
    pub(crate) fn values(&mut self, signature: &str) -> Option<Vec<Value>> {
        let mut rest = signature.as_bytes();
        let mut values = Vec::new();
        while !rest.is_empty() {
            let kind = take_type(&mut rest)?;
            values.push(self.typed(kind, 0)?);
        }
        (self.at == self.bytes.len()).then_some(values)
    }

    /// A value of one type.
    pub(crate) fn value(&mut self, kind: &str) -> Option<Value> {
        self.typed(kind.as_bytes(), 0)
    }

    fn typed(&mut self, kind: &[u8], depth: usize) -> Option<Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        match kind {
            b"y" => self.take(1).map(|byte| Value::Number(byte[0].into())),
            b"q" => self.number::<2>().map(|n| Value::Number(u16::from_le_bytes(n).into())),
            b"b" | b"u" | b"h" => self.u32().map(|n| Value::Number(n.into())),
            b"t" => self.number::<8>().map(|n| Value::Number(u64::from_le_bytes(n))),
            b"n" => self.number::<2>().map(|n| Value::Signed(i16::from_le_bytes(n).into())),
            b"i" => self.number::<4>().map(|n| Value::Signed(i32::from_le_bytes(n).into())),
            b"x" => self.number::<8>().map(|n| Value::Signed(i64::from_le_bytes(n))),
            b"d" => self.number::<8>().map(|n| Value::Float(f64::from_le_bytes(n))),
            b"s" | b"o" => {
                let length = self.u32()? as usize;
                self.text(length).map(Value::Text)
            }
            b"g" => {
                let length = usize::from(self.take(1)?[0]);
                self.text(length).map(Value::Text)
            }
            b"v" => {
                let length = usize::from(self.take(1)?[0]);
                let signature = self.text(length)?;
                let mut rest = signature.as_bytes();
                let inner = take_type(&mut rest)?;
                let value = rest.is_empty().then(|| self.typed(inner, depth + 1))??;
                Some(Value::Variant(Box::new(value)))
            }
            [b'a', item @ ..] => self.array(item, depth),
            [b'(', inner @ .., b')'] | [b'{', inner @ .., b'}'] => {
                self.align(8)?;
                let mut rest = inner;
                let mut items = Vec::new();
                while !rest.is_empty() {
                    items.push(self.typed(take_type(&mut rest)?, depth + 1)?);
                }
                Some(Value::List(items))
            }
            _ => None,
        }
    }

    fn array(&mut self, item: &[u8], depth: usize) -> Option<Value> {
        let length = self.u32()? as usize;
        self.align(alignment(item))?;
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len())?;
        let mut items = Vec::new();
        while self.at < end {
            let before = self.at;
            items.push(self.typed(item, depth + 1)?);
            // An empty structure would be read for ever.
            if self.at == before {
                return None;
            }
        }
        (self.at == end).then_some(Value::List(items))
    }

    fn u32(&mut self) -> Option<u32> {
        self.number::<4>().map(u32::from_le_bytes)
    }

    /// The bytes of a number, the least first.
    fn number<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.align(N)?;
        let mut bytes: [u8; N] = self.take(N)?.try_into().ok()?;
        if !self.is_little {
            bytes.reverse();
        }
        Some(bytes)
    }

    /// Text of this length, and the zero that ends it.
    fn text(&mut self, length: usize) -> Option<String> {
        let text = self.take(length)?;
        (self.take(1)? == [0]).then(|| String::from_utf8_lossy(text).into_owned())
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }
}

fn alignment(kind: &[u8]) -> usize {
    match kind.first() {
        Some(b'y' | b'g' | b'v') => 1,
        Some(b'n' | b'q') => 2,
        Some(b'x' | b't' | b'd' | b'(' | b'{') => 8,
        _ => 4,
    }
}

/// Takes one whole type off a signature.
fn take_type<'s>(rest: &mut &'s [u8]) -> Option<&'s [u8]> {
    let mut length = 0;
    while rest.get(length) == Some(&b'a') {
        length += 1;
    }
    let mut open = 0;
    loop {
        match rest.get(length)? {
            b'(' | b'{' => open += 1,
            b')' | b'}' => open -= 1,
            _ => {}
        }
        length += 1;
        if open <= 0 {
            break;
        }
    }
    let (kind, tail) = rest.split_at(length);
    *rest = tail;
    (open == 0).then_some(kind)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(signature: &str) -> Option<Vec<String>> {
        let mut rest = signature.as_bytes();
        let mut types = Vec::new();
        while !rest.is_empty() {
            types.push(String::from_utf8_lossy(take_type(&mut rest)?).into_owned());
        }
        Some(types)
    }

    #[test]
    fn signatures_are_split_into_types() {
        let types = split("sa(ssssssouso)aa{sv}v").expect("valid");
        assert_eq!(types, ["s", "a(ssssssouso)", "aa{sv}", "v"]);
        for wrong in ["a", "(s", ")", "a(s"] {
            assert_eq!(split(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn values_in_both_orders_of_bytes() {
        let little = b"l\0\0\0\x07\0\0\0\x01\0\0\0x\0\0\0";
        let mut decoder = Decoder::new(little).expect("order");
        decoder.skip(4).expect("there");
        let value = decoder.value("(us)");
        // A structure begins at a multiple of 8.
        assert_eq!(value, None);
        let big = b"B\0\0\0\0\0\0\0\0\0\0\x07\0\0\0\x01x\0";
        let mut decoder = Decoder::new(big).expect("order");
        decoder.skip(8).expect("there");
        let wanted = vec![Value::Number(7), Value::Text("x".to_owned())];
        assert_eq!(decoder.values("us"), Some(wanted));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 1..96),
            signature in "[ybnqiuxtdsogvah(){}]{0,12}",
        ) {
            bytes[0] = b'l';
            if let Some(mut decoder) = Decoder::new(&bytes) {
                let _ = decoder.values(&signature);
            }
        }
    }
}
