//! What the stages of a pipeline work on: a line, its labels, its error.

use super::names::{Name, Names};

/// The label that holds why a stage failed at a line.
pub const ERROR_LABEL: &str = "__error__";
/// The label that holds the words of that failure.
pub const ERROR_DETAILS_LABEL: &str = "__error_details__";

/// Where a label of a line comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Category {
    /// It is one of the stream's.
    Stream,
    /// It was sent along with the line.
    StructuredMetadata,
    /// A stage made it.
    Parsed,
}

/// Which stage failed at a line; the value of [`ERROR_LABEL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StageError {
    /// `json` or `unpack` met a line that is no JSON.
    Json,
    /// `logfmt` met a line that is no logfmt.
    Logfmt,
    /// A label filter compares a number, but the label is none.
    LabelFilter,
    /// The label to unwrap is no number.
    SampleExtraction,
    /// A template failed.
    TemplateFormat,
}

impl StageError {
    /// The value of [`ERROR_LABEL`].
    pub fn as_str(self) -> &'static str {
        match self {
            StageError::Json => "JSONParserErr",
            StageError::Logfmt => "LogfmtParserErr",
            StageError::LabelFilter => "LabelFilterErr",
            StageError::SampleExtraction => "SampleExtractionErr",
            StageError::TemplateFormat => "TemplateFormatErr",
        }
    }
}

/// A piece of text: of the line as it came, or of what stages wrote.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Span {
    start: usize,
    end: usize,
    of_origin: bool,
}

impl Span {
    pub(crate) fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// What stands for no index.
const NONE: u32 = u32::MAX;

/// What is known of a name in the line at hand.
#[derive(Debug, Clone, Copy)]
struct Slot {
    /// The line this is about; of another line nothing is known.
    line: u32,
    /// Index of the label a line has of that name, beside the stream's.
    field: u32,
    /// Whether the stream's label of that name was taken away.
    deleted: bool,
    /// Whether a parser made a label of that name: the first one wins.
    extracted: bool,
}

#[derive(Debug, Clone, Copy)]
struct Field {
    name: Name,
    value: Span,
    category: Category,
    live: bool,
}

/// The state of one line on its way through a pipeline. Reused for all lines, so that none of them
/// needs memory of its own.
///
/// The line as it came is not kept here; it is passed along as `origin`.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) names: Names,
    error_name: Name,
    error_details_name: Name,
    /// Labels of the stream in the order of their names.
    stream: Vec<(Name, String)>,
    /// Index into `stream` by name.
    stream_index: Vec<u32>,
    slots: Vec<Slot>,
    line_number: u32,
    fields: Vec<Field>,
    any_deleted: bool,
    /// What stages wrote.
    arena: String,
    line: Option<Span>,
    error: Span,
    error_details: Span,
    sample: Option<f64>,
    /// Labels that are needed of a line, if not all are.
    required: Option<Vec<Name>>,
    required_missing: usize,
}

impl State {
    pub(crate) fn new(seed: u64) -> Self {
        let mut names = Names::new(seed);
        let (error_name, error_details_name) =
            (names.intern(ERROR_LABEL), names.intern(ERROR_DETAILS_LABEL));
        State {
            names,
            error_name,
            error_details_name,
            stream: Vec::new(),
            stream_index: Vec::new(),
            slots: Vec::new(),
            line_number: 0,
            fields: Vec::new(),
            any_deleted: false,
            arena: String::new(),
            line: None,
            error: Span::default(),
            error_details: Span::default(),
            sample: None,
            required: None,
            required_missing: 0,
        }
    }

