//! Routes, groups, inhibition, silences and what is sent when.
