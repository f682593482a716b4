//! What a campaign goes through: files, and all that lie in folders, workloads and plans of past failures.

use std::{
    collections::BTreeMap,
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use crate::{sim::Case, workload::ExpectedVerdict};

/// Every workload and plan of these files and folders that can be simulated, each once, in the order of their paths, but plans
/// first and then those that expect a violation, since they are over soon; workloads under these seeds.
pub fn load(paths: &[PathBuf], seeds: &Range<u64>) -> Result<Vec<Case>, String> {
    let mut found = BTreeMap::new();
    for path in paths {
        let before = found.len();
        gather(path, Path::new(""), seeds, &mut found)?;
        if path.is_dir() && found.len() == before {
            return Err(format!("error: {} holds no workload (no file *.toml)", path.display()));
        }
    }
    let mut cases: Vec<Case> = found.into_values().collect();
    cases.sort_by_key(|case| (!case.is_plan(), case.plan.expect.verdict != ExpectedVerdict::Violation));
    Ok(cases)
}

fn gather(
    path: &Path,
    group: &Path,
    seeds: &Range<u64>,
    found: &mut BTreeMap<PathBuf, Case>,
) -> Result<(), String> {
    if !path.is_dir() {
        let mut case = Case::load(path, seeds.clone())?;
        group.clone_into(&mut case.group);
        found.insert(path.to_owned(), case);
        return Ok(());
    }
    let unreadable = |error| format!("error: {} cannot be read: {error}", path.display());
    for entry in fs::read_dir(path).map_err(unreadable)? {
        let inner = entry.map_err(unreadable)?.path();
        if inner.is_dir() {
            gather(&inner, &group.join(inner.file_name().unwrap_or_default()), seeds, found)?;
        } else if inner.extension().is_some_and(|extension| extension == "toml")
            && Case::can_be_simulated(&inner)
        {
            gather(&inner, group, seeds, found)?;
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
        for name in ["b.toml", "a.toml", "inner/b.toml", "README.md"] {
            fs::write(path(name), SMALL).expect("written");
        }
        let other = "[target]\nkind = 'etcd'\n[cluster]\nnodes = 3\n";
        fs::write(path("inner/etcd.toml"), other).expect("written");
        let negative = format!("{SMALL}\n[expect]\nverdict = 'violation'\n");
        fs::write(path("inner/z.toml"), negative).expect("written");
        let cases = load(&[path("b.toml"), folder.path().to_owned()], &(0..9)).expect("all are right");
        let names: Vec<_> = cases.iter().map(Case::name).collect();
        assert_eq!(names, ["inner/z", "a", "b", "inner/b"]);
        let asked_for = load(&[path("inner/etcd.toml")], &(0..9));
        assert!(asked_for.is_err_and(|told| told.contains("cannot be simulated")));
    }

    #[test]
    fn a_folder_without_workloads_and_a_wrong_workload_are_told() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(
            load(&[folder.path().to_owned()], &(0..9)).is_err_and(|told| told.contains("holds no workload"))
        );
        fs::write(folder.path().join("wrong.toml"), "[cluster]\nnodes = 3\n").expect("written");
        assert!(load(&[folder.path().to_owned()], &(0..9)).is_err_and(|told| told.contains("wrong.toml")));
        assert!(
            load(&[folder.path().join("none.toml")], &(0..9)).is_err_and(|told| told.contains("none.toml"))
        );
    }
}
