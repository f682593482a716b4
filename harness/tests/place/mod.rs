//! A folder with one workload, in which the harness is run.

#![allow(dead_code, reason = "not every test does all of it")]

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

pub struct Place(tempfile::TempDir);

impl Place {
    /// A folder with this workload, which is called `short`.
    pub fn new(workload: &str) -> Self {
        let place = Self(tempfile::tempdir().expect("a folder"));
        fs::write(place.path("short.toml"), workload).expect("written");
        place
    }

    /// The same with a bug that is planted: that lies in `negative/short.toml`.
    pub fn negative(workload: &str) -> Self {
        let place = Self(tempfile::tempdir().expect("a folder"));
        fs::create_dir(place.path("negative")).expect("made");
        fs::write(place.path("negative/short.toml"), workload).expect("written");
        place
    }

    /// What is called this in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The harness, in the folder.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
        command.current_dir(self.0.path());
        command
    }

    /// The harness with the workload and these arguments.
    pub fn harness(&self, arguments: &[&str]) -> Command {
        let mut command = self.command();
        command.args(["short.toml", "--quiet"]).args(arguments);
        command
    }

    /// What comes of that.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.harness(arguments).output().expect("the harness runs")
    }

    /// The folder of the last run.
    pub fn latest(&self) -> PathBuf {
        fs::canonicalize(self.path("results/latest")).expect("results/latest")
    }
}
