//! The line that says how long work goes on: one that changes, on a terminal; elsewhere, or where nobody wants it, nothing.

use std::{
    io::{self, IsTerminal as _, Write},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::clock::boottime_ns;

/// How often it may change.
const EVERY_NS: u64 = 100_000_000;

/// More columns than a terminal has would make two lines of it.
const COLUMNS: usize = 78;

/// The line.
#[derive(Debug)]
struct Line {
    wanted: bool,
    on_screen: bool,
    /// When it may change next.
    next: u64,
}

static LINE: Mutex<Line> = Mutex::new(Line { wanted: false, on_screen: false, next: 0 });

/// From now on it is told how the work goes, unless that is not wanted or nobody is there to see it.
pub(crate) fn begin(quiet: bool) {
    line().wanted = !quiet && io::stderr().is_terminal();
}

/// How the work goes. May be asked as often as anything happens.
pub(crate) fn tell(words: impl FnOnce() -> String) {
    line().tell(&mut io::stderr(), boottime_ns(), words);
}

/// Leaves nothing of it on the screen: something else is printed there.
pub(crate) fn clear() {
    line().clear(&mut io::stderr());
}

fn line() -> MutexGuard<'static, Line> {
    LINE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Line {
    fn tell(&mut self, out: &mut impl Write, now: u64, words: impl FnOnce() -> String) {
        if !self.wanted || now < self.next {
            return;
        }
        (self.on_screen, self.next) = (true, now + EVERY_NS);
        let words: String = words().chars().take(COLUMNS).collect();
        write(out, &format!("\r\x1b[K{words}"));
    }

    fn clear(&mut self, out: &mut impl Write) {
        if std::mem::take(&mut self.on_screen) {
            write(out, "\r\x1b[K");
        }
    }
}

fn write(out: &mut impl Write, text: &str) {
    // nobody may be there to see it; the work goes on
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_changes_ten_times_a_second_at_most_and_leaves_nothing() {
        let mut line = Line { wanted: true, on_screen: false, next: 0 };
        let mut out = Vec::new();
        line.clear(&mut out);
        line.tell(&mut out, 5, || "one".to_owned());
        line.tell(&mut out, 6, || unreachable!("it is too early"));
        line.tell(&mut out, 5 + EVERY_NS, || "x".repeat(300));
        line.clear(&mut out);
        line.clear(&mut out);
        let long = "x".repeat(COLUMNS);
        assert_eq!(String::from_utf8_lossy(&out), format!("\r\x1b[Kone\r\x1b[K{long}\r\x1b[K"));
    }

    #[test]
    fn where_it_is_not_wanted_there_is_none() {
        let mut line = Line { wanted: false, on_screen: false, next: 0 };
        let mut out = Vec::new();
        line.tell(&mut out, 5, || unreachable!("nobody asks"));
        line.clear(&mut out);
        assert!(out.is_empty());
    }
}
