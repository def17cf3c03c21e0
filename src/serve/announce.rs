//! `sidecar.json` in the data folder: where the server of the folder answers, for commands on this machine.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::private;

/// The file's name in the data folder.
pub(crate) const NAME: &str = "sidecar.json";

/// A file that says where the server answers, while it does.
#[derive(Debug)]
pub(super) struct Announcement(PathBuf);

impl Announcement {
    pub(super) fn write(folder: &Path, address: SocketAddr) -> io::Result<Announcement> {
        let content = json!({
            "address": reachable(address).to_string(),
            "pid": std::process::id(),
            "version": env!("CARGO_PKG_VERSION"),
        });
        private::write(folder, NAME, format!("{content}\n").as_bytes())?;
        Ok(Announcement(folder.join(NAME)))
    }

    /// Removes it. If that fails, the next start writes it anew, and until then nothing answers at its address.
    pub(super) fn remove(self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::warn!(%error, "{} cannot be removed", self.0.display());
        }
    }
}

/// Nobody can connect to "every address": from this machine, loopback is the one to take.
fn reachable(address: SocketAddr) -> SocketAddr {
    let loopback: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    if address.ip().is_unspecified() { SocketAddr::new(loopback, address.port()) } else { address }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_announced_as_one_that_can_be_called() {
        for (address, announced) in [
            ("0.0.0.0:8071", "127.0.0.1:8071"),
            ("[::]:8071", "[::1]:8071"),
            ("10.1.2.3:80", "10.1.2.3:80"),
            ("127.0.0.1:1", "127.0.0.1:1"),
        ] {
            assert_eq!(reachable(address.parse().unwrap()).to_string(), announced);
        }
    }
}
