//! The stores that the suite runs over.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use ringback::store::Store;
use ringback::store::memory::MemoryStore;

/// A place where one store lives: nothing at first, the same store at each further opening.
pub(crate) trait Subject {
    /// Opens the store. If it is open it is closed first, as a restart does it.
    fn open(&mut self) -> Pin<Box<dyn Future<Output = Arc<dyn Store>> + '_>>;

    /// From the next opening on, an application may have so many bytes of payload waiting. Nothing has been stored yet.
    fn limit(&mut self, max_open_bytes_per_application: u64);
}

/// The memory store cannot be closed and opened; it lets go of its leases, which is what a restart changes.
#[derive(Default)]
pub(crate) struct Memory(Arc<MemoryStore>);

impl Subject for Memory {
    fn open(&mut self) -> Pin<Box<dyn Future<Output = Arc<dyn Store>> + '_>> {
        self.0.drop_leases();
        let store: Arc<dyn Store> = self.0.clone();
        Box::pin(std::future::ready(store))
    }

    fn limit(&mut self, max_open_bytes_per_application: u64) {
        self.0 = Arc::new(MemoryStore::limited(max_open_bytes_per_application));
    }
}

/// The sled store, in a folder that lives as long as the subject.
#[cfg(feature = "sled")]
pub(crate) struct Sled {
    folder: tempfile::TempDir,
    open: Option<Arc<ringback::store::sled::SledStore>>,
    limit: Option<u64>,
}

#[cfg(feature = "sled")]
impl Default for Sled {
    fn default() -> Self {
        Sled { folder: tempfile::tempdir().unwrap(), open: None, limit: None }
    }
}

#[cfg(feature = "sled")]
impl Subject for Sled {
    fn open(&mut self) -> Pin<Box<dyn Future<Output = Arc<dyn Store>> + '_>> {
        use ringback::store::sled::{SledConfig, SledStore};
        Box::pin(async move {
            if let Some(store) = self.open.take() {
                store.close().await.unwrap();
            }
            let mut config = SledConfig::new(self.folder.path());
            config.max_open_bytes_per_application = self.limit.unwrap_or(config.max_open_bytes_per_application);
            let store = Arc::new(SledStore::open(config).await.unwrap());
            self.open = Some(Arc::clone(&store));
            store as Arc<dyn Store>
        })
    }

    fn limit(&mut self, max_open_bytes_per_application: u64) {
        self.limit = Some(max_open_bytes_per_application);
    }
}
