//! The harness's command line.

fn main() {}
