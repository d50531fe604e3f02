//! What functions and methods are called and what they want.

/// What a function wants at one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Param {
    /// Anything, nothing included.
    Any,
    /// `string`
    Text,
    /// `bool`
    Bool,
    /// `int`
    Int,
    /// `float64`
    Float,
    /// `time.Time`
    Time,
    /// `time.Duration`
    Duration,
    /// A list of texts of any name.
    Texts,
    /// A list of anything, `[]interface {}`.
    List,
    /// A list, map or struct of the class with this name; nothing is taken for an empty one.
    Class(&'static str),
}

impl Param {
    /// The name of the type in Go.
    pub fn type_name(self) -> &'static str {
        match self {
            Param::Any => "interface {}",
            Param::Text => "string",
            Param::Bool => "bool",
            Param::Int => "int",
            Param::Float => "float64",
            Param::Time => "time.Time",
            Param::Duration => "time.Duration",
            Param::Texts => "[]string",
            Param::List => "[]interface {}",
            Param::Class(name) => name,
        }
    }

    /// Whether nothing may stand for it.
    pub(crate) fn takes_nil(self) -> bool {
        matches!(self, Param::Any | Param::Texts | Param::List | Param::Class(_))
    }
}

/// The name of a function or method and what it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    /// Its name.
    pub name: &'static str,
    /// What it wants first.
    pub fixed: &'static [Param],
    /// What it wants any number of behind that.
    pub rest: Option<Param>,
}

impl Signature {
    /// Of a function with so many arguments.
    pub const fn fixed(name: &'static str, fixed: &'static [Param]) -> Self {
        Signature { name, fixed, rest: None }
    }

    /// Of a function with that many arguments and any number behind them.
    pub const fn variadic(name: &'static str, fixed: &'static [Param], rest: Param) -> Self {
        Signature { name, fixed, rest: Some(rest) }
    }

    /// What it wants at a place; `None` where it wants nothing.
    #[inline]
    pub(crate) fn param(&self, at: usize) -> Option<Param> {
        self.fixed.get(at).copied().or(self.rest)
    }

    /// Why it cannot be called with `given` arguments, `piped` of which come from a pipeline.
    #[inline]
    pub(crate) fn check_count(&self, given: usize, piped: usize) -> Result<(), String> {
        let (name, wanted, total) = (self.name, self.fixed.len(), given + piped);
        if self.rest.is_some() {
            if total < wanted {
                return Err(format!(
                    "wrong number of args for {name}: want at least {wanted} got {given}"
                ));
            }
        } else if total != wanted {
            return Err(format!("wrong number of args for {name}: want {wanted} got {total}"));
        }
        Ok(())
    }
}

/// Who a function belongs to, and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// One of those every template has.
    Builtin(usize),
    /// One of the dialect's.
    Dialect(usize),
    /// `name data`: what the template of that name makes, as HTML that is safe.
    Expand,
}

/// A function a template may call.
#[derive(Debug, Clone, Copy)]
pub struct Function {
    /// Its name and what it wants.
    pub signature: &'static Signature,
    /// Who calls it.
    pub owner: Owner,
}

/// The functions a dialect has besides those of every template.
pub trait Vocabulary {
    /// The function of that name, if there is one.
    fn find(&self, name: &str) -> Option<Function>;
}
