//! The store's own command line.

fn main() {}
