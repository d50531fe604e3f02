//! The language: lexer, tree, parser, printer.
