//! The store's folder: who holds it, which format it has, and what was acknowledged last.
//!
//! ```text
//! LOCK     held by the process that has the store open; names it
//! FORMAT   the layout's number: a newer one is refused before anything else is touched
//! ACKED    the last commit that was acknowledged, outside the tree: a tail that the tree lost is noticed
//! sled/    the tree, until a compaction makes another one: see `current.rs`
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use crate::store::Error;

/// The layout that this version writes, and the newest that it reads. It reads all earlier ones: 1 had no expunged
/// messages and attempts, and no rows with the open bytes of each application; 2 had no sealed secrets, and would leave out
/// the endpoints that have them; 3 had no messages with an ordering key, a schedule, an expiry or tags, and no answers that
/// ask for something, and would take those for damage. It also knew no tree but `sled/`, and would begin an empty one
/// after a compaction.
pub(super) const FORMAT: u32 = 4;

/// An open store folder.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    lock: Mutex<Option<File>>,
    acked: File,
}

impl Folder {
    /// Makes the folder if it is not there, and takes it.
    pub(super) fn open(path: &Path) -> Result<Folder, Error> {
        let shown = path.display().to_string();
        let failed = |what: &'static str| {
            let folder = shown.clone();
            move |error: io::Error| Error::Open { folder, problem: format!("{what}: {error}") }
        };
        let made = !path.exists();
        // It holds secrets: nobody else is to read it. One that is there keeps its mode.
        let private = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        private.map_err(failed("the folder cannot be made"))?;
        let format = read_format(path)?;
        let lock = take_lock(path)?;
        write_format(path, format).map_err(failed("FORMAT cannot be written"))?;
        let open =
            |name: &str| OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path.join(name));
        let acked = open("ACKED").map_err(failed("ACKED cannot be opened"))?;
        if made {
            sync_folder(path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))
                .map_err(failed("the folder's parent cannot be synced"))?;
        }
        sync_folder(path).map_err(failed("the folder cannot be synced"))?;
        Ok(Folder { path: path.to_owned(), lock: Mutex::new(Some(lock)), acked })
    }

    /// Lets others open the folder.
    pub(super) fn release(&self) {
        *self.lock.lock().expect("no code panics while it holds the lock's file") = None;
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The last acknowledged commit, as far as this file knows; `None` if it never knew or is torn.
    pub(super) fn acknowledged(&self) -> Option<u64> {
        let mut bytes = [0; 12];
        self.acked.read_exact_at(&mut bytes, 0).ok()?;
        let (number, sum) = bytes.split_at(8);
        let fits = crc32fast::hash(number).to_be_bytes() == sum;
        fits.then(|| u64::from_be_bytes(number.try_into().expect("eight bytes were split off")))
    }

    /// Notes a commit that is about to be acknowledged. Not synced: it survives a crash of the process, and
    /// after a crash of the machine an older number only makes the check weaker, never wrong.
    pub(super) fn acknowledge(&self, commit: u64) -> io::Result<()> {
        let number = commit.to_be_bytes();
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&number);
        bytes[8..].copy_from_slice(&crc32fast::hash(&number).to_be_bytes());
        self.acked.write_all_at(&bytes, 0)
    }

    /// Bytes that the store takes on disk.
    pub(super) fn disk_bytes(&self) -> u64 {
        fn size(path: &Path) -> u64 {
            let Ok(entries) = fs::read_dir(path) else { return 0 };
            let of = |entry: fs::DirEntry| match entry.metadata() {
                Ok(meta) if meta.is_dir() => size(&entry.path()),
                Ok(meta) => meta.len(),
                Err(_) => 0,
            };
            entries.flatten().map(of).sum()
        }
        size(&self.path)
    }

    /// Bytes that are free on the folder's file system; all there are if that cannot be known.
    pub(super) fn free_bytes(&self) -> u64 {
        rustix::fs::statvfs(&self.path).map_or(u64::MAX, |fs| fs.f_bavail.saturating_mul(fs.f_frsize))
    }
}

