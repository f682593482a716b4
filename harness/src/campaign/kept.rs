//! Runs that a `campaign.json` names: whoever removes old runs leaves them alone as long as it does.

use std::{
    collections::BTreeSet,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::record::FILE;
use crate::runs::within::{Place, Within};

/// Most bytes of a `campaign.json` that is read.
const MOST: u64 = 256 << 20;

/// As much of a `campaign.json`, of whatever version, as this needs.
#[derive(Deserialize)]
struct Told {
    #[serde(default)]
    records: Vec<Record>,
}

#[derive(Deserialize)]
struct Record {
    #[serde(default)]
    classes: Vec<Class>,
}

#[derive(Deserialize)]
struct Class {
    #[serde(default)]
    kept: Vec<PathBuf>,
}

/// The folders of runs that are named.
#[derive(Debug, Default)]
pub(crate) struct Named {
    runs: BTreeSet<PathBuf>,
    /// Folders whose `campaign.json` cannot be read, and why: nobody knows what it names.
    pub(crate) unreadable: Vec<(PathBuf, io::Error)>,
}

impl Named {
    /// By what lies in these folders, which are told without links.
    pub(crate) fn by(folders: impl IntoIterator<Item = PathBuf>) -> Self {
        let mut named = Self::default();
        for folder in folders {
            match told(&folder) {
                Ok(told) => {
                    let classes = told.records.into_iter().flat_map(|record| record.classes);
                    named.runs.extend(classes.flat_map(|class| class.kept).map(|run| folder.join(run)));
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => named.unreadable.push((folder.join(FILE), error)),
            }
        }
        named
    }

    /// Whether the run in this folder is named, as far as anybody knows.
    pub(crate) fn has(&self, run: &Path) -> bool {
        let below = |file: &Path| file.parent().is_some_and(|folder| run.starts_with(folder));
        self.runs.contains(run) || self.unreadable.iter().any(|(file, _)| below(file))
    }
}

fn told(folder: &Path) -> io::Result<Told> {
    let file = Place::default().join(FILE).ok_or(ErrorKind::NotFound)?;
    let bytes = Within::new(folder)?.text(&file, MOST)?;
    serde_json::from_slice(&bytes).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_cannot_be_read_may_name_all_that_lies_below() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let named = || Named::by([folder.path().to_owned()]);
        assert!(!named().has(&path("w/sim-7")), "there is no campaign");
        for (text, here, there) in [
            (r#"{"version":1}"#, false, false),
            (r#"{"version":9,"records":[{"classes":[{"kept":["w/sim-7"],"more":1}]}]}"#, true, false),
            (r#"{"records":[{"classes":[{"kept":[]},{}]},{}]}"#, false, false),
            (r#"{"version":1,"rec"#, true, true),
        ] {
            fs::write(path(FILE), text).expect("written");
            assert_eq!(
                (named().has(&path("w/sim-7")), named().has(&path("w/sim-70"))),
                (here, there),
                "{text}"
            );
        }
        assert!(!named().has(Path::new("/elsewhere/w/sim-7")), "it is not below");
        assert_eq!(named().unreadable.len(), 1);
    }
}
