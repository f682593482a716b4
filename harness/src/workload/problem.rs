//! What is wrong with a workload file, shown like a compiler's error: file, line, column, a caret, and what would be right.

use std::{fmt, ops::Range};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet, renderer::DecorStyle};

/// What is wrong at one place of a workload file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where, in bytes of the file.
    pub span: Range<usize>,
    /// What is wrong, in one line.
    pub title: String,
    /// What stands at the place.
    pub label: String,
    /// What would be right.
    pub help: Option<String>,
}

/// A workload file that cannot be used, ready to be shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problem {
    rendered: String,
}

impl Fault {
    /// A fault at a place.
    pub fn new(span: Range<usize>, title: impl Into<String>, label: impl Into<String>) -> Self {
        Self { span, title: title.into(), label: label.into(), help: None }
    }

    /// Says what would be right.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The fault without a place.
    pub fn in_words(&self) -> String {
        let help = self.help.as_ref().map(|help| format!("; {help}")).unwrap_or_default();
        format!("{} ({}){help}", self.title, self.label)
    }

    /// The fault in its file.
    pub fn into_problem(self, path: &str, source: &str) -> Problem {
        let snippet = Snippet::source(source).path(path).annotation(
            AnnotationKind::Primary.span(visible(source, self.span.clone())).label(self.label.as_str()),
        );
        let mut report = vec![Level::ERROR.primary_title(self.title.as_str()).element(snippet)];
        if let Some(help) = &self.help {
            report.push(Group::with_title(Level::HELP.secondary_title(help.as_str())));
        }
        let renderer = Renderer::plain().decor_style(DecorStyle::Ascii);
        Problem { rendered: renderer.render(&report) }
    }
}

impl From<toml::de::Error> for Fault {
    /// Puts what the parser says into the words of a workload file.
    fn from(error: toml::de::Error) -> Self {
        let span = error.span().unwrap_or(0..0);
        let message = error.message();
        if let Some((unknown, known)) = names_in(message, "unknown field") {
            let fault = Self::new(span, format!("unknown key `{unknown}`"), "no such key in this table");
            return fault.help(suggestion(&unknown, &known, "keys here"));
        }
        if let Some((unknown, known)) = names_in(message, "unknown variant") {
            let fault =
                Self::new(span, format!("unknown word `{unknown}`"), "not one of the words for this key");
            return fault.help(suggestion(&unknown, &known, "words for it"));
        }
        if let Some(name) = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
            let fault = Self::new(span, format!("missing key `{name}`"), "in this table");
            return fault.help(format!("add `{name} = …` to the table"));
        }
        for kind in ["type", "value", "length"] {
            let found = message.strip_prefix(&format!("invalid {kind}: "));
            if let Some((found, expected)) = found.and_then(|rest| rest.rsplit_once(", expected ")) {
                let expected = plain_words(expected);
                let fault =
                    Self::new(span, format!("wrong {kind}"), format!("this is {}", plain_words(found)));
                return fault.help(match near_example(found, &expected) {
                    Some(example) => format!("did you mean \"{example}\"? Write {expected}"),
                    None => format!("write {expected}"),
                });
            }
        }
        Self::new(span, message.lines().next().unwrap_or("this is not TOML"), "here")
    }
}

impl Problem {
    /// A file that cannot be read at all.
    pub fn unreadable(path: &str, error: &std::io::Error) -> Self {
        Self { rendered: format!("error: cannot read the workload {path}: {error}") }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rendered)
    }
}

/// "Did you mean" for a near miss, else everything that could stand there.
pub fn suggestion<S: AsRef<str>>(unknown: &str, known: &[S], what: &str) -> String {
    let nearest = known.iter().map(|name| (distance(unknown, name.as_ref()), name.as_ref())).min();
    let all = known.iter().map(|name| format!("`{}`", name.as_ref())).collect::<Vec<_>>().join(", ");
    match nearest {
        Some((distance, name)) if distance <= 1 + name.len() / 4 || name.starts_with(unknown) => {
            format!("did you mean `{name}`? The {what}: {all}")
        }
        Some(_) => format!("the {what}: {all}"),
        None => format!("there are no {what}"),
    }
}

/// The example in quotes that is nearest to the text that was found, if one is near.
fn near_example<'a>(found: &str, expected: &'a str) -> Option<&'a str> {
    let text = found.strip_prefix("string \"")?.strip_suffix('"')?;
    let examples = expected.split('"').skip(1).step_by(2);
    let near = examples.map(|example| (distance(text, example), example)).min()?;
    (near.0 <= near.1.len() / 4).then_some(near.1)
}

/// A table's span covers many lines: only its first is marked.
fn visible(source: &str, span: Range<usize>) -> Range<usize> {
    let start = span.start.min(source.len());
    let end = span.end.clamp(start, source.len());
    let line = source.get(start..end).and_then(|text| text.find('\n')).map_or(end, |newline| start + newline);
    start..line
}

/// The unknown name and the known ones in "unknown field `a`, expected one of `b`, `c`".
fn names_in(message: &str, prefix: &str) -> Option<(String, Vec<String>)> {
    let rest = message.strip_prefix(prefix)?;
    let mut quoted = rest.split('`').skip(1).step_by(2).map(str::to_owned);
    let unknown = quoted.next()?;
    Some((unknown, quoted.collect()))
}

/// The parser's names of types in words for people.
fn plain_words(text: &str) -> String {
    let (kind, value) = text.split_once(' ').unwrap_or((text, ""));
    match (kind, value) {
        ("u64" | "u32" | "usize", "") => "a whole number that is not negative".to_owned(),
        ("i64", "") => "a whole number".to_owned(),
        ("f64", "") => "a number".to_owned(),
        ("a" | "map" | "sequence", "" | "boolean") => match kind {
            "map" => "a table".to_owned(),
            "sequence" => "a list".to_owned(),
            _ => "`true` or `false`".to_owned(),
        },
        ("a", "string") => "a text in quotes".to_owned(),
        ("a", "sequence") => "a list".to_owned(),
        ("struct", _) => "a table".to_owned(),
        ("string", _) => format!("the text {value}"),
        ("integer" | "floating", _) => format!("the number {}", value.trim_start_matches("point ")),
        ("boolean", _) => format!("the truth value {value}"),
        _ => text.to_owned(),
    }
}

/// Levenshtein distance.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, a) in left.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, b) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}
