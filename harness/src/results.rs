//! The folder of a run: `results/<workload>/<UTC time>-<seed>/`, and `results/latest`, which points to the newest.
//!
//! As long as a run goes on, its process holds a lock on its plan. The kernel takes that away when the process ends, however
//! it ends: a run that was killed is not taken for one that goes on.

use std::{
    fs::{self, File, TryLockError},
    io::{self, BufWriter, ErrorKind, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};

use crate::{messages, plan::Plan, replay};

/// The folder of one run.
#[derive(Clone, Debug)]
pub struct ResultsFolder {
    path: PathBuf,
    /// The plan, locked.
    _going_on: Arc<File>,
}

/// The file of a run's folder that says what is run; locked while it is.
pub(crate) const PLAN: &str = "plan.toml";

/// The file that says what a run has come to.
pub(crate) const VERDICT: &str = "verdict.json";

/// Whatever else runs leave, of all kinds: a folder that holds anything else is not removed (`harness prune`).
const LEFT: [&str; 11] = [
    "history.jsonl",
    "trace",
    "logs",
    "data",
    "links.json",
    "report.html",
    messages::FILE,
    messages::EARLIER,
    replay::FILE,
    "tale.txt",
    // of simulated runs of earlier versions
    "messages.json",
];

/// Whether a run leaves something of this name.
pub(crate) fn is_left_by_a_run(name: &str) -> bool {
    LEFT.contains(&name) || [PLAN, VERDICT].contains(&name)
}

/// Whether this is what [`write_whole`] has left of such a file when it was killed.
pub(crate) fn was_half_written(name: &str) -> bool {
    let of = name.strip_prefix('.').and_then(|name| name.rsplit_once('-'));
    of.is_some_and(|(name, id)| is_left_by_a_run(name) && id.bytes().all(|byte| byte.is_ascii_digit()))
}

impl ResultsFolder {
    /// Makes the folder of a run on real processes, with its plan in it.
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
        // what it follows in simulated time means nothing to real processes, and its record is not here
        let going_on = Arc::new(write_plan(&path, &Plan { follows: None, ..plan.clone() })?);
        point_latest(results, &path).context("cannot make results/latest")?;
        Ok(Self { path, _going_on: going_on })
    }

    /// The folder of a simulated run, with its plan in it; the same name means the same folder every time.
    pub fn of_simulated(results: &Path, name: &str, plan: &Plan) -> Result<Self> {
        let path = results.join(&plan.workload).join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot make the folder {}", path.display()))?;
        // beside another plan they would tell of it what was found of the one before
        for told in [VERDICT, "report.html", "history.jsonl"] {
            match fs::remove_file(path.join(told)) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {told} in {}", path.display()));
                }
                _ => {}
            }
        }
        let going_on = Arc::new(write_plan(&path, plan)?);
        let trace = path.join("trace");
        let emptied = match fs::remove_dir_all(&trace) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => fs::create_dir_all(&trace),
        };
        emptied.with_context(|| format!("cannot make the folder {} anew", trace.display()))?;
        Ok(Self { path, _going_on: going_on })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes one of its files, whole or not at all.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        write_whole(&self.path.join(name), |out| Ok(out.write_all(text.as_bytes())?))
    }
}

/// Writes the plan and locks it. It is locked before it has its name, so that nobody finds it there without its lock.
fn write_plan(folder: &Path, plan: &Plan) -> Result<File> {
    let text = toml::to_string(plan).context("the plan cannot be written as TOML")?;
    let new = folder.join(format!(".{PLAN}-{}", std::process::id()));
    let write = || -> io::Result<File> {
        let mut file = File::create(&new)?;
        // where files cannot be locked, the run is not shown as one that goes on; that is no reason not to run
        let _ = file.try_lock();
        file.write_all(text.as_bytes())?;
        fs::rename(&new, folder.join(PLAN))?;
        Ok(file)
    };
    write().with_context(|| format!("cannot write {}", folder.join(PLAN).display()))
}

/// Whether somebody still writes into the folder of a run, of which this is the plan.
pub(crate) fn is_going_on(plan: &File) -> io::Result<bool> {
    match plan.try_lock_shared() {
        Ok(()) => plan.unlock().map(|()| false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
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

/// The seconds since 1970 that a time such as `20261121T022933Z` says.
pub(crate) fn seconds_of(time: &str) -> Option<i64> {
    let number = |from: usize, to: usize| {
        let digits = time.get(from..to)?;
        if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse::<i64>().ok() } else { None }
    };
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let (hour, minute, second) = (number(9, 11)?, number(11, 13)?, number(13, 15)?);
    // days since 1970 from the civil date: `utc` the other way round
    let year = year - i64::from(month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days =
        era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second;
    // what is no date, or written in another way, does not come back as it was
    (utc(seconds) == time).then_some(seconds)
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
        for seconds in [0, 951_782_399, 951_782_400, 1_795_228_173, 4_102_444_799] {
            assert_eq!(seconds_of(&utc(seconds)), Some(seconds));
        }
        for wrong in [
            "20261121T022933",
            "20261131T022933Z",
            "20261121 022933Z",
            "2026112é1T02293Z",
            "",
            "+0261121T022933Z",
        ] {
            assert_eq!(seconds_of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_run_goes_on_until_its_folder_is_let_go_of() {
        let text = "[cluster]\nnodes = 3\npartitions = [{}]\nlease = 'off'";
        let workload =
            crate::workload::parse(Path::new("w.toml"), text).unwrap_or_else(|problem| panic!("{problem}"));
        let plan = Plan::new(workload, 7);
        let results = tempfile::tempdir().expect("folder");
        let real = ResultsFolder::create(results.path(), &plan).expect("made");
        let simulated = ResultsFolder::of_simulated(results.path(), "sim-7", &plan).expect("made");
        for folder in [real, simulated] {
            let path = folder.path().to_owned();
            let goes_on = || is_going_on(&File::open(path.join(PLAN)).expect("a plan")).expect("locks");
            let also = folder.clone();
            assert!(goes_on() && goes_on(), "who looks changes nothing");
            drop(folder);
            assert!(goes_on());
            drop(also);
            assert!(!goes_on());
            assert_eq!(Plan::load(&path.join(PLAN)).map(|plan| plan.seed), Ok(7));
            assert_eq!(
                fs::read_dir(&path)
                    .expect("read")
                    .filter(|entry| {
                        entry.as_ref().is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with('.'))
                    })
                    .count(),
                0,
                "nothing half-written stays"
            );
        }
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
