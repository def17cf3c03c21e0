//! The yardstick: a bare append-only file whose thread folds whatever waits into one write and one `fdatasync`.
//!
//! It keeps no index, can be asked nothing and never frees anything: what durability alone costs.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

/// As much as one commit of the store takes.
const MOST_BYTES: usize = 1024 * 1024;

type Append = (Vec<u8>, oneshot::Sender<()>);

pub struct Log {
    appends: mpsc::Sender<Append>,
    thread: JoinHandle<()>,
}

impl Log {
    pub fn open(path: &Path) -> Log {
        let file = File::create(path).unwrap();
        let (appends, requests) = mpsc::channel(8192);
        Log { appends, thread: std::thread::spawn(move || write(file, requests)) }
    }

    /// Returns when the bytes are on disk.
    pub async fn append(&self, bytes: Vec<u8>) {
        let (done, synced) = oneshot::channel();
        self.appends.send((bytes, done)).await.unwrap();
        synced.await.unwrap();
    }

    pub fn close(self) {
        drop(self.appends);
        self.thread.join().unwrap();
    }
}

fn write(mut file: File, mut requests: mpsc::Receiver<Append>) {
    let mut buffer = Vec::new();
    let mut waiting = Vec::new();
    while let Some((bytes, done)) = requests.blocking_recv() {
        buffer.extend_from_slice(&bytes);
        waiting.push(done);
        while buffer.len() < MOST_BYTES
            && let Ok((bytes, done)) = requests.try_recv()
        {
            buffer.extend_from_slice(&bytes);
            waiting.push(done);
        }
        file.write_all(&buffer).unwrap();
        file.sync_data().unwrap();
        buffer.clear();
        waiting.drain(..).for_each(|done| done.send(()).unwrap());
    }
}
