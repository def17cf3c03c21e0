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
}

/// The sled store, in a folder that lives as long as the subject.
#[cfg(feature = "sled")]
pub(crate) struct Sled {
    folder: tempfile::TempDir,
    open: Option<Arc<ringback::store::sled::SledStore>>,
}

#[cfg(feature = "sled")]
impl Default for Sled {
    fn default() -> Self {
        Sled { folder: tempfile::tempdir().unwrap(), open: None }
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
            let store = Arc::new(SledStore::open(SledConfig::new(self.folder.path())).await.unwrap());
            self.open = Some(Arc::clone(&store));
            store as Arc<dyn Store>
        })
    }
}
