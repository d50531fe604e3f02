//! Configuration files as the field writes them, with a place for every fault.