    /// The labels of the stream the next lines are of. Labels without a value are left out.
    pub(crate) fn set_stream<'s>(&mut self, labels: impl IntoIterator<Item = (&'s str, &'s str)>) {
        self.forget_names_if_full();
        self.stream.clear();
        for (name, value) in labels {
            if !value.is_empty() {
                let name = self.names.intern(name);
                self.stream.push((name, value.to_owned()));
            }
        }
        self.index_stream();
    }

    fn index_stream(&mut self) {
        let names = &self.names;
        self.stream.sort_by(|a, b| names.text(a.0).cmp(names.text(b.0)));
        self.stream_index.clear();
        self.stream_index.resize(self.names.len(), NONE);
        for (index, (name, _)) in self.stream.iter().enumerate() {
            self.stream_index[name.index()] =
                u32::try_from(index).expect("a stream has few labels");
        }
    }

    fn forget_names_if_full(&mut self) {
        if self.names.is_full() {
            let texts: Vec<String> =
                self.stream.iter().map(|(name, _)| self.names.text(*name).to_owned()).collect();
            self.names.forget();
            for ((name, _), text) in self.stream.iter_mut().zip(&texts) {
                *name = self.names.intern(text);
            }
            self.index_stream();
            self.slots.clear();
        }
    }

    /// Which labels are needed in the end; `None` if all are. Parsers leave out others.
    pub(crate) fn set_required(&mut self, required: Option<&[String]>) {
        self.required = required
            .map(|texts| texts.iter().map(|text| self.names.intern(text)).collect::<Vec<_>>());
    }

    /// Begins another line.
    pub(crate) fn begin(&mut self) {
        self.forget_names_if_full();
        self.line_number = self.line_number.wrapping_add(1);
        if self.line_number == 0 {
            self.slots.clear();
            self.line_number = 1;
        }
        self.fields.clear();
        self.any_deleted = false;
        self.arena.clear();
        self.line = None;
        self.error = Span::default();
        self.error_details = Span::default();
        self.sample = None;
        self.required_missing = self.required.as_ref().map_or(0, Vec::len);
    }

    /// Adds a label that came with the line. An empty value is one, as in Loki.
    pub(crate) fn add_metadata(&mut self, name: &str, value: &str) {
        let mut name = self.names.intern(name);
        if name == self.error_name {
            self.error = self.write(value);
            return;
        }
        if name == self.error_details_name {
            self.error_details = self.write(value);
            return;
        }
        if self.stream_has(name) {
            name = self.names.extracted(name);
        }
        let value = self.write(value);
        self.set(Category::StructuredMetadata, name, value);
    }

    fn slot(&mut self, name: Name) -> &mut Slot {
        let line = self.line_number;
        if self.slots.len() <= name.index() {
            let empty = Slot { line: 0, field: NONE, deleted: false, extracted: false };
            self.slots.resize(self.names.len().max(name.index() + 1), empty);
        }
        let slot = &mut self.slots[name.index()];
        if slot.line != line {
            *slot = Slot { line, field: NONE, deleted: false, extracted: false };
        }
        slot
    }

    fn known(&self, name: Name) -> Option<&Slot> {
        self.slots.get(name.index()).filter(|slot| slot.line == self.line_number)
    }

    fn field(&self, name: Name) -> Option<&Field> {
        let slot = self.known(name)?;
        self.fields.get(slot.field as usize).filter(|field| field.live)
    }

    /// Whether the stream has a label of that name, taken away or not.
    pub(crate) fn stream_has(&self, name: Name) -> bool {
        self.stream_index.get(name.index()).is_some_and(|index| *index != NONE)
    }

    fn stream_value(&self, name: Name) -> Option<&str> {
        let index = *self.stream_index.get(name.index())?;
        self.stream.get(index as usize).map(|(_, value)| value.as_str())
    }

    /// What a parser has to call a label it finds, or `None` if it need not be kept: because an
    /// earlier one of that name won, or because nobody needs it.
    pub(crate) fn name_for_parsed(&mut self, name: Name) -> Option<Name> {
        let name = self.unless_taken(name);
        let wanted = self.is_required(name) && !self.known(name).is_some_and(|slot| slot.extracted);
        wanted.then_some(name)
    }

    /// The name itself, or, if the stream or the metadata has a label of that name, the one with the
    /// suffix.
    pub(crate) fn unless_taken(&mut self, name: Name) -> Name {
        let taken = self.stream_has(name)
            || self.field(name).is_some_and(|field| field.category == Category::StructuredMetadata);
        if taken { self.names.extracted(name) } else { name }
    }

    /// Whether the label is needed in the end.
    pub(crate) fn is_required(&self, name: Name) -> bool {
        self.required.as_ref().is_none_or(|required| required.contains(&name))
    }

    /// Whether some label that is needed may start with `prefix`.
    pub(crate) fn is_prefix_required(&self, prefix: Name) -> bool {
        self.required.as_ref().is_none_or(|required| {
            let prefix = self.names.text(prefix);
            required.iter().any(|name| self.names.text(*name).starts_with(prefix))
        })
    }

    /// Whether all labels that are needed were made, so that parsers may stop.
    pub(crate) fn is_complete(&self) -> bool {
        self.required.is_some() && self.required_missing == 0
    }

    /// Sets a label. Of labels with one name the parsed one counts, then the metadata's, then the
    /// stream's.
    pub(crate) fn set(&mut self, category: Category, name: Name, value: Span) {
        let required = self.required.as_ref().is_some_and(|required| required.contains(&name));
        let next = u32::try_from(self.fields.len()).unwrap_or(NONE);
        let slot = self.slot(name);
        let at = slot.field;
        if at == NONE {
            slot.field = next;
        }
        let first = category == Category::Parsed && !slot.extracted;
        slot.extracted |= category == Category::Parsed;
        if first && required {
            self.required_missing = self.required_missing.saturating_sub(1);
        }
        match self.fields.get_mut(at as usize) {
            Some(field) => {
                if !field.live || category >= field.category {
                    *field = Field { name, value, category, live: true };
                }
            }
            None => self.fields.push(Field { name, value, category, live: true }),
        }
    }

    /// Takes a label away, whatever its category.
    pub(crate) fn delete(&mut self, name: Name) {
        let at = self.slot(name).field;
        if let Some(field) = self.fields.get_mut(at as usize) {
            field.live = false;
        }
        self.mark_deleted(name);
    }

    fn mark_deleted(&mut self, name: Name) {
        self.slot(name).deleted = true;
        self.any_deleted = true;
    }

    /// The value of a label and where it comes from. The error labels are no labels here.
    pub(crate) fn get<'a>(&'a self, origin: &'a str, name: Name) -> Option<(&'a str, Category)> {
        if let Some(field) = self.field(name) {
            return Some((self.text(origin, field.value), field.category));
        }
        if self.known(name).is_some_and(|slot| slot.deleted) {
            return None;
        }
        self.stream_value(name).map(|value| (value, Category::Stream))
    }

    /// The value a string filter sees: the error for [`ERROR_LABEL`], empty for what is not there.
    pub(crate) fn value_or_error<'a>(&'a self, origin: &'a str, name: Name) -> &'a str {
        if name == self.error_name {
            return self.error(origin);
        }
        if name == self.error_details_name {
            return self.error_details(origin);
        }
        self.get(origin, name).map_or("", |(value, _)| value)
    }

    /// Where the value of a label lies, the error's included.
    pub(crate) fn span(&mut self, name: Name) -> Option<Span> {
        if name == self.error_name || name == self.error_details_name {
            let span = if name == self.error_name { self.error } else { self.error_details };
            return (!span.is_empty()).then_some(span);
        }
        if let Some(field) = self.field(name) {
            return Some(field.value);
        }
        if self.known(name).is_some_and(|slot| slot.deleted) {
            return None;
        }
        let index = *self.stream_index.get(name.index())?;
        let (_, value) = self.stream.get(index as usize)?;
        let start = self.arena.len();
        self.arena.push_str(value);
        Some(Span { start, end: self.arena.len(), of_origin: false })
    }

    /// Names of all labels, the error's included, unsorted.
    pub(crate) fn label_names(&self, origin: &str, names: &mut Vec<Name>) {
        names.clear();
        self.for_each(origin, |name, _, _| names.push(name));
    }

    /// The sample unwrapped of the line, if a stage did.
    pub(crate) fn sample(&self) -> Option<f64> {
        self.sample
    }

    pub(crate) fn set_sample(&mut self, value: f64) {
        self.sample = Some(value);
    }

    pub(crate) fn text<'a>(&'a self, origin: &'a str, span: Span) -> &'a str {
        let whole = if span.of_origin { origin } else { self.arena.as_str() };
        &whole[span.start..span.end]
    }

    /// Keeps `text` for this line.
    pub(crate) fn write(&mut self, text: &str) -> Span {
        let start = self.arena.len();
        self.arena.push_str(text);
        Span { start, end: self.arena.len(), of_origin: false }
    }

    /// Keeps what `write` appends to the text it gets.
    pub(crate) fn write_with(&mut self, write: impl FnOnce(&mut String)) -> Span {
        let start = self.arena.len();
        write(&mut self.arena);
        debug_assert!(self.arena.len() >= start, "text is only appended");
        Span { start, end: self.arena.len(), of_origin: false }
    }

    /// Keeps `part`: without a copy, if it is a part of `origin`.
    pub(crate) fn keep(&mut self, origin: &str, part: &str) -> Span {
        // Addresses are only compared; the range is of `origin` by what they say.
        let (from, at) = (origin.as_ptr() as usize, part.as_ptr() as usize);
        if at >= from && at + part.len() <= from + origin.len() {
            let start = at - from;
            return Span { start, end: start + part.len(), of_origin: true };
        }
        self.write(part)
    }

    /// The line as it is now, as text.
    pub(crate) fn line<'a>(&'a self, origin: &'a str) -> &'a str {
        self.line.map_or(origin, |line| self.text(origin, line))
    }

    /// Where the line is now; `None` if no stage changed it.
    pub(crate) fn line_span(&self) -> Option<Span> {
        self.line
    }

    pub(crate) fn set_line(&mut self, line: Span) {
        self.line = Some(line);
    }

    pub(crate) fn has_error(&self) -> bool {
        !self.error.is_empty()
    }

    pub(crate) fn error<'a>(&'a self, origin: &'a str) -> &'a str {
        self.text(origin, self.error)
    }

    pub(crate) fn error_details<'a>(&'a self, origin: &'a str) -> &'a str {
        self.text(origin, self.error_details)
    }

    pub(crate) fn set_error(&mut self, error: StageError, details: &str) {
        self.error = self.write(error.as_str());
        self.error_details = self.write(details);
    }

    pub(crate) fn clear_error(&mut self) {
        self.error = Span::default();
    }

    pub(crate) fn clear_error_details(&mut self) {
        self.error_details = Span::default();
    }

    pub(crate) fn is_error_name(&self, name: Name) -> bool {
        name == self.error_name
    }

    pub(crate) fn is_error_details_name(&self, name: Name) -> bool {
        name == self.error_details_name
    }

    /// Whether the labels are those of the stream, and nothing failed.
    pub(crate) fn is_stream_only(&self) -> bool {
        !self.any_deleted
            && !self.has_error()
            && self.error_details.is_empty()
            && self.fields.iter().all(|field| !field.live)
    }

    /// All labels, unsorted, the error's included. `push` gets name, value and category.
    pub(crate) fn for_each<'a>(
        &'a self,
        origin: &'a str,
        mut push: impl FnMut(Name, &'a str, Category),
    ) {
        let (has_error, has_details) = (self.has_error(), !self.error_details.is_empty());
        // A parser may be told to make a label of that name.
        let is_errors = |name: Name| {
            has_error && name == self.error_name || has_details && name == self.error_details_name
        };
        for (name, value) in &self.stream {
            match self.known(*name) {
                Some(slot) if slot.deleted => {}
                Some(_) if self.field(*name).is_some() => {}
                _ if is_errors(*name) => {}
                _ => push(*name, value, Category::Stream),
            }
        }
        for field in self.fields.iter().filter(|field| field.live && !is_errors(field.name)) {
            push(field.name, self.text(origin, field.value), field.category);
        }
        if has_error {
            push(self.error_name, self.error(origin), Category::Parsed);
        }
        if has_details {
            push(self.error_details_name, self.error_details(origin), Category::Parsed);
        }
    }
}
