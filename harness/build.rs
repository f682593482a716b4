//! Says which commit a release is built from, for `harness --version`. Without git, or where the sources are no clone of their
//! own, no commit is known, and the build goes on.
//!
//! Builds for development say nothing of it: they would have to be made anew after each commit.

use std::{env, path::Path, process::Command};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let built = if env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        watch();
        commit().unwrap_or_else(|| "commit unknown".to_owned())
    } else {
        "development build".to_owned()
    };
    println!("cargo:rustc-env=HARNESS_VERSION={version} ({built})");
}

/// What changes the answer: the commit, and whether the sources are those of the commit.
fn watch() {
    let of_git = ["HEAD", "logs/HEAD"].map(|name| git(&["rev-parse", "--git-path", name]));
    let sources =
        ["src", "../store/src", "../checker/src", "../Cargo.lock"].map(|name| Some(name.to_owned()));
    for path in of_git.into_iter().chain(sources).flatten().filter(|path| Path::new(path).exists()) {
        println!("cargo:rerun-if-changed={path}");
    }
}

fn commit() -> Option<String> {
    // were these sources only unpacked in the clone of something else, its commit would say nothing of them
    git(&["ls-files", "--error-unmatch", "build.rs"])?;
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_none_or(|changes| !changes.is_empty());
    Some(if changed { format!("{commit}, changed") } else { commit })
}

/// What git says in the folder of this package; `None`: it is not there, or has nothing to say.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
