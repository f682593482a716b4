//! What a power failure would leave, for tests: of each folder what it listed when it was last synced, of each file what was in it
//! when that was.
//!
//! It hears of the syncs of the log. The tree syncs its files itself, so its folder is kept as it is when a flush is over;
//! and the mark, which is not synced again, stays as it was made: as old as can be.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The disks of the tests that watch theirs.
static DISKS: Mutex<BTreeMap<PathBuf, Disk>> = Mutex::new(BTreeMap::new());

/// What is durable below one folder.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// Names and inodes, by folder.
    folders: BTreeMap<PathBuf, BTreeMap<PathBuf, u64>>,
    /// By inode.
    files: BTreeMap<u64, Vec<u8>>,
}

/// From now on, this folder's disk is watched.
pub fn watch(root: &Path) {
    disks().insert(root.to_owned(), Disk::default());
}

/// What is durable now.
pub fn durable(root: &Path) -> Disk {
    disks()[root].clone()
}

/// A file was synced.
pub fn file_is_synced(file: &File) {
    let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).expect("it has a name");
    on_disk_of(&path, |disk| disk.take_file(&path));
}

/// A folder was synced.
pub fn folder_is_synced(folder: &Path) {
    on_disk_of(folder, |disk| disk.take_folder(folder));
}

/// All below a folder was synced: as one step, so that nobody sees a part of it.
pub fn all_is_synced(folder: &Path) {
    on_disk_of(folder, |disk| disk.take_all(folder));
}

impl Disk {
    fn take_file(&mut self, path: &Path) {
        let inode = fs::metadata(path).expect("an inode").ino();
        self.files.insert(inode, fs::read(path).expect("it can be read"));
    }

    fn take_folder(&mut self, folder: &Path) {
        let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
        let listed = entries.map(|entry| (entry.path(), entry.metadata().expect("an inode").ino()));
        self.folders.insert(folder.to_owned(), listed.collect());
    }

    fn take_all(&mut self, folder: &Path) {
        self.take_folder(folder);
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                self.take_all(&path);
            } else {
                self.take_file(&path);
            }
        }
    }

    /// Makes a folder as it is when the power comes back.
    pub fn restore(&self, root: &Path, to: &Path) {
        for (path, inode) in self.folders.get(root).into_iter().flatten() {
            let restored = to.join(path.file_name().expect("a name"));
            if self.folders.contains_key(path) || path.is_dir() {
                fs::create_dir_all(&restored).expect("a folder");
                self.restore(path, &restored);
            } else {
                // of what was never synced, nothing need be there
                fs::write(&restored, self.files.get(inode).map_or(&[][..], Vec::as_slice)).expect("a file");
            }
        }
    }
}

fn on_disk_of(path: &Path, act: impl FnOnce(&mut Disk)) {
    let mut disks = disks();
    let root = path.ancestors().find(|folder| disks.contains_key(*folder)).map(Path::to_owned);
    if let Some(disk) = root.and_then(|root| disks.get_mut(&root)) {
        act(disk);
    }
}

fn disks() -> MutexGuard<'static, BTreeMap<PathBuf, Disk>> {
    DISKS.lock().unwrap_or_else(PoisonError::into_inner)
}
