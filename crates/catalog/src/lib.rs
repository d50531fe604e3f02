//! To be filled by its first real code.
