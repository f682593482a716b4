//! The workloads of a campaign: files, and all that lie in folders.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use crate::workload::{self, Workload};

/// Every workload of these files and folders, in the order of their paths, each once.
pub fn load(paths: &[PathBuf]) -> Result<Vec<(PathBuf, Workload)>, String> {
    let mut found = BTreeMap::new();
    for path in paths {
        let before = found.len();
        gather(path, &mut found)?;
        if path.is_dir() && found.len() == before {
            return Err(format!("error: {} holds no workload (no file *.toml)", path.display()));
        }
    }
    Ok(found.into_iter().collect())
}

fn gather(path: &Path, found: &mut BTreeMap<PathBuf, Workload>) -> Result<(), String> {
    if !path.is_dir() {
        let workload = workload::load(path).map_err(|problem| problem.to_string())?;
        found.insert(path.to_owned(), workload);
        return Ok(());
    }
    let unreadable = |error| format!("error: {} cannot be read: {error}", path.display());
    for entry in fs::read_dir(path).map_err(unreadable)? {
        let inner = entry.map_err(unreadable)?.path();
        if inner.is_dir() || inner.extension().is_some_and(|extension| extension == "toml") {
            gather(&inner, found)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "[cluster]\nnodes = 3\npartitions = [{}]\nlease = 'off'\n";

    #[test]
    fn folders_are_searched_and_nothing_comes_twice() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("inner")).expect("made");
        for name in ["b.toml", "a.toml", "inner/c.toml", "README.md"] {
            fs::write(path(name), SMALL).expect("written");
        }
        let cases = load(&[path("b.toml"), folder.path().to_owned()]).expect("all are right");
        let paths: Vec<_> = cases.into_iter().map(|(path, _)| path).collect();
        assert_eq!(paths, [path("a.toml"), path("b.toml"), path("inner/c.toml")]);
    }

    #[test]
    fn a_folder_without_workloads_and_a_wrong_workload_are_told() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(load(&[folder.path().to_owned()]).is_err_and(|told| told.contains("holds no workload")));
        fs::write(folder.path().join("wrong.toml"), "[cluster]\nnodes = 3\n").expect("written");
        assert!(load(&[folder.path().to_owned()]).is_err_and(|told| told.contains("wrong.toml")));
        assert!(load(&[folder.path().join("none.toml")]).is_err_and(|told| told.contains("none.toml")));
    }
}
