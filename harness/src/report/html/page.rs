//! One page from the template, the style, the scripts and the data, all in one file that fetches nothing.
//!
//! Keys, values and errors come from the run and may be anything. In the data they stand in JSON without any `<`, so that
//! nothing in them ends the block; the few that stand in the page itself are escaped.

use std::collections::BTreeMap;

use serde::Serialize;

const TEMPLATE: &str = include_str!("assets/page.html");
const STYLE: &str = include_str!("assets/style.css");
/// In the order in which they build on one another.
const SCRIPTS: [&str; 15] = [
    include_str!("assets/data.js"),
    include_str!("assets/draw.js"),
    include_str!("assets/head.js"),
    include_str!("assets/axis.js"),
    include_str!("assets/tracks.js"),
    include_str!("assets/roles.js"),
    include_str!("assets/latency.js"),
    include_str!("assets/operations.js"),
    include_str!("assets/stretched.js"),
    include_str!("assets/finding.js"),
    include_str!("assets/subhistory.js"),
    include_str!("assets/leases.js"),
    include_str!("assets/network.js"),
    include_str!("assets/selftest.js"),
    include_str!("assets/main.js"),
];

/// What stands in the page itself, also for those who read it without scripts.
pub(super) struct Headline {
    /// `valid`, `violation`, `unknown`.
    pub(super) verdict: String,
    /// The first line.
    pub(super) line: String,
    /// How to do it again.
    pub(super) again: String,
}

/// The whole page.
pub(super) fn page(headline: &Headline, data: &impl Serialize) -> serde_json::Result<String> {
    let parts: BTreeMap<&str, String> = [
        ("title", escaped(&format!("{} {}", headline.verdict, headline.line))),
        ("verdict", escaped(&headline.verdict)),
        ("line", escaped(&headline.line)),
        ("again", escaped(&headline.again)),
        ("style", STYLE.to_owned()),
        ("script", SCRIPTS.join("\n")),
        ("data", harmless(&serde_json::to_string(data)?)),
    ]
    .into();
    let mut page = String::new();
    let mut rest = TEMPLATE;
    // what was filled in is not looked at again
    while let Some((before, behind)) = rest.split_once("{{") {
        page += before;
        let (name, behind) = behind.split_once("}}").expect("the template closes what it opens");
        page += parts.get(name).expect("the template names what there is");
        rest = behind;
    }
    Ok(page + rest)
}

/// JSON that may stand in a script block: these characters occur in its texts only, where they can be written as numbers.
fn harmless(json: &str) -> String {
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

/// Text that may stand in HTML, in attributes, too.
fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_run_holds_ends_no_block_and_begins_none() {
        let evil = "</script><script>alert(1)</script><!--\u{2028}&\"' {{style}}";
        let headline =
            Headline { verdict: "valid".to_owned(), line: evil.to_owned(), again: evil.to_owned() };
        let page = page(&headline, &BTreeMap::from([(evil, evil)])).expect("plain data");
        assert_eq!(page.matches("alert(1)").count(), 5, "title, line, command, key and value");
        assert!(!page.contains("<script>alert"));
        assert_eq!(page.matches("</script>").count(), TEMPLATE.matches("</script>").count());
        assert_eq!(page.matches("<!--").count(), TEMPLATE.matches("<!--").count());
        let (_, data) = page.split_once("type=\"application/json\">").expect("a block of data");
        let (data, _) = data.split_once("</script>").expect("its end");
        let read: BTreeMap<String, String> = serde_json::from_str(data).expect("still the same JSON");
        assert_eq!(read, BTreeMap::from([(evil.to_owned(), evil.to_owned())]));
    }

    #[test]
    fn the_page_fetches_nothing() {
        for asset in SCRIPTS.into_iter().chain([TEMPLATE, STYLE]) {
            for way in ["http:", "https:", "@import", "fetch(", "XMLHttpRequest", "import(", "<link", " src="]
            {
                assert!(!asset.replace("http://www.w3.org/2000/svg", "").contains(way), "{way}");
            }
            assert!(!asset.contains("</script") || asset == TEMPLATE, "it would end its own block");
        }
    }
}
