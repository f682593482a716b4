//! The folder of a run: `results/<workload>/<UTC time>-<seed>/`, and `results/latest`, which points to the newest.

use std::{
    fs::{self, File},
    io::{self, BufWriter, ErrorKind, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};

use crate::plan::Plan;

/// The folder of one run.
#[derive(Clone, Debug)]
pub struct ResultsFolder {
    path: PathBuf,
}

impl ResultsFolder {
    /// Makes the folder of a run, with its plan in it.
    pub fn create(results: &Path, plan: &Plan) -> Result<Self> {
        let parent = results.join(&plan.workload);
        fs::create_dir_all(&parent)
            .with_context(|| format!("cannot make the folder {}", parent.display()))?;
        let name = format!("{}-{}", utc_now(), plan.seed);
        let path = make_unique(&parent, &name)
            .with_context(|| format!("cannot make a results folder in {}", parent.display()))?;
        let path = fs::canonicalize(&path).with_context(|| format!("cannot find {}", path.display()))?;
        for folder in ["trace", "logs", "data"] {
            fs::create_dir(path.join(folder))
                .with_context(|| format!("cannot make {folder} in {}", path.display()))?;
        }
        let folder = Self { path };
        folder.write_plan(plan)?;
        point_latest(results, &folder.path).context("cannot make results/latest")?;
        Ok(folder)
    }

    /// The folder of a simulated run, with its plan in it; the same name means the same folder every time.
    pub fn of_simulated(results: &Path, name: &str, plan: &Plan) -> Result<Self> {
        let path = results.join(&plan.workload).join(name);
        let trace = path.join("trace");
        let emptied = match fs::remove_dir_all(&trace) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => fs::create_dir_all(&trace),
        };
        emptied.with_context(|| format!("cannot make the folder {} anew", trace.display()))?;
        let folder = Self { path };
        folder.write_plan(plan)?;
        Ok(folder)
    }

    fn write_plan(&self, plan: &Plan) -> Result<()> {
        self.write("plan.toml", &toml::to_string(plan).context("the plan cannot be written as TOML")?)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes one of its files.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Writes a file whole or not at all: under another name first.
pub(crate) fn write_whole(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    let name = path.file_name().with_context(|| format!("{} is no name of a file", path.display()))?;
    let new = path.with_file_name(format!(".{}-{}", name.to_string_lossy(), std::process::id()));
    let cannot = || format!("cannot write {}", path.display());
    let done = File::create(&new).with_context(cannot).and_then(|file| {
        let mut out = BufWriter::new(file);
        write(&mut out)?;
        out.flush().and_then(|()| fs::rename(&new, path)).with_context(cannot)
    });
    if done.is_err() {
        // whatever there is of it is in the way of nobody
        let _ = fs::remove_file(&new);
    }
    done
}

/// Two runs in one second get different names.
fn make_unique(parent: &Path, name: &str) -> io::Result<PathBuf> {
    for attempt in 1.. {
        let name = if attempt == 1 { name.to_owned() } else { format!("{name}.{attempt}") };
        match fs::create_dir(parent.join(&name)) {
            Ok(()) => return Ok(parent.join(name)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

/// Replaces the link in one step, so that it always points somewhere.
fn point_latest(results: &Path, folder: &Path) -> io::Result<()> {
    let results = fs::canonicalize(results)?;
    let target = folder.strip_prefix(&results).unwrap_or(folder);
    let new = results.join(format!(".latest-{}", std::process::id()));
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::os::unix::fs::symlink(target, &new)?;
    fs::rename(new, results.join("latest"))
}

/// The time of day as `20261121T022933Z`, which sorts.
fn utc_now() -> String {
    utc(clock_gettime(ClockId::Realtime).tv_sec)
}

fn utc(seconds: i64) -> String {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // civil date from days since 1970, after Howard Hinnant's chrono algorithms
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(utc(0), "19700101T000000Z");
        assert_eq!(utc(951_782_399), "20000228T235959Z");
        assert_eq!(utc(951_782_400), "20000229T000000Z");
        assert_eq!(utc(1_795_228_173), "20261121T022933Z");
    }

    #[test]
    fn latest_points_to_the_newest_and_names_do_not_clash() {
        let results = tempfile::tempdir().expect("folder");
        let first = make_unique(results.path(), "a").expect("made");
        let second = make_unique(results.path(), "a").expect("made");
        assert_ne!(first, second);
        for folder in [first, second] {
            let folder = fs::canonicalize(folder).expect("exists");
            point_latest(results.path(), &folder).expect("linked");
            let latest = fs::canonicalize(results.path().join("latest")).expect("points somewhere");
            assert_eq!(latest, folder);
        }
    }
}
