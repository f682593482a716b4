//! What is simulated: a workload under many seeds, or one plan.

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use crate::{
    plan::Plan,
    terminal::for_shell,
    workload::{self, Time, Workload},
};

/// A workload under many seeds, or one plan.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its file.
    pub path: PathBuf,
    /// A plan of it: whatever does not depend on the seed.
    pub plan: Plan,
    /// The seeds; of a plan its own.
    pub seeds: Range<u64>,
    /// Where it lies in the folder that was searched for it: tells apart what has the same name.
    pub group: PathBuf,
    /// None: the file is a plan.
    workload: Option<Workload>,
    /// What the command line adds to the file.
    options: String,
}

impl Case {
    /// Reads a workload, which is run under these seeds.
    pub fn of_workload(path: &Path, seeds: Range<u64>) -> Result<Self, String> {
        let workload = workload::load(path).map_err(|problem| problem.to_string())?;
        let plan = Plan::new(workload.clone(), seeds.start);
        Self::of(path, plan, seeds, Some(workload))
    }

    /// Reads a plan, as results hold it.
    pub fn of_plan(path: &Path) -> Result<Self, String> {
        let plan = Plan::load(path)?;
        let seeds = plan.seed..plan.seed + 1;
        Self::of(path, plan, seeds, None)
    }

    fn of(path: &Path, plan: Plan, seeds: Range<u64>, workload: Option<Workload>) -> Result<Self, String> {
        plan.system.simulated(path).map_err(|problem| format!("error: {problem}"))?;
        let (path, group, options) = (path.to_owned(), PathBuf::new(), String::new());
        Ok(Self { path, plan, seeds, group, workload, options })
    }

    /// The name of its file, with its group.
    pub fn name(&self) -> String {
        let file = self.path.file_stem().unwrap_or_default();
        self.group.join(file).to_string_lossy().into_owned()
    }

    /// A workload that is no file.
    pub fn built_in(name: &str, workload: Workload, seeds: Range<u64>) -> Result<Self, String> {
        let plan = Plan::new(workload.clone(), seeds.start);
        Self::of(Path::new(name), plan, seeds, Some(workload))
    }

    /// Whether the file is a plan, which has one seed.
    pub fn is_plan(&self) -> bool {
        self.workload.is_none()
    }

    /// Whether a file is for a system that can be simulated, as far as can be told: what cannot be read is told by [`load`](Self::load).
    pub fn can_be_simulated(path: &Path) -> bool {
        workload::load(path).map_or(true, |workload| workload.system.is_store())
    }

    /// Reads a file that is a plan or a workload: plans name their workload, workload files do not.
    pub fn load(path: &Path, seeds: Range<u64>) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("error: {} cannot be read: {error}", path.display()))?;
        let is_plan = text.lines().any(|line| line.starts_with("workload = "));
        if is_plan { Self::of_plan(path) } else { Self::of_workload(path, seeds) }
    }

    /// The same without its planted bug.
    #[must_use]
    pub fn without_mutant(self) -> Self {
        let workload = self.workload.map(Workload::without_mutant);
        let options = format!("{} --without-mutant", self.options);
        Self { plan: self.plan.without_mutant(), workload, options, ..self }
    }

    /// Warm-up and faults of the workload together take this long.
    pub fn limit_time(&mut self, limit: Time) {
        if let Some(workload) = &mut self.workload {
            workload.limit_time(limit);
            self.plan = Plan::new(workload.clone(), self.seeds.start);
            self.options = format!("{} --time-limit {limit}", self.options);
        }
    }

    /// The plan of a seed.
    pub fn plan(&self, seed: u64) -> Plan {
        self.workload.as_ref().map_or_else(|| self.plan.clone(), |workload| Plan::new(workload.clone(), seed))
    }

    /// The command that tells what happens under a seed.
    pub fn again(&self, seed: u64) -> String {
        let options = &self.options;
        match &self.workload {
            Some(_) => {
                format!("harness sim {} --seeds {seed}..{} --tale{options}", for_shell(&self.path), seed + 1)
            }
            None => again_of_plan(&self.path) + options,
        }
    }
}

/// The command that tells what happens in the simulated run of a plan.
pub fn again_of_plan(plan: &Path) -> String {
    format!("harness sim --plans {} --tale", for_shell(plan))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_a_plan_or_a_workload() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let text = "[cluster]\nnodes = 3\npartitions = [{}]\nlease = 'off'\n";
        std::fs::write(path("w.toml"), text).expect("written");
        let workload = Case::load(&path("w.toml"), 4..9).expect("a workload");
        assert_eq!((workload.seeds.clone(), workload.plan(7).seed), (4..9, 7));
        assert!(workload.again(7).ends_with("w.toml --seeds 7..8 --tale"));
        let mut limited = workload.clone().without_mutant();
        limited.limit_time(Time(std::time::Duration::from_secs(3)));
        assert!(
            limited.again(7).ends_with(" --tale --without-mutant --time-limit 3s"),
            "{}",
            limited.again(7)
        );
        let plan = toml::to_string(&workload.plan(6)).expect("TOML");
        std::fs::write(path("p.toml"), plan).expect("written");
        let plan = Case::load(&path("p.toml"), 0..100).expect("a plan");
        assert_eq!((plan.seeds.clone(), plan.plan(6)), (6..7, workload.plan(6)));
        assert!(plan.again(6).contains("--plans"));
        assert!(
            Case::load(&path("none.toml"), 0..1).is_err_and(|told| told.contains("none.toml cannot be read"))
        );
    }
}
