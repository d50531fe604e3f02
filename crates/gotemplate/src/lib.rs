//! Go's `text/template` and `html/template`, bounded in steps, bytes and depth.
//!
//! A text becomes a [`Parsed`], several become a [`Set`], and [`execute`] makes a text of one and
//! of data. Which functions there are besides Go's own says a dialect: a [`Vocabulary`] while a
//! text is read, a [`Context`] while it is executed. Errors are worded as Go words them, with name,
//! line and column.
//!
//! Differences to Go: functions are no values, so that `call` finds none; complex numbers are not
//! known; texts are UTF-8, bytes of a text that are none become U+FFFD.

mod ast;
mod budget;
mod builtins;
mod class;
mod compare;
mod duration;
mod encode;
mod eval;
mod expressions;
mod html;
mod json;
mod letters;
mod lex;
mod methods;
mod number;
mod parse;
mod printf;
mod set;
mod signature;
mod value;

#[cfg(test)]
mod tests;

pub use budget::{Budget, Limits};
pub use builtins::names as builtin_names;
pub use class::{
    Class, Element, LIST, List, MAP, Map, Method, MethodBody, Struct, TEXT_MAP, TEXTS,
};
pub use duration::{parse_duration, write_duration};
pub use encode::{query_escape, query_unescape};
pub use eval::{Context, MissingKey, Request, execute};
pub use expressions::Expressions;
pub use json::write as write_json;
pub use letters::{lower, title, upper};
pub use number::{Number, parse_float, parse_go_integer, parse_number};
pub use parse::{Parsed, Part};
pub use printf::general;
pub use set::{Extended, Library, Named, Set};
pub use signature::{Function, Owner, Param, Signature, Vocabulary};
pub use value::{SafeText, Safety, Value, write_float};
