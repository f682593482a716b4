//! Checks the files of the tree before it is opened.
//!
//! `current` names the version of the list of tables, with the checksum of that list; the list `vN` names the tables, with the
//! checksum of each; `tables/N`. The tree itself verifies blocks of tables when it reads them, but neither the list nor the name
//! of it, and removes what they do not name. Here all of it is followed from `current` on, so that one wrong byte anywhere is
//! found before anything is changed.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::{StorageError, in_file};

/// Checks the tree in `folder`; whether there is one.
pub fn check(folder: &Path) -> Result<bool, StorageError> {
    let current = folder.join("current");
    let named = match fs::read(&current) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(in_file(&current)(error)),
    };
    let damaged =
        |file: &Path, why: &str| StorageError::Damaged { file: file.to_owned(), why: why.to_owned() };
    let parse = |bytes: &[u8]| {
        let (version, rest) = bytes.split_first_chunk::<8>()?;
        let (checksum, kind) = rest.split_first_chunk::<16>()?;
        (kind == [0]).then_some((u64::from_le_bytes(*version), u128::from_le_bytes(*checksum)))
    };
    let (version, checksum) = parse(&named).ok_or_else(|| damaged(&current, "it names no list of tables"))?;
    let list = folder.join(format!("v{version}"));
    let bytes = fs::read(&list).map_err(|error| missing(&list, &current, error))?;
    if xxh3_128(&bytes) != checksum {
        return Err(damaged(&list, "its checksum is not the one in `current` beside it"));
    }
    for (table, checksum) in tables(&bytes).ok_or_else(|| damaged(&list, "it cannot be read"))? {
        let path = folder.join("tables").join(table.to_string());
        if checksum_of(&path).map_err(|error| missing(&path, &list, error))? != checksum {
            return Err(damaged(&path, &format!("its checksum is not the one in `v{version}`")));
        }
    }
    Ok(true)
}

/// A file that another one names is damaged if it is not there.
fn missing(file: &Path, named_by: &Path, error: io::Error) -> StorageError {
    if error.kind() == io::ErrorKind::NotFound {
        let why = format!("it names {}, which is not there", file.display());
        return StorageError::Damaged { file: named_by.to_owned(), why };
    }
    in_file(file)(error)
}

/// Number and checksum of each table in a list, whose checksum fits.
fn tables(list: &[u8]) -> Option<Vec<(u64, u128)>> {
    let archive = sfa::Reader::from_reader(&mut io::Cursor::new(list)).ok()?;
    let section = archive.toc().section(b"tables")?;
    let mut rest = list.get(section.pos() as usize..)?.get(..section.len() as usize)?;
    let mut tables = Vec::new();
    let [levels] = take(&mut rest)?;
    for _ in 0..levels {
        let [runs] = take(&mut rest)?;
        for _ in 0..runs {
            for _ in 0..u32::from_le_bytes(take(&mut rest)?) {
                let number = u64::from_le_bytes(take(&mut rest)?);
                let [0] = take(&mut rest)? else { return None };
                let checksum = u128::from_le_bytes(take(&mut rest)?);
                let _sequence: [u8; 8] = take(&mut rest)?;
                tables.push((number, checksum));
            }
        }
    }
    Some(tables)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(*taken)
}

fn checksum_of(path: &Path) -> io::Result<u128> {
    let mut file = File::open(path)?;
    let mut hash = Xxh3::new();
    let mut piece = vec![0; 1 << 18];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hash.digest128()),
            read => hash.update(&piece[..read]),
        }
    }
}
