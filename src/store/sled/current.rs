//! Which of a folder's databases is the one in force: a compaction makes another one, and switches over to it.
//!
//! ```text
//! CURRENT  names the database in force; without this file it is `sled`
//! sled     the first one; each compaction makes the next: sled.1, sled.2, …
//! ```
//!
//! Invariant: CURRENT is replaced whole, by a rename, after all of the database that it names is on stable storage. So
//! at any moment exactly one is in force, and whatever else stands there is the rest of a compaction: what it had
//! copied, or what it had not removed yet.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use super::folder::sync_folder;

const CURRENT: &str = "CURRENT";
const DRAFT: &str = "CURRENT.new";
const FIRST: &str = "sled";

/// The number in a database's name: 0 for the first.
fn number(name: &str) -> Option<u64> {
    match name.strip_prefix(FIRST)? {
        "" => Some(0),
        rest => rest.strip_prefix('.')?.parse().ok().filter(|number| format!("{FIRST}.{number}") == name),
    }
}

/// The databases in a folder, whole or not.
fn all(folder: &Path) -> io::Result<Vec<(u64, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        if let Ok(name) = entry?.file_name().into_string()
            && let Some(number) = number(&name)
        {
            found.push((number, name));
        }
    }
    Ok(found)
}

/// The name of the database in force; that of the first if there is none yet.
pub(super) fn in_force(folder: &Path) -> io::Result<String> {
    let damaged = |problem: &str| {
        let advice = "restore the folder from a backup, or write the name of its database into CURRENT";
        io::Error::new(ErrorKind::InvalidData, format!("{problem}; {advice}"))
    };
    match fs::read_to_string(folder.join(CURRENT)) {
        Ok(text) => {
            let name = text.trim();
            match number(name) {
                Some(_) if folder.join(name).join("db").is_file() => Ok(name.to_owned()),
                Some(_) => Err(damaged(&format!("CURRENT names {name}, which holds no database"))),
                None => Err(damaged("CURRENT does not name a database")),
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            // Another one without CURRENT and without the first: it must not look like a folder that is new.
            let others = all(folder)?.iter().any(|(number, _)| *number > 0);
            if others && !folder.join(FIRST).join("db").is_file() {
                return Err(damaged("CURRENT is missing"));
            }
            Ok(FIRST.to_owned())
        }
        Err(error) => Err(error),
    }
}

/// A name that no database of the folder has.
pub(super) fn next(folder: &Path) -> io::Result<String> {
    let last = all(folder)?.into_iter().map(|(number, _)| number).max().unwrap_or(0);
    Ok(format!("{FIRST}.{}", last + 1))
}

/// Puts a database in force, durably. All of it is on stable storage already.
pub(super) fn switch(folder: &Path, name: &str) -> io::Result<()> {
    let draft = folder.join(DRAFT);
    let mut file = File::create(&draft)?;
    writeln!(file, "{name}")?;
    file.sync_all()?;
    fs::rename(draft, folder.join(CURRENT))?;
    sync_folder(folder)
}

/// Removes what compactions left behind. What this process is still letting go of stays until the next time.
pub(super) fn remove_others(folder: &Path, in_force: &str) -> io::Result<()> {
    match fs::remove_file(folder.join(DRAFT)) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    for (_, name) in all(folder)?.into_iter().filter(|(_, name)| name != in_force) {
        let path = folder.join(&name);
        let held = File::open(path.join("db"))
            .is_ok_and(|file| matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock)));
        if !held {
            tracing::info!(name, "a database that is not in force is removed: a compaction left it");
            fs::remove_dir_all(&path)?;
        }
    }
    sync_folder(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(folder: &Path, name: &str) {
        fs::create_dir(folder.join(name)).unwrap();
        fs::write(folder.join(name).join("db"), "rows").unwrap();
    }

    #[test]
    fn the_first_is_in_force_until_another_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(in_force(dir.path()).unwrap(), "sled", "of a folder that is new");
        database(dir.path(), "sled");
        assert_eq!(next(dir.path()).unwrap(), "sled.1");
        database(dir.path(), "sled.1");
        fs::write(dir.path().join(DRAFT), "sled.1").unwrap();
        fs::create_dir(dir.path().join("sled.old")).unwrap();
        assert_eq!(in_force(dir.path()).unwrap(), "sled", "until the switch the copy is none");
        switch(dir.path(), "sled.1").unwrap();
        assert_eq!((in_force(dir.path()).unwrap(), next(dir.path()).unwrap()), ("sled.1".into(), "sled.2".into()));
        remove_others(dir.path(), "sled.1").unwrap();
        let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["CURRENT", "sled.1", "sled.old"], "what is none of ours stays");
    }

    #[test]
    fn a_folder_that_lost_its_database_is_no_new_one() {
        let dir = tempfile::tempdir().unwrap();
        database(dir.path(), "sled.3");
        for current in [None, Some(""), Some("sled.2\n"), Some("../sled.3\n"), Some("sled.03\n"), Some("LOCK")] {
            if let Some(current) = current {
                fs::write(dir.path().join(CURRENT), current).unwrap();
            }
            let error = in_force(dir.path()).unwrap_err();
            assert!(error.to_string().contains("CURRENT"), "{current:?}: {error}");
        }
    }
}
