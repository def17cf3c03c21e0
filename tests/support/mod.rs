//! What several suites and the examples use.

#[cfg(feature = "sidecar")]
pub mod api;
pub mod dns;
pub mod http;
pub mod receiver;
#[cfg(feature = "sidecar")]
pub mod sidecar;
pub mod world;

use std::path::Path;
use std::time::Duration;

use ringback::{Config, Ringback};

#[allow(unused_imports, reason = "not every suite needs all of it")]
pub use receiver::{Behaviour, Received, Receiver};
#[allow(unused_imports, reason = "not every suite needs all of it")]
pub use world::{World, quick, retries};

/// A configuration that may call receivers on loopback. Endpoints do not rest, so that those of a suite about something else
/// fail as fast as they are tried.
#[allow(dead_code, reason = "not every suite needs it")]
pub fn config(path: &Path) -> Config {
    let mut config = Config::new(path);
    config.egress.allowed_networks.push("127.0.0.0/8".parse().unwrap());
    config.breaker_failures = 0;
    config
}

/// Opens the sender of a folder that may call receivers on loopback.
#[allow(dead_code, reason = "not every suite needs it")]
pub async fn open(path: &Path) -> Ringback {
    Ringback::open(config(path)).await.unwrap()
}

/// Runs a sender in the background; join it after `shutdown`.
#[allow(dead_code, reason = "not every suite needs it")]
#[allow(clippy::disallowed_methods, reason = "embedding programs spawn `run`")]
pub fn run(ringback: &Ringback) -> tokio::task::JoinHandle<()> {
    let ringback = ringback.clone();
    tokio::spawn(async move { ringback.run().await.unwrap() })
}

/// Waits until a condition holds.
#[allow(dead_code, reason = "not every suite needs it")]
pub async fn until<F: Future<Output = bool>>(mut condition: impl FnMut() -> F) {
    for _ in 0..1500 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("what was waited for has not come about");
}

/// An address on loopback where nothing listens. The port stays bound, so that nobody else is given it.
#[allow(dead_code, reason = "not every suite needs it")]
pub async fn closed_port() -> std::net::SocketAddr {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    // Bound and not listening: connections are refused. It is never let go.
    std::mem::forget(socket);
    address
}
