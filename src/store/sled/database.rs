//! Opening and dropping sled, with what it needs around it.

use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::id::{ApplicationId, EndpointId};
use crate::store::{Error, RecordKind};

use super::commit::Commit;
use super::current;
use super::folder::{Folder, sync_folder};
use super::keys;
use super::lanes::Lanes;
use super::open_bytes::OpenBytes;
use super::rows::{self, Counters, RecordRow};
use crate::delivery::Lane;

/// Fixed for the life of a database. A leaf over a quarter of it would leave the log (see `rows::PART`).
const SEGMENT: usize = 4 * 1024 * 1024;
const CACHE: u64 = 64 * 1024 * 1024;
/// How long a database that is being dropped, or whose lock is still held by this process, is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// An open database.
#[derive(Debug)]
pub(super) struct Database {
    pub(super) db: sled::Db,
    /// Our own descriptor of sled's file, for `fdatasync`.
    pub(super) file: File,
    /// Its folder.
    pub(super) path: PathBuf,
}

/// What opening found.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) database: Database,
    pub(super) counters: Counters,
    pub(super) open_bytes: OpenBytes,
    pub(super) lanes: Lanes,
    pub(super) warnings: Vec<String>,
}

impl Database {
    /// Opens the database of a folder, raises the epoch durably, and finds the lanes that have work.
    pub(super) fn open(folder: &Folder, max_cached_bytes: usize) -> Result<Opened, Error> {
        let failed = |problem: String| Error::Open { folder: folder.path().display().to_string(), problem };
        let io = |error: io::Error| failed(error.to_string());
        let name = current::in_force(folder.path()).map_err(io)?;
        let path = folder.path().join(&name);
        let db = open_sled(&path).map_err(failed)?;
        // At each open: a crash may have come between making the files and this.
        sync_folder(&path).and_then(|()| sync_folder(folder.path())).map_err(io)?;
        let file = File::open(path.join("db")).map_err(io)?;
        let mut warnings = Vec::new();
        // Only now: what puts this one in force is on disk.
        if let Err(error) = current::remove_others(folder.path(), &name) {
            warnings.push(format!("what a compaction left behind could not be removed: {error}"));
        }
        let (mut counters, counted) = read_counters(&db, &mut warnings).map_err(|error| failed(error.to_string()))?;
        if let Some(acked) = folder.acknowledged().filter(|acked| *acked > counters.commit) {
            let lost = acked - counters.commit;
            warnings.push(format!("the disk lost the last {lost} commits, although they were synced: check the disk"));
        }
        if fs::read_dir(path.join("blobs")).is_ok_and(|mut entries| entries.next().is_some()) {
            warnings.push("sled/blobs is not empty: its files are not synced".to_owned());
        }
        let set_aside = db.scan_prefix(keys::all_set_aside()).keys().take(10_000).count();
        if set_aside > 0 {
            warnings.push(format!("{set_aside} damaged records have been set aside"));
        }
        let (open_bytes, damaged) = OpenBytes::read(&db, counted).map_err(|error| failed(error.to_string()))?;
        if damaged {
            warnings.push("what waits in an application was damaged and has been counted anew".to_owned());
        }
        counters.epoch += 1;
        let database = Database { db, file, path };
        let counters = Commit::over(counters).write(&database.db, &database.file, folder).map_err(io)?;
        let mut lanes = Lanes::new(counters.epoch, max_cached_bytes);
        find_lanes(&database.db, &mut lanes).map_err(|error| failed(error.to_string()))?;
        Ok(Opened { database, counters, open_bytes, lanes, warnings })
    }

    /// Makes an empty one.
    pub(super) fn create(path: &Path) -> io::Result<Database> {
        let db = open_sled(path).map_err(io::Error::other)?;
        let file = File::open(path.join("db"))?;
        Ok(Database { db, file, path: path.to_owned() })
    }

    /// Drops the database on a thread of its own: sled was seen to block there. Gives up waiting after a while.
    pub(super) fn drop_within_bound(self) {
        let (done, wait) = std::sync::mpsc::channel();
        let dropping = std::thread::Builder::new().name("ringback-drop".into()).spawn(move || {
            drop(self);
            let _ = done.send(());
        });
        if dropping.is_ok() && wait.recv_timeout(PATIENCE).is_err() {
            tracing::warn!("the store's files are still being closed in the background");
        }
    }
}

