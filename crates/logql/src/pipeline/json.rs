//! Parsers of JSON lines: `json` and `unpack`.

use hashbrown::HashTable;
use rapidhash::v3::{RapidSecrets, rapidhash_v3_inline};

use super::entry::{Category, Span, StageError, State};
use super::json_scan::{Flow, JsonError, Key, Kind, MAX_DEPTH, Value, each_member, unescape_into};
use super::names::{Name, sanitize_into};

/// Names that would be longer are left out.
const MAX_NAME_BYTES: usize = 2_048;

/// Keys more than this are forgotten between two lines.
const MAX_PATHS: usize = 8_192;

/// Number of a path of keys; the root is 0.
type PathId = u32;

/// A path of keys, met before.
#[derive(Debug)]
struct Path {
    parent: PathId,
    /// The last key as it stands in lines.
    key: Box<str>,
    /// All keys, cleaned and joined; `None` if that is too long.
    name: Option<Name>,
}

/// Makes every string, number and boolean of a line that is a JSON object a label. Keys of nested
/// objects are joined by `_`; arrays are left out.
#[derive(Debug)]
pub(crate) struct JsonParser {
    paths: Vec<Path>,
    /// The path of everything that is left out.
    nameless: Option<PathId>,
    lookup: HashTable<PathId>,
    secrets: RapidSecrets,
    epoch: u32,
    /// A key or value without its escapes.
    unescaped: String,
    joined: String,
}

impl JsonParser {
    pub(crate) fn new(seed: u64) -> Self {
        JsonParser {
            paths: Vec::new(),
            nameless: None,
            lookup: HashTable::new(),
            secrets: RapidSecrets::seed(seed),
            epoch: 0,
            unescaped: String::new(),
            joined: String::new(),
        }
    }

    /// Adds the labels of `line`.
    pub(crate) fn process(&mut self, origin: &str, line: &str, state: &mut State) {
        if state.is_complete() {
            return;
        }
        if self.epoch != state.names.epoch() || self.paths.len() > MAX_PATHS {
            self.paths.clear();
            self.nameless = None;
            self.lookup.clear();
            self.epoch = state.names.epoch();
        }
        if self.paths.is_empty() {
            let root = state.names.intern("");
            self.paths.push(Path { parent: 0, key: "".into(), name: Some(root) });
        }
        if let Err(error) = self.object(origin, line, 0, 0, state) {
            state.set_error(StageError::Json, &error.to_string());
        }
    }

    fn object<'t>(
        &mut self,
        origin: &str,
        text: &'t str,
        path: PathId,
        depth: usize,
        state: &mut State,
    ) -> Result<Flow, JsonError> {
        each_member(text, |key: Key<'t>, value: Value<'t>| {
            match value.kind {
                Kind::String | Kind::Number | Kind::Boolean => {
                    let child = self.child(path, key, state)?;
                    let name = self.paths[child as usize].name;
                    if let Some(name) = name.and_then(|name| state.name_for_parsed(name)) {
                        let value = self.value(origin, value, state);
                        state.set(Category::Parsed, name, value);
                    }
                    if state.is_complete() {
                        return Ok(Flow::Break(()));
                    }
                }
                Kind::Object if depth < MAX_DEPTH => {
                    let child = self.child(path, key, state)?;
                    let name = self.paths[child as usize].name;
                    if name.is_some_and(|name| state.is_prefix_required(name)) {
                        return self.object(origin, value.raw, child, depth + 1, state);
                    }
                }
                Kind::Object | Kind::Array | Kind::Null if key.escaped => {
                    self.unescaped.clear();
                    unescape_into(&mut self.unescaped, key.raw)?;
                }
                Kind::Object | Kind::Array | Kind::Null => {}
            }
            Ok(Flow::Continue(()))
        })
    }

    /// The path of `key` below `parent`.
    fn child(
        &mut self,
        parent: PathId,
        key: Key<'_>,
        state: &mut State,
    ) -> Result<PathId, JsonError> {
        let hash = hash(parent, key.raw, &self.secrets);
        let is_it = |id: &PathId| {
            let path = &self.paths[*id as usize];
            path.parent == parent && &*path.key == key.raw
        };
        if let Some(known) = self.lookup.find(hash, is_it) {
            return Ok(*known);
        }
        self.unescaped.clear();
        let clean = if key.escaped {
            unescape_into(&mut self.unescaped, key.raw)?;
            self.unescaped.as_str()
        } else {
            key.raw
        };
        let name = match self.paths[parent as usize].name {
            Some(prefix) if key.raw.len() <= MAX_NAME_BYTES => {
                self.joined.clear();
                self.joined.push_str(state.names.text(prefix));
                if !self.joined.is_empty() && !clean.trim().is_empty() {
                    self.joined.push('_');
                }
                sanitize_into(&mut self.joined, clean);
                let fits = self.joined.len() <= MAX_NAME_BYTES && !state.names.is_overfull();
                fits.then(|| state.names.intern(&self.joined))
            }
            _ => None,
        };
        let id = PathId::try_from(self.paths.len()).expect("paths are forgotten long before");
        // What has no name needs no place of its own: nothing below it has one either.
        let Some(name) = name else {
            if self.nameless.is_none() {
                self.paths.push(Path { parent: PathId::MAX, key: "".into(), name: None });
            }
            return Ok(*self.nameless.get_or_insert(id));
        };
        self.paths.push(Path { parent, key: key.raw.into(), name: Some(name) });
        let (paths, secrets) = (&self.paths, &self.secrets);
        self.lookup.insert_unique(hash, id, |id| {
            let path = &paths[*id as usize];
            self::hash(path.parent, &path.key, secrets)
        });
        Ok(id)
    }

    fn value(&mut self, origin: &str, value: Value<'_>, state: &mut State) -> Span {
        match value.kind {
            Kind::String => string_value(origin, value.raw, state, &mut self.unescaped),
            _ => state.keep(origin, value.raw),
        }
    }
}

