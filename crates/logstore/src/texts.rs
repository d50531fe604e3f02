//! What a line has to hold to be found: one of a few texts.

use memchr::memmem::Finder;

/// A text that is searched.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    pub(crate) finder: Finder<'static>,
    /// Whether no letter, digit, `-` or `_` stands beside it wherever it counts: then more is known of the tokens
    /// that it has. It is found wherever it is.
    pub(crate) is_whole: bool,
}

impl Text {
    pub(crate) fn bytes(&self) -> &[u8] {
        self.finder.needle()
    }
}

/// Texts of which a line holds one; there is one at least, and none is empty.
#[derive(Clone, Debug)]
pub(crate) struct AnyOf(Vec<Text>);

impl AnyOf {
    pub(crate) fn one(bytes: &[u8]) -> Self {
        AnyOf(vec![Text { finder: Finder::new(bytes).into_owned(), is_whole: false }])
    }

    /// Any of several.
    pub(crate) fn texts_of(texts: &[Vec<u8>]) -> Self {
        let text =
            |bytes: &Vec<u8>| Text { finder: Finder::new(bytes).into_owned(), is_whole: false };
        AnyOf(texts.iter().map(text).collect())
    }

    /// A value as it stands in JSON or logfmt: by itself, or in a way that has a backslash.
    pub(crate) fn value(value: &[u8]) -> Self {
        let whole = Text { finder: Finder::new(value).into_owned(), is_whole: true };
        let AnyOf(mut texts) = AnyOf::one(b"\\");
        texts.insert(0, whole);
        AnyOf(texts)
    }

    pub(crate) fn texts(&self) -> &[Text] {
        &self.0
    }

    /// The text, if there is but one.
    pub(crate) fn sole(&self) -> Option<&Text> {
        if let [text] = self.0.as_slice() { Some(text) } else { None }
    }

    pub(crate) fn is_in(&self, line: &[u8]) -> bool {
        self.0.iter().any(|text| text.finder.find(line).is_some())
    }
}
