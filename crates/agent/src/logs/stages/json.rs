//! `json`: values of a JSON line.
//!
//! Expressions that are keys one inside the other are taken out of the text as it is read; no tree is
//! made of it. Others are looked for in a tree.

use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use settings::logs::StageFault;
use settings::logs::stage::JsonStage;

use super::chain::{Clock, Simple};
use super::input::with_input;
use super::jmespath::{Expression, Json, parse, search};
use super::line::Line;

/// A stage as it is configured, compiled.
#[derive(Debug)]
pub(super) struct JsonPlan {
    source: Option<String>,
    drop_malformed: bool,
    /// Keys that are wanted, as a tree.
    wanted: Wanted,
    /// How many values the tree has.
    paths: Vec<String>,
    /// Names with expressions for which a tree is made.
    searched: Vec<(String, Expression)>,
}

/// Keys of an object that are wanted.
#[derive(Debug, Default)]
struct Wanted {
    /// Values that this one is.
    targets: Vec<usize>,
    keys: Vec<(String, Wanted)>,
}

impl JsonPlan {
    pub(super) fn new(stage: &JsonStage) -> Result<Self, StageFault> {
        let mut plan = JsonPlan {
            source: stage.source.clone(),
            drop_malformed: stage.drop_malformed,
            wanted: Wanted::default(),
            paths: Vec::new(),
            searched: Vec::new(),
        };
        for (name, text) in &stage.expressions {
            let expression = parse(text).map_err(|message| StageFault {
                key: "expressions",
                message: format!("could not compile JMES expression: {name}: {message}"),
                help: Some("the language is that of https://jmespath.org".to_owned()),
            })?;
            match expression.keys() {
                Some(keys) => {
                    let mut at = &mut plan.wanted;
                    for key in keys {
                        let known = at.keys.iter().position(|(known, _)| known == key);
                        let index = known.unwrap_or_else(|| {
                            at.keys.push((key.to_owned(), Wanted::default()));
                            at.keys.len() - 1
                        });
                        at = &mut at.keys[index].1;
                    }
                    at.targets.push(plan.paths.len());
                    plan.paths.push(name.clone());
                }
                None => plan.searched.push((name.clone(), expression)),
            }
        }
        Ok(plan)
    }

    pub(super) fn start(self: &Arc<Self>) -> JsonValues {
        let found = vec![Taken::default(); self.paths.len()];
        JsonValues { plan: Arc::clone(self), found, scratch: String::new() }
    }
}

/// What was taken out of a line for one name.
#[derive(Debug, Clone, Default)]
struct Taken {
    text: String,
    kind: TakenKind,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum TakenKind {
    #[default]
    Nothing,
    Text,
    Number(f64),
    Bool(bool),
}

/// The stage of one source.
pub(super) struct JsonValues {
    plan: Arc<JsonPlan>,
    found: Vec<Taken>,
    scratch: String,
}

impl Simple for JsonValues {
    fn apply(&mut self, line: &mut Line, _: &Clock) -> bool {
        let plan = Arc::clone(&self.plan);
        let mut is_good = true;
        with_input(line, plan.source.as_deref(), &mut self.scratch, |text, line| {
            is_good = read(&plan, &mut self.found, text, line);
        });
        is_good || !plan.drop_malformed
    }
}

/// Yields whether the text is an object.
fn read(plan: &JsonPlan, found: &mut [Taken], text: &str, line: &mut Line) -> bool {
    for taken in found.iter_mut() {
        taken.kind = TakenKind::Nothing;
        taken.text.clear();
    }
    if !plan.searched.is_empty() {
        let Ok(tree @ (Json::Object(_) | Json::Null)) = serde_json::from_str::<Json>(text) else {
            return false;
        };
        for (name, expression) in &plan.searched {
            // What cannot be looked for is no value.
            let Ok(value) = search(expression, &tree) else { continue };
            set(line, name, &value);
        }
    }
    if !plan.paths.is_empty() {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let seed = Top { wanted: &plan.wanted, found: &mut *found };
        if seed.deserialize(&mut deserializer).is_err() || deserializer.end().is_err() {
            return false;
        }
    }
    for (name, taken) in plan.paths.iter().zip(found.iter()) {
        match taken.kind {
            TakenKind::Nothing => line.values.set_null(name),
            TakenKind::Text => line.values.set_text(name, &taken.text),
            TakenKind::Number(number) => line.values.set_number_as(name, number, &taken.text),
            TakenKind::Bool(is) => line.values.set_bool(name, is),
        }
    }
    true
}

fn set(line: &mut Line, name: &str, value: &Json) {
    match value {
        Json::Null => line.values.set_null(name),
        Json::Bool(is) => line.values.set_bool(name, *is),
        Json::Integer(number) => {
            line.values.set_number_as(name, *number as f64, &number.to_string());
        }
        Json::Float(number) => line.values.set_number(name, *number),
        Json::Text(text) => line.values.set_text(name, text),
        Json::Array(_) | Json::Object(_) => {
            let mut text = String::new();
            value.write(&mut text);
            line.values.set_text(name, &text);
        }
    }
}

/// Reads the whole line: an object, or nothing at all.
struct Top<'w, 'f> {
    wanted: &'w Wanted,
    found: &'f mut [Taken],
}

impl<'de> DeserializeSeed<'de> for Top<'_, '_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Top<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        members(map, self.wanted, self.found)
    }
}