/// A string as the value of a label: with escapes resolved, empty if one is broken, and a blank for
/// each U+FFFD.
pub(crate) fn string_value(
    origin: &str,
    raw: &str,
    state: &mut State,
    unescaped: &mut String,
) -> Span {
    if memchr::memchr2(b'\\', 0xEF, raw.as_bytes()).is_none() {
        return state.keep(origin, raw);
    }
    unescaped.clear();
    if unescape_into(unescaped, raw).is_err() {
        unescaped.clear();
    }
    without_replacement(unescaped, |text| state.write(text))
}

/// Hands over `text` with a blank for each U+FFFD, which is what broken UTF-8 becomes.
pub(crate) fn without_replacement<T>(text: &str, take: impl FnOnce(&str) -> T) -> T {
    if text.contains(char::REPLACEMENT_CHARACTER) {
        take(&text.replace(char::REPLACEMENT_CHARACTER, " "))
    } else {
        take(text)
    }
}

fn hash(parent: PathId, key: &str, secrets: &RapidSecrets) -> u64 {
    rapidhash_v3_inline::<true, false, true>(key.as_bytes(), secrets)
        ^ u64::from(parent).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// The key under which `pack` keeps the line.
const PACKED_ENTRY: &str = "_entry";

/// Undoes Promtail's `pack`: the strings of a JSON object become labels, `_entry` the line. Without
/// `_entry` nothing happens.
pub(crate) fn unpack(origin: &str, line: &str, state: &mut State, scratch: &mut String) {
    if line.is_empty() || state.is_complete() {
        return;
    }
    if !line.starts_with('{') {
        state.set_error(StageError::Json, "expecting json object(6), but it is not");
        return;
    }
    let mut entry = None;
    let mut labels: Vec<(Name, Span)> = Vec::new();
    let outcome = each_member(line, |key, value| {
        if value.kind != Kind::String {
            return Ok(Flow::Continue(()));
        }
        scratch.clear();
        unescape_into(scratch, key.raw)?;
        if scratch.as_str() == PACKED_ENTRY {
            entry = Some(state.write_with(|out| {
                let start = out.len();
                if unescape_into(out, value.raw).is_err() {
                    out.truncate(start);
                }
            }));
            return Ok(Flow::Continue(()));
        }
        let mut clean = String::new();
        sanitize_into(&mut clean, scratch);
        if clean.len() <= MAX_NAME_BYTES && !state.names.is_overfull() {
            let name = state.names.intern(&clean);
            if let Some(name) = state.name_for_parsed(name) {
                labels.push((name, string_value(origin, value.raw, state, scratch)));
            }
        }
        Ok(Flow::Continue(()))
    });
    match (outcome, entry) {
        (Err(error), _) => state.set_error(StageError::Json, &error.to_string()),
        (Ok(_), Some(entry)) => {
            for (name, value) in labels {
                state.set(Category::Parsed, name, value);
            }
            state.set_line(entry);
        }
        (Ok(_), None) => {}
    }
}
