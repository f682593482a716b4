//! A folder out of which nothing leads: every step goes down from an open folder to a name in it, and a symbolic link is not
//! followed, wherever it leads. So it does not matter what names a browser sends, or what changes on the disk meanwhile.

use std::{
    fmt,
    fs::{self, File},
    io::{self, ErrorKind},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, open, openat, statat};

/// Names that lead from the folder down to something; none: the folder itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place(Vec<String>);

impl Place {
    /// With one more name. `None`: no file below a folder has that name, or it is hidden.
    pub(crate) fn join(&self, name: &str) -> Option<Self> {
        let is_name = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']);
        is_name.then(|| Self(self.0.iter().cloned().chain([name.to_owned()]).collect()))
    }

    /// Names with slashes between them.
    #[cfg(test)]
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::default());
        }
        text.split('/').try_fold(Self::default(), |place, name| place.join(name))
    }

    /// The last name.
    pub(crate) fn name(&self) -> &str {
        self.0.last().map_or("", String::as_str)
    }

    /// What the last name is in.
    pub(crate) fn parent(&self) -> Self {
        Self(self.0[..self.0.len().saturating_sub(1)].to_vec())
    }

    /// How many names.
    pub(crate) fn depth(&self) -> usize {
        self.0.len()
    }

    /// As a path below the folder.
    pub(crate) fn path(&self) -> PathBuf {
        self.0.iter().collect()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("/"))
    }
}

/// What stands in a folder.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A file, with its length and the seconds since 1970 at which it was last written.
    File {
        /// In bytes.
        length: u64,
        /// In nanoseconds since 1970.
        modified: i128,
    },
    /// A folder.
    Folder,
    /// Anything else: a symbolic link, a pipe, a socket.
    Other,
}

/// The folder.
#[derive(Clone, Debug)]
pub(crate) struct Within {
    path: PathBuf,
}

impl Within {
    /// The folder at `path`, which may be reached through links.
    pub(crate) fn new(path: &Path) -> io::Result<Self> {
        let path = fs::canonicalize(path)?;
        if path.is_dir() { Ok(Self { path }) } else { Err(ErrorKind::NotADirectory.into()) }
    }

    /// Where it is, without links.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a file for reading; anything that is no file is not there. Neither does a pipe keep anybody waiting.
    pub(crate) fn file(&self, place: &Place) -> io::Result<File> {
        let Some(name) = place.0.last() else { return Err(ErrorKind::NotFound.into()) };
        let folder = self.folder(&place.parent())?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(openat(&folder, name.as_str(), flags, Mode::empty()).map_err(not_there)?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(ErrorKind::NotFound.into()) }
    }

    /// Reads a file of at most so many bytes.
    pub(crate) fn text(&self, place: &Place, most: u64) -> io::Result<Vec<u8>> {
        let file = self.file(place)?;
        if file.metadata()?.len() > most {
            return Err(io::Error::new(ErrorKind::FileTooLarge, format!("it has more than {most} bytes")));
        }
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(file, most), &mut bytes)?;
        Ok(bytes)
    }

    /// The names in a folder, in order, but for hidden ones and those that are no text.
    pub(crate) fn list(&self, place: &Place) -> io::Result<Vec<(String, Entry)>> {
        let folder = self.folder(place)?;
        let mut entries = Vec::new();
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if name.starts_with('.') {
                continue;
            }
            let entry = match statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                    FileType::RegularFile => Entry::File {
                        length: stat.st_size as u64,
                        modified: i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec),
                    },
                    FileType::Directory => Entry::Folder,
                    _ => Entry::Other,
                },
                // gone meanwhile
                Err(_) => continue,
            };
            entries.push((name.to_owned(), entry));
        }
        entries.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        Ok(entries)
    }

    /// All names in a folder, hidden ones too; what is no text in them is replaced.
    pub(crate) fn names(&self, place: &Place) -> io::Result<Vec<String>> {
        let folder = self.folder(place)?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn folder(&self, place: &Place) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = open(&self.path, flags, Mode::empty())?;
        place.0.iter().try_fold(root, |folder, name| {
            openat(&folder, name.as_str(), flags, Mode::empty()).map_err(not_there)
        })
    }
}

/// A link in the way is nothing.
fn not_there(error: rustix::io::Errno) -> io::Error {
    use rustix::io::Errno;
    match error {
        Errno::LOOP | Errno::NOTDIR | Errno::NAMETOOLONG | Errno::NXIO => ErrorKind::NotFound.into(),
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_leads_out_of_the_folder() {
        let outside = tempfile::tempdir().expect("a folder");
        fs::write(outside.path().join("secret"), "s").expect("written");
        let inside = tempfile::tempdir().expect("a folder");
        let at = |name: &str| inside.path().join(name);
        fs::create_dir(at("run")).expect("made");
        fs::write(at("run/plan.toml"), "text").expect("written");
        symlink(outside.path(), at("out")).expect("linked");
        symlink(outside.path().join("secret"), at("run/secret")).expect("linked");
        symlink("run", at("latest")).expect("linked");
        rustix::fs::mknodat(rustix::fs::CWD, at("run/pipe"), FileType::Fifo, Mode::RUSR, 0).expect("made");
        let within = Within::new(inside.path()).expect("a folder");
        let text = |place: &str| {
            let place = Place::parse(place).ok_or(ErrorKind::InvalidInput)?;
            within.text(&place, 100).map_err(|error| error.kind())
        };
        assert_eq!(text("run/plan.toml"), Ok(b"text".to_vec()));
        for place in [
            "run",
            "",
            "run/nothing",
            "out/secret",
            "run/secret",
            "latest/plan.toml",
            "run/pipe",
            "run/plan.toml/x",
        ] {
            let kind = text(place).expect_err(place);
            assert!([ErrorKind::NotFound, ErrorKind::InvalidInput].contains(&kind), "{place}: {kind}");
        }
        for place in
            ["..", "run/../run/plan.toml", "/etc/passwd", "run//plan.toml", ".hidden", "run/", "a\0b", "."]
        {
            assert_eq!(Place::parse(place), None, "{place}");
        }
        let within = Within::new(&at("latest")).expect("the folder itself may be behind a link");
        let place = Place::parse("plan.toml").expect("a place");
        assert!(within.file(&place).is_ok());
        assert_eq!(within.text(&place, 3).map_err(|error| error.kind()), Err(ErrorKind::FileTooLarge));
        let names: Vec<String> =
            within.list(&Place::default()).expect("read").into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["pipe", "plan.toml", "secret"]);
    }
}
