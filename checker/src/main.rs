//! The checker's command line.

fn main() {}
