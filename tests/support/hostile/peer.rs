//! A receiver's end of one connection.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::sleep;

use super::Seen;
use super::script::{Reads, Script, Then};

pub(super) struct Peer<S> {
    stream: S,
    seen: Arc<Seen>,
    /// What has been read and belongs to no request that was counted.
    buffer: Vec<u8>,
    begun: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    pub(super) fn new(stream: S, seen: &Arc<Seen>) -> Self {
        Peer { stream, seen: Arc::clone(seen), buffer: Vec::new(), begun: 0 }
    }

    /// Does what the script says, until it or the sender ends the connection.
    pub(super) async fn play(mut self, script: &Script) -> io::Result<()> {
        loop {
            match script.reads {
                Reads::Nothing => {}
                Reads::Something => self.fill().await?,
                Reads::Request => self.request().await?,
            }
            self.stream.write_all(&script.says).await?;
            self.stream.flush().await?;
            match &script.then {
                Then::Serves => {}
                Then::Holds => self.hold().await?,
                Then::Ignores => std::future::pending().await,
                Then::Repeats(piece) => loop {
                    self.stream.write_all(piece).await?;
                },
                Then::Drips(piece, pause) => loop {
                    // The sender's end must be seen at once, and not with the second piece after it.
                    tokio::select! {
                        read = self.stream.read_u8() => { read?; }
                        () = sleep(*pause) => self.stream.write_all(piece).await?,
                    }
                    self.stream.flush().await?;
                },
                Then::SaysLater(later, pause) => {
                    sleep(*pause).await;
                    self.stream.write_all(later).await?;
                    self.hold().await?;
                }
                Then::HalfCloses => {
                    self.stream.shutdown().await?;
                    self.hold().await?;
                }
                Then::Drops => return Ok(()),
            }
        }
    }

    /// Says nothing more, and counts what still comes. Ends with the connection.
    async fn hold(&mut self) -> io::Result<()> {
        loop {
            self.request().await?;
        }
    }

    /// Reads one request whole.
    async fn request(&mut self) -> io::Result<()> {
        let length = loop {
            if let Some(length) = length(&self.buffer) {
                break length;
            }
            self.fill().await?;
        };
        while self.buffer.len() < length {
            self.fill().await?;
        }
        self.buffer.drain(..length);
        self.seen.requests.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// Reads some more. The end of the connection is an error.
    async fn fill(&mut self) -> io::Result<()> {
        let begins = self.buffer.is_empty();
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if begins {
            self.begun += 1;
            self.seen.most_on_a_connection.fetch_max(self.begun, Ordering::SeqCst);
        }
        Ok(())
    }
}

/// How many bytes the request has that begins here; `None` if that cannot be said yet.
fn length(buffer: &[u8]) -> Option<usize> {
    let head = buffer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let text = String::from_utf8_lossy(&buffer[..head]).to_ascii_lowercase();
    let body = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    Some(head + 4 + body.unwrap_or(0))
}
