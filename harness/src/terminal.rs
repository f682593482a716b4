//! What people and scripts read on standard output.

use std::{
    fmt,
    io::{ErrorKind, Write},
};

/// Prints a line, as `println!` does, but for what [`line`] says.
macro_rules! say {
    ($($words:tt)*) => { $crate::terminal::line(format_args!($($words)*)) };
}

/// Prints a line. Whoever read it may have left (`harness sim … | head`): the results and the exit code are there all the same.
pub(crate) fn line(words: fmt::Arguments<'_>) {
    if let Err(error) = writeln!(std::io::stdout(), "{words}")
        && error.kind() != ErrorKind::BrokenPipe
    {
        eprintln!("error: cannot write to standard output: {error}");
    }
}