/// Syncs a folder, so that the files made in it are found after a power cut.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The folder's format, if it has one yet; a newer one is refused.
fn read_format(path: &Path) -> Result<Option<u32>, Error> {
    let folder = path.display().to_string();
    let text = match fs::read_to_string(path.join("FORMAT")) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::Open { folder, problem: format!("FORMAT cannot be read: {error}") }),
    };
    match text.trim().parse::<u32>() {
        Ok(found) if found > FORMAT => Err(Error::NewerFormat { folder, found, known: FORMAT }),
        Ok(found) => Ok(Some(found)),
        Err(_) => {
            let problem = "FORMAT does not hold a number: is this a ringback folder?".to_owned();
            Err(Error::Open { folder, problem })
        }
    }
}

/// From here on the folder may get rows that programs of an earlier format do not know.
fn write_format(path: &Path, found: Option<u32>) -> io::Result<()> {
    if found == Some(FORMAT) {
        return Ok(());
    }
    let file = path.join("FORMAT");
    // Under another name first: a file that is cut short would refuse every later open.
    let draft = path.join("FORMAT.new");
    let mut written = File::create(&draft)?;
    writeln!(written, "{FORMAT}")?;
    written.sync_all()?;
    fs::rename(draft, file)
}

/// Takes the folder's lock. One that this very process is still letting go of is waited for, up to 5 s.
fn take_lock(path: &Path) -> Result<File, Error> {
    const PATIENCE: Duration = Duration::from_secs(5);
    const PAUSE: Duration = Duration::from_millis(50);
    let folder = path.display().to_string();
    let failed = |error: io::Error| Error::Open { folder: folder.clone(), problem: format!("LOCK: {error}") };
    let mut options = OpenOptions::new();
    let mut lock =
        options.read(true).write(true).create(true).truncate(false).open(path.join("LOCK")).map_err(failed)?;
    let mut waited = Duration::ZERO;
    loop {
        match lock.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(error)) => return Err(failed(error)),
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                lock.seek(SeekFrom::Start(0)).and_then(|_| lock.read_to_string(&mut holder)).map_err(failed)?;
                let own = holder.trim() == name();
                if !own || waited >= PATIENCE {
                    let holder = if own { "this process".to_owned() } else { holder.trim().to_owned() };
                    return Err(Error::Locked { folder, holder });
                }
                std::thread::sleep(PAUSE);
                waited += PAUSE;
            }
        }
    }
    lock.set_len(0).and_then(|()| lock.seek(SeekFrom::Start(0))).map_err(failed)?;
    lock.write_all(name().as_bytes()).map_err(failed)?;
    Ok(lock)
}

/// What the lock says of its holder.
fn name() -> String {
    let program = std::env::current_exe().ok().and_then(|exe| Some(exe.file_name()?.to_string_lossy().into_owned()));
    format!("process {} ({})", std::process::id(), program.as_deref().unwrap_or("unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_format_is_refused_and_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("FORMAT"), format!("{}\n", FORMAT + 1)).unwrap();
        let error = Folder::open(dir.path()).unwrap_err();
        assert!(matches!(error, Error::NewerFormat { found, known: FORMAT, .. } if found == FORMAT + 1), "{error}");
        let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["FORMAT"]);
    }

    #[test]
    fn a_folder_of_an_earlier_format_is_raised_to_this_one() {
        let dir = tempfile::tempdir().unwrap();
        let format = dir.path().join("FORMAT");
        for earlier in ["1\n", "2\n", "3\n"] {
            fs::write(&format, earlier).unwrap();
            for _ in 0..2 {
                drop(Folder::open(dir.path()).unwrap());
                assert_eq!(fs::read_to_string(&format).unwrap(), format!("{FORMAT}\n"));
            }
        }
    }

    #[test]
    fn the_last_acknowledged_commit_is_kept_and_a_torn_one_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        assert_eq!(folder.acknowledged(), None);
        folder.acknowledge(77).unwrap();
        assert_eq!(folder.acknowledged(), Some(77));
        fs::write(dir.path().join("ACKED"), [1; 12]).unwrap();
        assert_eq!(folder.acknowledged(), None);
    }
}
