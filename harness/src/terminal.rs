//! What people and scripts read on standard output.

use std::{
    fmt,
    io::{ErrorKind, Write},
    path::Path,
};

/// What a command line of this program begins with, from the project's folder: of the profile that it was built with, so that
/// doing as it says builds nothing anew.
pub(crate) const PROGRAM: &str =
    if cfg!(debug_assertions) { "cargo run -p harness --" } else { "cargo run --release -p harness --" };

/// A path as a shell takes it.
pub(crate) fn for_shell(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./+:,=@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A number of bytes, as people read it.
pub(crate) fn bytes_in_words(bytes: u64) -> String {
    let units = ["kB", "MB", "GB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < units.len() {
        (value, unit) = (value / 1000.0, unit + 1);
    }
    format!("{value:.1} {}", units[unit])
}

/// Prints a line, as `println!` does, but for what [`line`] says.
macro_rules! say {
    ($($words:tt)*) => { $crate::terminal::line(format_args!($($words)*)) };
}

/// Prints a line. Whoever read it may have left (`harness sim … | head`): the results and the exit code are there all the same.
pub(crate) fn line(words: fmt::Arguments<'_>) {
    crate::progress::clear();
    if let Err(error) = writeln!(std::io::stdout(), "{words}")
        && error.kind() != ErrorKind::BrokenPipe
    {
        eprintln!("error: cannot write to standard output: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_given_in_the_unit_that_suits() {
        for (bytes, words) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (999_949, "999.9 kB"),
            (999_950, "1.0 MB"),
            (7_654_000_000_000, "7654.0 GB"),
        ] {
            assert_eq!(bytes_in_words(bytes), words);
        }
    }

    #[test]
    fn a_path_is_quoted_where_a_shell_would_take_it_apart() {
        assert_eq!(for_shell(Path::new("results/smoke/sim-3")), "results/smoke/sim-3");
        assert_eq!(for_shell(Path::new("my runs/$x's")), r"'my runs/$x'\''s'");
    }
}
