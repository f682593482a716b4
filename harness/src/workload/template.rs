//! Values that depend on the key: in the values of steps and of presets by range, `{key}` stands for the key of each.

use checker::history::Key;
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::{Fault, problem::suggestion};

/// A value as a workload file writes it. `{key}` in it stands for the key, `{key*10}` for ten times the key, and between bars, as
/// in `{|key|}`, either stands without its sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Template(String);

/// What a template is made of.
enum Piece<'a> {
    Text(&'a str),
    Key(OfKey),
}

/// `{key}`, `{key*10}`, `{|key|}`, `{|key*10|}`
struct OfKey {
    factor: Option<i64>,
    absolute: bool,
}

impl Template {
    /// A template that makes sense for all of these keys.
    pub fn check(text: &Spanned<String>, keys: &[Key]) -> Result<Self, Fault> {
        let template = Self(text.get_ref().clone());
        let pieces = template.pieces().map_err(|unknown| {
            let words = suggestion(unknown, &["{key}", "{key*10}", "{|key|}", "{|key*10|}"], "placeholders");
            Fault::new(text.span(), format!("no placeholder `{unknown}`"), "in this value").help(words)
        })?;
        let calculates =
            |piece: &Piece<'_>| matches!(piece, Piece::Key(of) if of.absolute || of.factor.is_some());
        let no_number = keys.iter().find(|key| number(key).is_none());
        match no_number.filter(|_| pieces.iter().any(calculates)) {
            Some(key) => {
                Err(Fault::new(text.span(), format!("the key {key} is no number"), "calculates with it")
                    .help("write `{key}` for the key as it is, or use keys that are numbers"))
            }
            None => Ok(template),
        }
    }

    /// The value for a key.
    pub fn of(&self, key: &Key) -> String {
        let Ok(pieces) = self.pieces() else { return self.0.clone() };
        pieces.into_iter().map(|piece| piece.of(key)).collect()
    }

    /// The parts of the text, or a placeholder that there is not.
    fn pieces(&self) -> Result<Vec<Piece<'_>>, &str> {
        let mut pieces = Vec::new();
        let mut rest = self.0.as_str();
        while let Some(open) = rest.find('{') {
            let end = rest[open..].find('}').map_or(rest.len(), |close| open + close + 1);
            let (before, placeholder) = (&rest[..open], &rest[open..end]);
            pieces.push(Piece::Text(before));
            pieces.push(Piece::Key(OfKey::parse(placeholder).ok_or(placeholder)?));
            rest = &rest[end..];
        }
        pieces.push(Piece::Text(rest));
        Ok(pieces)
    }
}

impl OfKey {
    fn parse(placeholder: &str) -> Option<Self> {
        let inner = placeholder.strip_prefix('{')?.strip_suffix('}')?;
        let bare = inner.strip_prefix('|').and_then(|inner| inner.strip_suffix('|'));
        let factor = match bare.unwrap_or(inner).strip_prefix("key")? {
            "" => None,
            factor => Some(factor.strip_prefix('*')?.parse().ok()?),
        };
        Some(Self { factor, absolute: bare.is_some() })
    }
}

impl Piece<'_> {
    fn of(&self, key: &Key) -> String {
        match self {
            Self::Text(text) => (*text).to_owned(),
            Self::Key(OfKey { factor: None, absolute: false }) => key.to_string(),
            Self::Key(OfKey { factor, absolute }) => match number(key) {
                Some(number) => {
                    // the product of two numbers of 64 bits has at most 128
                    let product = i128::from(number) * i128::from(factor.unwrap_or(1));
                    (if *absolute { product.abs() } else { product }).to_string()
                }
                None => key.to_string(),
            },
        }
    }
}

#[cfg(test)]
impl From<&str> for Template {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

fn number(key: &Key) -> Option<i64> {
    match key {
        Key::Integer(number) => Some(*number),
        Key::String(text) => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(template: &str, key: &Key) -> String {
        let text = Spanned::new(0..0, template.to_owned());
        Template::check(&text, std::slice::from_ref(key)).expect("a template").of(key)
    }

    #[test]
    fn a_placeholder_stands_for_the_key() {
        let (three, text) = (Key::Integer(-3), Key::String("-3".to_owned()));
        for key in [three, text] {
            assert_eq!(of("a", &key), "a");
            assert_eq!(of("a{key}b{key}", &key), "a-3b-3");
            assert_eq!(of("{key*10}", &key), "-30");
            assert_eq!(of("{|key|}", &key), "3");
            assert_eq!(of("{|key*10|}", &key), "30");
        }
        let least = Key::Integer(i64::MIN);
        assert_eq!(of("{|key*10|}", &least), "92233720368547758080", "does not overflow");
        assert_eq!(of("is {key}", &Key::String("a".to_owned())), "is a");
    }

    #[test]
    fn what_stands_for_nothing_is_refused() {
        for wrong in ["{kay}", "{key", "{}", "{key*}", "{key*ten}", "{key+1}", "{|key}", "a{key|}"] {
            let text = Spanned::new(0..0, wrong.to_owned());
            assert!(Template::check(&text, &[Key::Integer(1)]).is_err(), "{wrong}");
        }
        let text = Spanned::new(0..0, "{|key|}".to_owned());
        assert!(Template::check(&text, &[Key::String("a".to_owned())]).is_err(), "no number");
    }
}
