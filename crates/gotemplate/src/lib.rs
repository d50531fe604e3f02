//! Go's `text/template` and `html/template`, bounded in steps, bytes and depth.
