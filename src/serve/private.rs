//! Files that their owner alone may read, written whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// What is wrong with a data folder that others can get into.
pub(super) fn folder_problem(folder: &Path) -> Option<String> {
    let mode = fs::metadata(folder).ok()?.permissions().mode() & 0o777;
    let shown = folder.display();
    (mode & 0o077 != 0)
        .then(|| format!("{shown} holds secrets, and its mode {mode:o} lets others into it; `chmod -R go-rwx` it"))
}

/// Writes a file of a folder that this process holds. It is never readable by others, not even while it is written,
/// and after a crash it is the old one or the new one.
pub(super) fn write(folder: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let draft = folder.join(format!("{name}.new"));
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    // `create_new`: a file, or a link to one, that somebody else put there would keep its own mode.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&draft, folder.join(name))?;
    File::open(folder)?.sync_all()
}
