//! Groups of rules, the states of alerts, and unit tests of rules.
