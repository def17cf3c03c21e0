//! A file of keys: read, made, added to. Its owner alone reads it, and it is written whole or not at all.
//!
//! Invariant: a file that is there and cannot be read as keys is never replaced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::invalid::Invalid;
use crate::keyring::{self, Keyring};
use crate::random::secret_bytes;

/// The largest file that is read: far more than a full ring and its remarks.
const MAX_BYTES: u64 = 64 * 1024;

const HEAD: &str = "\
# The keys that ringback's secrets are sealed under: `id:key`, one a line. The highest id seals.
# Without them nothing in the store can be signed any more: back this file up, apart from the data folder.
";

/// A file of keys: text, a line `id:key` for each, `#` before remarks.
///
/// Adding a key and retiring one change the file alone: a [`Ringback`](crate::Ringback) reads it when it is opened.
#[derive(Debug, Clone)]
pub struct KeyFile {
    path: PathBuf,
}

impl KeyFile {
    /// The file's name in a data folder.
    pub const NAME: &str = "secrets.key";

    /// The file at this path, whether it is there or not.
    pub fn at(path: impl Into<PathBuf>) -> KeyFile {
        KeyFile { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its keys; `None` if there is no such file.
    ///
    /// # Errors
    /// [`Invalid`] (`keys`) names the file, the line and what is wrong: it cannot be read, it holds no key, a line is none,
    /// an id stands twice.
    pub fn read(&self) -> Result<Option<Keyring>, Invalid> {
        let Some(text) = self.text()? else { return Ok(None) };
        self.parse(&text).map(Some)
    }

    /// Warns if others than its owner can read or write it.
    pub(crate) fn warn_of_readers(&self) {
        let mode = fs::metadata(&self.path).map_or(0, |meta| meta.permissions().mode()) & 0o777;
        if mode & 0o077 != 0 {
            tracing::warn!("{} can be read by others (its mode is {mode:o}); `chmod 600` it", self.path.display());
        }
    }

    /// Adds a key that is made, under the next id, and gives that id. A file that is not there is made.
    ///
    /// # Errors
    /// As [`read`](KeyFile::read); or the file cannot be written, and is as it was.
    pub fn add(&self) -> Result<u32, Invalid> {
        let _turn = self.turn()?;
        let text = self.text()?;
        let id = match &text {
            Some(text) => self.parse(text)?.active().checked_add(1).ok_or_else(|| self.problem("has the last id"))?,
            None => 1,
        };
        let key = Zeroizing::new(secret_bytes());
        let line = keyring::line(id, &key);
        let mut changed = text.unwrap_or_else(|| Zeroizing::new(HEAD.to_owned()));
        let pause = if changed.ends_with('\n') { "" } else { "\n" };
        // Each text is wiped, so none grows in place and leaves its beginning behind.
        changed = Zeroizing::new([&changed, pause, &line].concat());
        self.parse(&changed)?;
        self.write(&changed)?;
        Ok(id)
    }

    /// Takes a key out. Whoever calls it has made sure that nothing is sealed under it any more.
    ///
    /// # Errors
    /// As [`read`](KeyFile::read); there is no such key, or it is the one that seals; or the file cannot be written, and is
    /// as it was.
    pub fn retire(&self, id: u32) -> Result<(), Invalid> {
        let _turn = self.turn()?;
        let text = self.text()?.ok_or_else(|| self.problem("is not there"))?;
        let keys = self.parse(&text)?;
        if !keys.ids().contains(&id) {
            return Err(self.problem(format!("has no key {id}")));
        }
        if keys.active() == id {
            return Err(self.problem(format!("has no newer key than {id}, which seals; add one first")));
        }
        let is_it = |line: &&str| line.split_once(':').is_some_and(|(other, _)| other.trim().parse() == Ok(id));
        let kept: Vec<&str> = text.split_inclusive('\n').filter(|line| !is_it(line)).collect();
        self.write(&Zeroizing::new(kept.concat()))
    }

    /// Makes the file with a first key, if it is not there; otherwise reads it. Whether it was made comes along.
    #[cfg(feature = "sled")]
    pub(crate) fn read_or_make(&self) -> Result<(Keyring, bool), Invalid> {
        let _turn = self.turn()?;
        if let Some(keys) = self.read()? {
            return Ok((keys, false));
        }
        let line = keyring::line(1, &Zeroizing::new(secret_bytes()));
        let text = Zeroizing::new([HEAD, &line].concat());
        let keys = self.parse(&text)?;
        self.write(&text)?;
        Ok((keys, true))
    }

    fn text(&self) -> Result<Option<Zeroizing<String>>, Invalid> {
        match fs::metadata(&self.path) {
            Ok(meta) if meta.len() > MAX_BYTES => {
                return Err(self.problem("has more than 64 KiB; it is no file of keys"));
            }
            Ok(_) | Err(_) => {}
        }
        match fs::read_to_string(&self.path) {
            Ok(text) => Ok(Some(Zeroizing::new(text))),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(self.problem(format!("cannot be read: {error}"))),
        }
    }

    fn parse(&self, text: &str) -> Result<Keyring, Invalid> {
        Keyring::parse(text).map_err(|unreadable| match unreadable.line {
            Some(line) => Invalid::new("keys", format!("{}:{line}: {}", self.path.display(), unreadable.problem)),
            None => self.problem(format!("{}: put its keys back", unreadable.problem)),
        })
    }

    fn problem(&self, problem: impl AsRef<str>) -> Invalid {
        Invalid::new("keys", format!("{} {}", self.path.display(), problem.as_ref()))
    }

    fn folder(&self) -> &Path {
        self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    /// Holds the file's folder until it is dropped, so that of two who change the file the second sees what the first did.
    fn turn(&self) -> Result<File, Invalid> {
        let folder = File::open(self.folder()).and_then(|folder| folder.lock().map(|()| folder));
        folder.map_err(|error| self.problem(format!("cannot be written: its folder: {error}")))
    }

    /// Never readable by others, not even while it is written; after a crash the old one or the new one.
    fn write(&self, text: &str) -> Result<(), Invalid> {
        let written = || -> io::Result<()> {
            let mut name = self.path.file_name().unwrap_or_default().to_owned();
            name.push(".new");
            let draft = self.path.with_file_name(name);
            match fs::remove_file(&draft) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
            // `create_new`: a file, or a link to one, that somebody else put there would keep its own mode.
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
            self.keep_owner(&file)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&draft, &self.path)?;
            File::open(self.folder())?.sync_all()
        };
        written().map_err(|error| self.problem(format!("cannot be written: {error}")))
    }

    /// Gives what root makes to whom the file in its place belongs, or the folder: the server has to read it. Others
    /// cannot give anything away, and keep it.
    fn keep_owner(&self, file: &File) -> io::Result<()> {
        if file.metadata()?.uid() != 0 {
            return Ok(());
        }
        let owner = fs::metadata(&self.path).or_else(|_| fs::metadata(self.folder()))?;
        fchown(file, Some(owner.uid()), Some(owner.gid()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> (tempfile::TempDir, KeyFile) {
        let dir = tempfile::tempdir().unwrap();
        let file = KeyFile::at(dir.path().join(KeyFile::NAME));
        (dir, file)
    }

    fn mode(file: &KeyFile) -> u32 {
        fs::metadata(file.path()).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_file_is_made_once_and_is_its_owner_s_alone() {
        let (_dir, file) = file();
        assert!(file.read().unwrap().is_none());
        assert!(file.read_or_make().unwrap().1);
        let text = fs::read_to_string(file.path()).unwrap();
        assert!(!file.read_or_make().unwrap().1);
        assert_eq!(fs::read_to_string(file.path()).unwrap(), text);
        assert_eq!((mode(&file), text.lines().filter(|line| !line.starts_with('#')).count()), (0o600, 1));
        let (_other_dir, other) = self::file();
        other.read_or_make().unwrap();
        assert_ne!(fs::read_to_string(other.path()).unwrap(), text);
    }

    #[test]
    fn a_key_is_added_under_the_next_id_and_an_old_one_retired() {
        let (_dir, file) = file();
        assert_eq!(file.add().unwrap(), 1);
        let first = fs::read_to_string(file.path()).unwrap();
        fs::write(file.path(), format!("{first}# mine")).unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(file.add().unwrap(), 2);
        let both = fs::read_to_string(file.path()).unwrap();
        assert!(both.starts_with(&format!("{first}# mine\n2:")), "the rest stays as it is");
        assert_eq!(mode(&file), 0o600);
        let ids = || file.read().unwrap().unwrap().ids();
        assert_eq!(ids(), [1, 2]);
        for (id, says) in [(2, "has no newer key than 2"), (3, "has no key 3")] {
            let refused = file.retire(id).unwrap_err();
            assert!(refused.problem().contains(says), "{refused}");
        }
        file.retire(1).unwrap();
        assert_eq!(ids(), [2]);
        assert_eq!(file.add().unwrap(), 3, "an id is never used again");
    }

    #[test]
    fn a_file_that_holds_no_keys_is_named_with_its_line_and_never_replaced() {
        let (_dir, file) = file();
        for (content, says) in [
            ("", "secrets.key holds no key"),
            ("# x\nwhatever\n", "secrets.key:2: "),
            ("\u{0}\u{1}", "secrets.key:1: "),
        ] {
            fs::write(file.path(), content).unwrap();
            let problems = [
                file.read().unwrap_err(),
                file.add().unwrap_err(),
                file.retire(1).unwrap_err(),
                file.read_or_make().unwrap_err(),
            ];
            for problem in problems {
                assert!(problem.problem().contains(says), "{problem}");
            }
            assert_eq!(fs::read_to_string(file.path()).unwrap(), content);
        }
        fs::write(file.path(), b"\xff\xfe").unwrap();
        assert!(file.add().unwrap_err().problem().contains("cannot be read"));
        fs::remove_file(file.path()).unwrap();
        fs::create_dir(file.path()).unwrap();
        assert!(file.read_or_make().unwrap_err().problem().contains("cannot be read"));
    }

    /// Only root can give files away, so that elsewhere there is nothing to see.
    #[test]
    fn a_file_that_root_changes_stays_its_owner_s() {
        let (dir, file) = file();
        if fs::metadata(dir.path()).unwrap().uid() != 0 {
            return;
        }
        let owner = || (fs::metadata(file.path()).unwrap().uid(), fs::metadata(file.path()).unwrap().gid());
        std::os::unix::fs::chown(dir.path(), Some(4_242), Some(4_243)).unwrap();
        file.add().unwrap();
        assert_eq!((owner(), mode(&file)), ((4_242, 4_243), 0o600), "a new one is the folder's owner's");
        std::os::unix::fs::chown(file.path(), Some(4_244), Some(4_245)).unwrap();
        file.add().unwrap();
        file.retire(1).unwrap();
        assert_eq!((owner(), mode(&file)), ((4_244, 4_245), 0o600));
    }

    #[test]
    fn of_two_who_add_a_key_at_once_neither_loses_it() {
        let (_dir, file) = file();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| file.add().unwrap());
            }
        });
        assert_eq!(file.read().unwrap().unwrap().ids(), (1..=8).collect::<Vec<_>>());
    }

    #[test]
    fn what_a_crash_left_half_written_does_not_become_the_keys() {
        let (dir, file) = file();
        fs::write(dir.path().join("secrets.key.new"), "half").unwrap();
        file.read_or_make().unwrap();
        assert_eq!(file.read().unwrap().unwrap().ids(), [1]);
    }
}
