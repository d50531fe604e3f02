//! What is done to a line: filters, parsers, label filters, formats.
