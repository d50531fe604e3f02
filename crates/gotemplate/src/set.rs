//! Templates that may call one another.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use crate::parse::{Parsed, Tree};

/// Where templates are found by their names.
pub trait Library: Debug {
    /// The template to begin with.
    fn main(&self) -> Option<&Tree>;

    /// The template of that name.
    fn tree(&self, name: &str) -> Option<&Tree>;
}

impl Library for Parsed {
    fn main(&self) -> Option<&Tree> {
        Some(&self.main)
    }

    fn tree(&self, name: &str) -> Option<&Tree> {
        let defined = self.defined.iter().find(|tree| tree.name == name);
        defined.or_else(|| (self.main.name == name).then_some(&self.main))
    }
}

/// Templates of several texts. Of those with one name the last counts, unless it is blank.
#[derive(Debug, Clone, Default)]
pub struct Set {
    trees: BTreeMap<String, Arc<Tree>>,
}

impl Set {
    /// Adds the templates of a text.
    pub fn add(&mut self, parsed: Parsed) {
        for tree in parsed.defined.into_iter().chain([parsed.main]) {
            let known = self.trees.get(&tree.name);
            // A blank one does not take the place of another.
            if known.is_none() || !tree.is_blank() {
                self.trees.insert(tree.name.clone(), Arc::new(tree));
            }
        }
    }

    /// The names of all templates.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.trees.keys().map(String::as_str)
    }

    /// A text to execute with these templates at hand; those defined in it come first.
    pub fn with<'a>(&'a self, parsed: &'a Parsed) -> Extended<'a> {
        Extended { set: self, parsed }
    }

    /// The template of that name to execute, with the others at hand; `None` if there is none.
    pub fn named<'a>(&'a self, name: &str) -> Option<Named<'a>> {
        Some(Named { set: self, main: self.trees.get(name)? })
    }
}

/// A text and the templates at hand.
#[derive(Debug, Clone, Copy)]
pub struct Extended<'a> {
    set: &'a Set,
    parsed: &'a Parsed,
}

impl Library for Extended<'_> {
    fn main(&self) -> Option<&Tree> {
        Some(&self.parsed.main)
    }

    fn tree(&self, name: &str) -> Option<&Tree> {
        let own = self.parsed.tree(name);
        let known = || self.set.trees.get(name).map(Arc::as_ref);
        match own {
            Some(tree) if !tree.is_blank() => Some(tree),
            Some(tree) => Some(known().unwrap_or(tree)),
            None => known(),
        }
    }
}

/// A template of a set and the others at hand.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    set: &'a Set,
    main: &'a Tree,
}

impl Library for Named<'_> {
    fn main(&self) -> Option<&Tree> {
        Some(self.main)
    }

    fn tree(&self, name: &str) -> Option<&Tree> {
        self.set.trees.get(name).map(Arc::as_ref)
    }
}
