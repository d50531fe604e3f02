//! What one execution may use.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::class::Class;
use crate::value::Value;

/// How deep lists, maps and structs may be inside one another. Deeper ones could not be printed or
/// dropped without a deep stack.
const MAX_VALUE_DEPTH: u32 = 160;

/// Blocks and templates that may be at work inside one another.
const MAX_DEPTH: u32 = 240;

/// What one execution of a template may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Steps: commands and rounds of loops.
    pub steps: u32,
    /// Bytes of the output, and of each text a function makes.
    pub text_bytes: usize,
    /// Bytes of all texts and lists that functions make, together with those they search.
    pub made_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { steps: 100_000, text_bytes: 1 << 20, made_bytes: 32 << 20 }
    }
}

/// What one execution may still use.
#[derive(Debug)]
pub struct Budget {
    limits: Limits,
    steps: u32,
    made_bytes: usize,
    depth: u32,
}

impl Budget {
    /// All of the limits.
    #[inline]
    pub fn new(limits: Limits) -> Self {
        Budget { limits, steps: 0, made_bytes: 0, depth: 0 }
    }

    /// What there was at first.
    #[inline]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// What is left, for a template that a function executes. What that used is to be
    /// [absorbed](Budget::absorb).
    pub fn inner(&self) -> Budget {
        Budget { ..*self }
    }

    /// Counts what was used of what was left.
    pub fn absorb(&mut self, inner: &Budget) {
        self.steps = inner.steps;
        self.made_bytes = inner.made_bytes;
    }

    /// Counts a block, a template or parentheses that are entered.
    #[inline]
    pub(crate) fn enter(&mut self) -> Result<(), String> {
        if self.depth == MAX_DEPTH {
            return Err(format!("exceeded maximum template depth ({MAX_DEPTH})"));
        }
        self.depth += 1;
        Ok(())
    }

    /// Counts one that is left.
    #[inline]
    pub(crate) fn leave(&mut self) {
        self.depth -= 1;
    }

    /// Counts a step.
    ///
    /// # Errors
    /// It was one too many.
    #[inline]
    pub fn step(&mut self) -> Result<(), String> {
        self.steps += 1;
        if self.steps > self.limits.steps { self.too_many_steps() } else { Ok(()) }
    }

    #[cold]
    fn too_many_steps(&self) -> Result<(), String> {
        let most = self.limits.steps;
        Err(format!("the template takes more than {most} steps; loop less"))
    }

    /// A text a function made, if it may.
    ///
    /// # Errors
    /// It is too long, or there was too much before.
    #[inline]
    pub fn text<'d>(&mut self, text: impl Into<Cow<'d, str>>) -> Result<Value<'d>, String> {
        let text = text.into();
        self.spend(text.len())?;
        Ok(Value::Text(text))
    }

    /// A list a function made, if it may.
    ///
    /// # Errors
    /// It is too long or too deep, or there was too much before.
    pub fn list<'d>(
        &mut self,
        class: &'static Class,
        items: Vec<Value<'d>>,
    ) -> Result<Value<'d>, String> {
        self.count(items.len().saturating_mul(size_of::<Value<'_>>()))?;
        Self::shallow(Value::list(class, items))
    }

    /// A map a function made, if it may.
    ///
    /// # Errors
    /// It is too large or too deep, or there was too much before.
    pub fn map<'d>(
        &mut self,
        class: &'static Class,
        entries: BTreeMap<Cow<'d, str>, Value<'d>>,
    ) -> Result<Value<'d>, String> {
        let keys: usize = entries.keys().map(|key| key.len()).sum();
        self.count(entries.len().saturating_mul(2 * size_of::<Value<'_>>()).saturating_add(keys))?;
        Self::shallow(Value::map(class, entries))
    }

    fn shallow(value: Value<'_>) -> Result<Value<'_>, String> {
        if value.depth() > MAX_VALUE_DEPTH {
            return Err(format!(
                "the template puts lists and maps into one another more than {MAX_VALUE_DEPTH} \
                 deep; nest less"
            ));
        }
        Ok(value)
    }

    /// Counts a text of `len` bytes.
    ///
    /// # Errors
    /// It is too long, or there was too much before.
    #[inline]
    pub fn spend(&mut self, len: usize) -> Result<(), String> {
        self.made_bytes = self.made_bytes.saturating_add(len);
        self.allow(len)
    }

    /// Counts bytes that a function makes or searches.
    ///
    /// # Errors
    /// There was too much before.
    #[inline]
    pub fn count(&mut self, len: usize) -> Result<(), String> {
        self.made_bytes = self.made_bytes.saturating_add(len);
        self.allow(0)
    }

    /// Whether a text of `len` bytes may be made.
    ///
    /// # Errors
    /// It would be too long, or there was too much before.
    #[inline]
    pub fn allow(&self, len: usize) -> Result<(), String> {
        if len > self.limits.text_bytes || self.made_bytes > self.limits.made_bytes {
            return Err(self.too_much(len));
        }
        Ok(())
    }

    #[cold]
    fn too_much(&self, len: usize) -> String {
        let Limits { text_bytes, made_bytes, .. } = self.limits;
        if len > text_bytes {
            return format!(
                "the template makes a text of more than {text_bytes} bytes; repeat or pad less"
            );
        }
        format!("the template makes more than {made_bytes} bytes of text; loop less")
    }
}