/// Opens sled. Half-written snapshots are removed first; a snapshot that does not fit its log is set aside,
/// since the log alone is enough; a panic becomes an error.
fn open_sled(path: &Path) -> Result<sled::Db, String> {
    remove_unfinished_snapshots(path);
    let mut waited = Duration::ZERO;
    let mut snapshots_set_aside = false;
    loop {
        let attempt = catch_unwind(AssertUnwindSafe(|| {
            sled::Config::new()
                .path(path)
                .segment_size(SEGMENT)
                .cache_capacity(CACHE)
                .flush_every_ms(Some(1000))
                .use_compression(false)
                .open()
        }));
        match attempt {
            Ok(Ok(db)) => return Ok(db),
            Ok(Err(sled::Error::Io(error))) if error.to_string().contains("lock") && waited < PATIENCE => {
                // sled's own lock, still held by a database that this process is dropping.
                std::thread::sleep(Duration::from_millis(50));
                waited += Duration::from_millis(50);
            }
            Ok(Err(sled::Error::Corruption { .. })) | Err(_) if !snapshots_set_aside => {
                snapshots_set_aside = true;
                set_snapshots_aside(path);
            }
            Ok(Err(error)) => return Err(format!("{error}; restore the folder from a backup, or use a new one")),
            Err(_) => return Err("its files are damaged; restore the folder from a backup, or use a new one".into()),
        }
    }
}

fn each_snapshot(path: &Path, act: impl Fn(&Path, &str)) {
    let Ok(entries) = fs::read_dir(path) else { return };
    for entry in entries.flatten() {
        if let Some(name) = entry.file_name().to_str().filter(|name| name.starts_with("snap.")) {
            act(&entry.path(), name);
        }
    }
}

fn remove_unfinished_snapshots(path: &Path) {
    each_snapshot(path, |file, name| {
        if name.ends_with(".generating") {
            let _ = fs::remove_file(file);
        }
    });
}

fn set_snapshots_aside(path: &Path) {
    each_snapshot(path, |file, name| {
        tracing::warn!(name, "a snapshot does not fit the log and is set aside");
        let _ = fs::rename(file, path.join(format!("aside.{name}")));
    });
}

/// The counters, and whether what waits in each application has been counted.
fn read_counters(db: &sled::Db, warnings: &mut Vec<String>) -> sled::Result<(Counters, bool)> {
    let key = keys::commit();
    let Some(value) = db.get(&key)? else { return Ok((Counters::default(), true)) };
    if let Ok(read) = Counters::unseal(&key, &value) {
        return Ok(read);
    }
    warnings.push("the counters were damaged and have been counted anew".to_owned());
    Ok((recount(db)?, false))
}

/// Counts anew what the counters' row held. Commit, epoch and sequence jump ahead of anything used before.
fn recount(db: &sled::Db) -> sled::Result<Counters> {
    let mut counters = Counters { commit: 1 << 40, epoch: 1 << 40, sequence: 1 << 40, ..Default::default() };
    for item in db.iter() {
        let (key, value) = item?;
        if keys::read_waiting(&key).is_some() {
            counters.open += 1;
            if let Ok(row) = rows::WaitingRow::unseal(&key, &value) {
                counters.open_bytes += u64::from(row.bytes);
            }
        }
        if keys::read_order(&key).is_some_and(|order| order.rank == keys::Rank::Held) {
            counters.open += 1;
            if let Ok(row) = rows::unseal::<rows::HeldRow>(&key, &value) {
                counters.open_bytes += u64::from(row.bytes);
            }
        }
        if key.get(16).is_some_and(|tag| keys::COUNTED_AS_KEPT.contains(tag)) {
            counters.kept_bytes += value.len() as u64;
        }
    }
    Ok(counters)
}

/// The next application at or after a key, by a jump to the first key that is there.
pub(super) fn next_application(tree: &sled::Tree, from: &[u8]) -> sled::Result<Option<ApplicationId>> {
    match tree.range(from..).next() {
        Some(item) => Ok(keys::read_application(&item?.0)),
        None => Ok(None),
    }
}

/// Finds every lane with a waiting row, by jumps from lane to lane, and the lanes that are closed.
fn find_lanes(tree: &sled::Tree, lanes: &mut Lanes) -> sled::Result<()> {
    let mut from = keys::after_application(ApplicationId::NONE);
    while let Some(application) = next_application(tree, &from)? {
        let mut seek = keys::lanes(application);
        let end = keys::after_prefix(seek.clone());
        while let Some(item) = tree.range(seek.as_slice()..end.as_slice()).next() {
            let key = item?.0;
            let Some((lane, (due, _))) = keys::read_waiting(&key) else { break };
            lanes.found_on_disk(lane, due);
            seek = keys::after_prefix(keys::lane(lane));
        }
        let prefix = keys::records(RecordKind::Endpoint, Some(application));
        for item in tree.scan_prefix(prefix) {
            let (key, value) = item?;
            let inactive = rows::unseal::<RecordRow>(&key, &value).is_ok_and(|row| !row.active);
            let endpoint = keys::read_record(&key).try_into().map(EndpointId::from_bytes);
            if let (true, Ok(endpoint)) = (inactive, endpoint) {
                lanes.set_closed(Lane { application, endpoint }, true);
            }
        }
        from = keys::after_application(application);
    }
    Ok(())
}