/// Takes what is wanted of an object.
fn members<'de, A: MapAccess<'de>>(
    mut map: A,
    wanted: &Wanted,
    found: &mut [Taken],
) -> Result<(), A::Error> {
    while let Some(key) = map.next_key_seed(Key(wanted))? {
        match key {
            Some(wanted) => map.next_value_seed(Inside { wanted, found: &mut *found })?,
            None => {
                map.next_value::<IgnoredAny>()?;
            }
        }
    }
    Ok(())
}

/// Looks whether a key is wanted.
struct Key<'w>(&'w Wanted);

impl<'de, 'w> DeserializeSeed<'de> for Key<'w> {
    type Value = Option<&'w Wanted>;

    fn deserialize<D: serde::Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'w> Visitor<'_> for Key<'w> {
    type Value = Option<&'w Wanted>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.keys.iter().find(|(known, _)| known == key).map(|(_, wanted)| wanted))
    }
}

/// Reads a value of a key that is wanted.
struct Inside<'w, 'f> {
    wanted: &'w Wanted,
    found: &'f mut [Taken],
}

impl Inside<'_, '_> {
    fn take(self, kind: TakenKind, write: impl Fn(&mut String)) {
        clear_below(self.wanted, self.found);
        for target in &self.wanted.targets {
            let taken = &mut self.found[*target];
            taken.text.clear();
            write(&mut taken.text);
            taken.kind = kind;
        }
    }
}

/// Of two members of one name the last counts, with all that is in it.
fn clear_below(wanted: &Wanted, found: &mut [Taken]) {
    for (_, below) in &wanted.keys {
        for target in &below.targets {
            found[*target].kind = TakenKind::Nothing;
        }
        clear_below(below, found);
    }
}

impl<'de> DeserializeSeed<'de> for Inside<'_, '_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Inside<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.take(TakenKind::Nothing, |_| {});
        Ok(())
    }

    fn visit_bool<E>(self, is: bool) -> Result<(), E> {
        self.take(TakenKind::Bool(is), |_| {});
        Ok(())
    }

    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        use fmt::Write as _;
        self.take(TakenKind::Number(number as f64), |out| {
            write!(out, "{number}").expect("a string takes everything");
        });
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        use fmt::Write as _;
        self.take(TakenKind::Number(number as f64), |out| {
            write!(out, "{number}").expect("a string takes everything");
        });
        Ok(())
    }

    fn visit_f64<E>(self, number: f64) -> Result<(), E> {
        use fmt::Write as _;
        self.take(TakenKind::Number(number), |out| {
            write!(out, "{number}").expect("a string takes everything");
        });
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.take(TakenKind::Text, |out| out.push_str(text));
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        if self.wanted.targets.is_empty() {
            while items.next_element::<IgnoredAny>()?.is_some() {}
            self.take(TakenKind::Nothing, |_| {});
            return Ok(());
        }
        let mut array = Vec::new();
        while let Some(item) = items.next_element::<Json>()? {
            array.push(item);
        }
        let array = Json::Array(array);
        self.take(TakenKind::Text, |out| array.write(out));
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        clear_below(self.wanted, self.found);
        if self.wanted.targets.is_empty() {
            return members(map, self.wanted, self.found);
        }
        // Wanted as a whole, and perhaps in parts.
        let mut object = std::collections::BTreeMap::new();
        while let Some((name, value)) = map.next_entry::<String, Json>()? {
            object.insert(name, value);
        }
        let object = Json::Object(object);
        for target in &self.wanted.targets {
            let taken = &mut self.found[*target];
            taken.text.clear();
            object.write(&mut taken.text);
            taken.kind = TakenKind::Text;
        }
        parts(&object, self.wanted, self.found);
        Ok(())
    }
}

/// Parts of an object that is wanted as a whole, too.
fn parts(value: &Json, wanted: &Wanted, found: &mut [Taken]) {
    let Json::Object(members) = value else { return };
    for (key, below) in &wanted.keys {
        let Some(member) = members.get(key) else { continue };
        for target in &below.targets {
            let taken = &mut found[*target];
            taken.text.clear();
            (taken.kind, taken.text) = match member {
                Json::Null => (TakenKind::Nothing, String::new()),
                Json::Bool(is) => (TakenKind::Bool(*is), String::new()),
                Json::Integer(number) => (TakenKind::Number(*number as f64), number.to_string()),
                Json::Float(number) => (TakenKind::Number(*number), number.to_string()),
                Json::Text(text) => (TakenKind::Text, text.clone()),
                whole => {
                    let mut text = String::new();
                    whole.write(&mut text);
                    (TakenKind::Text, text)
                }
            };
        }
        parts(member, below, found);
    }
}
