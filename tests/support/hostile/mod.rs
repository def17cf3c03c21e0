//! Receivers that do what no receiver should: the kinds, and what must come of each. They are bare TCP, so that they
//! can do anything; `script.rs` says what each one does, `peer.rs` does it.

#![allow(dead_code, reason = "not every user needs all of it")]

mod peer;
mod script;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ringback::{Failure, Outcome};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

use peer::Peer;
pub use tls::Authority;
use tls::Speaks;

/// How long a sender waits for a TCP connection, and again for a TLS handshake.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// The longest `Retry-After` that is followed.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What a receiver does to its sender. The outcome is in [`Hostile::outcome`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hostile {
    /// Reads the request and never says a word.
    Silent,
    /// Listens and never accepts; its backlog is full, so that no connection comes about.
    NeverAccepts,
    /// Has a port that nothing listens at.
    Refuses,
    /// Accepts, and lets the TLS handshake hang.
    TlsHangs,
    /// Says something else than TLS to the handshake.
    TlsGarbage,
    /// Closes in the middle of the handshake.
    TlsCloses,
    /// Resets the connection in the middle of the handshake.
    TlsResets,
    /// Shows a certificate that nobody vouches for.
    TlsUnknownAuthority,
    /// Shows a good certificate of another host.
    TlsOtherName,
    /// Answers with a body that ends with the connection, and leaves out TLS's own end (close_notify).
    TlsUnclosed,
    /// Speaks TLS where plain HTTP is expected: answers with a TLS alert.
    TlsBehindHttp,
    /// Resets the connection as soon as it is there.
    ResetsAtOnce,
    /// Reads the request and resets.
    ResetsAfterReading,
    /// Resets in the middle of the head.
    ResetsInHead,
    /// Resets in the middle of the body.
    ResetsInBody,
    /// Answers well, then resets: the connection is dead when it is wanted again.
    ResetsAfterAnswer,
    /// Closes its half before it has read anything.
    HalfClosesAtOnce,
    /// Closes its half when it has read the request.
    HalfClosesAfterReading,
    /// Closes its half in the middle of the head.
    HalfClosesInHead,
    /// Sends a byte of the head each second.
    DripsHead,
    /// Sends one header that has no end.
    EndlessHeader,
    /// Sends headers without number.
    EndlessHeaders,
    /// Sends 1,000 short headers.
    ThousandHeaders,
    /// Sends empty lines in place of a status line.
    EndlessBlankLines,
    /// Sends `100 Continue` as fast as it is read.
    ContinueFlood,
    /// Sends `103 Early Hints` as fast as it is read.
    EarlyHintsFlood,
    /// Sends `103 Early Hints` as fast as it is read, over TLS.
    EarlyHintsFloodOverTls,
    /// Sends `102 Processing` every 20 ms, without end.
    DripsInterim,
    /// Sends nine interim heads, then 200.
    NineInterim,
    /// Sends random-looking bytes.
    Garbage,
    /// Speaks first, as SSH does.
    SshBanner,
    /// Speaks first, as SMTP does.
    SmtpBanner,
    /// Speaks first, as HTTP/2 does.
    Http2,
    /// Sends a page without a head, as HTTP/0.9 did.
    Headless,
    /// Sends the status 999999.
    NonsenseStatus,
    /// Answers in HTTP/9.9.
    NonsenseVersion,
    /// Has control bytes in a header's value.
    ControlBytes,
    /// Has bytes in a header's value that are no UTF-8 (which HTTP allows).
    InvalidUtf8,
    /// Sends a body that ends with the connection, and does not end it.
    EndlessBody,
    /// Sends chunks without end.
    EndlessChunks,
    /// Announces 2^63-1 bytes, and sends them.
    HugeLength,
    /// Sends a byte of the body every 50 ms.
    DripsBody,
    /// Announces more bytes than it sends.
    LengthTooLong,
    /// Announces fewer bytes than it sends.
    LengthTooShort,
    /// Announces two lengths.
    LengthTwice,
    /// Announces a negative length.
    LengthNegative,
    /// Announces 2^64 bytes.
    LengthBeyond,
    /// Announces a length and chunks.
    LengthAndChunks,
    /// Sends a chunk whose size is no number.
    MalformedChunk,
    /// Sends a chunk whose size has no room in 64 bits.
    ChunkOverflow,
    /// Sends a chunk's extension without end.
    EndlessChunkExtension,
    /// Sends trailers without number.
    EndlessTrailers,
    /// Redirects with this status to an address on this machine, which must not be called.
    Redirects(u16),
    /// Sends a body that is a thousand times larger once it is unpacked, without end.
    GzipBomb,
    /// The same with the other encoding.
    DeflateBomb,
    /// Asks to be left alone for three trillion years.
    AbsurdRetryAfter,
    /// Sends a second answer together with the first.
    UnaskedAtOnce,
    /// Sends a second answer a moment after the first.
    UnaskedLater,
    /// Does not read the request.
    Unread,
    /// Refuses the request without reading it, and says that it closes; it does not.
    RefusesUnread,
    /// Answers `101 Switching Protocols`, which nobody asked for.
    SwitchingProtocols,
}

impl Hostile {
    /// Every kind.
    pub const ALL: [Hostile; 64] = {
        use Hostile::*;
        [
            Silent,
            NeverAccepts,
            Refuses,
            TlsHangs,
            TlsGarbage,
            TlsCloses,
            TlsResets,
            TlsUnknownAuthority,
            TlsOtherName,
            TlsUnclosed,
            TlsBehindHttp,
            ResetsAtOnce,
            ResetsAfterReading,
            ResetsInHead,
            ResetsInBody,
            ResetsAfterAnswer,
            HalfClosesAtOnce,
            HalfClosesAfterReading,
            HalfClosesInHead,
            DripsHead,
            EndlessHeader,
            EndlessHeaders,
            ThousandHeaders,
            EndlessBlankLines,
            ContinueFlood,
            EarlyHintsFlood,
            EarlyHintsFloodOverTls,
            DripsInterim,
            NineInterim,
            Garbage,
            SshBanner,
            SmtpBanner,
            Http2,
            Headless,
            NonsenseStatus,
            NonsenseVersion,
            ControlBytes,
            InvalidUtf8,
            EndlessBody,
            EndlessChunks,
            HugeLength,
            DripsBody,
            LengthTooLong,
            LengthTooShort,
            LengthTwice,
            LengthNegative,
            LengthBeyond,
            LengthAndChunks,
            MalformedChunk,
            ChunkOverflow,
            EndlessChunkExtension,
            EndlessTrailers,
            Redirects(301),
            Redirects(302),
            Redirects(307),
            Redirects(308),
            GzipBomb,
            DeflateBomb,
            AbsurdRetryAfter,
            UnaskedAtOnce,
            UnaskedLater,
            Unread,
            RefusesUnread,
            SwitchingProtocols,
        ]
    };

    /// What an attempt with this time limit must show.
    pub fn outcome(self, limit: Duration) -> Outcome {
        use Hostile::*;
        let connecting = |failure| if limit > CONNECT_LIMIT { failure } else { Failure::Timeout };
        let failure = match self {
            Silent | DripsHead | Unread => Failure::Timeout,
            NeverAccepts => connecting(Failure::Unreachable),
            Refuses => Failure::Refused,
            TlsHangs => connecting(Failure::Tls),
            TlsGarbage | TlsCloses | TlsResets | TlsUnknownAuthority | TlsOtherName => Failure::Tls,
            ResetsAtOnce
            | ResetsAfterReading
            | ResetsInHead
            | HalfClosesAtOnce
            | HalfClosesAfterReading
            | HalfClosesInHead => Failure::Reset,
            EndlessHeader
            | EndlessHeaders
            | ThousandHeaders
            | EndlessBlankLines
            | ContinueFlood
            | EarlyHintsFlood
            | EarlyHintsFloodOverTls
            | DripsInterim
            | NineInterim => Failure::Protocol,
            TlsBehindHttp | Garbage | SshBanner | SmtpBanner | Http2 | Headless | NonsenseStatus | NonsenseVersion
            | ControlBytes | LengthTwice | LengthNegative | LengthBeyond => Failure::Protocol,
            TlsUnclosed
            | ResetsInBody
            | ResetsAfterAnswer
            | InvalidUtf8
            | EndlessBody
            | EndlessChunks
            | HugeLength
            | DripsBody
            | LengthTooLong
            | LengthTooShort
            | LengthAndChunks
            | MalformedChunk
            | ChunkOverflow
            | EndlessChunkExtension
            | EndlessTrailers
            | GzipBomb
            | DeflateBomb
            | UnaskedAtOnce
            | UnaskedLater => {
                return Outcome::answered(200);
            }
            Redirects(status) => return Outcome::answered(status),
            RefusesUnread => return Outcome::answered(413),
            SwitchingProtocols => return Outcome::answered(101),
            AbsurdRetryAfter => return Outcome::Answered { status: 503, retry_after: Some(DAY), asked: None },
        };
        Outcome::Failed(failure)
    }

    /// Whether an attempt ends by nothing but its time limit.
    pub fn hangs(self) -> bool {
        self.outcome(Duration::MAX) == Outcome::Failed(Failure::Timeout)
    }

    /// Whether its connection is as good as new after an answer. All others must not be used again.
    pub fn keeps(self) -> bool {
        matches!(self, Hostile::InvalidUtf8 | Hostile::Redirects(_) | Hostile::AbsurdRetryAfter)
    }

    /// Whether it must be sent 1 MiB to be what it is.
    pub fn wants_much(self) -> bool {
        matches!(self, Hostile::Unread | Hostile::RefusesUnread)
    }

    /// Starts one on a port of its own.
    pub async fn start(self, authority: &Authority) -> Receiver {
        Receiver::start(self, authority).await
    }
}

/// What a receiver has seen.
#[derive(Debug, Default)]
pub struct Seen {
    connections: AtomicUsize,
    open: AtomicUsize,
    requests: AtomicUsize,
    most_on_a_connection: AtomicUsize,
    elsewhere: AtomicUsize,
}

/// A running receiver. Dropping it ends it, with all its connections.
pub struct Receiver {
    pub kind: Hostile,
    pub url: String,
    seen: Arc<Seen>,
    /// Every task ends when this is dropped.
    _running: watch::Sender<()>,
    _unused: Option<TcpSocket>,
}

impl Receiver {
    async fn start(kind: Hostile, authority: &Authority) -> Receiver {
        let (running, over) = watch::channel(());
        let seen = Arc::new(Seen::default());
        let mut receiver = Receiver { kind, url: String::new(), seen, _running: running, _unused: None };
        let socket = TcpSocket::new_v4().unwrap();
        if kind.wants_much() {
            // Otherwise the machine would take the whole request in the receiver's place.
            socket.set_recv_buffer_size(4096).unwrap();
        }
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        let scheme = if kind.speaks() == Speaks::Plain { "http" } else { "https" };
        receiver.url = format!("{scheme}://{address}/hook");
        if kind == Hostile::Refuses {
            // Bound and not listening, for as long as the receiver is there.
            receiver._unused = Some(socket);
        } else if kind == Hostile::NeverAccepts {
            let listener = socket.listen(0).unwrap();
            let waiting = fill(address).await;
            spawn_until(over, async move {
                let _held = (listener, waiting);
                std::future::pending::<()>().await;
            });
        } else {
            let trap = receiver.trap(over.clone()).await;
            let serving = Serving { kind, trap, seen: Arc::clone(&receiver.seen), over: over.clone() };
            let listener = socket.listen(1024).unwrap();
            spawn_until(over, serving.serve(listener, authority.clone()));
        }
        receiver
    }

    /// Where a redirect leads, and nobody must come.
    async fn trap(&self, over: watch::Receiver<()>) -> Option<SocketAddr> {
        if !matches!(self.kind, Hostile::Redirects(_)) {
            return None;
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::clone(&self.seen);
        spawn_until(over, async move {
            while listener.accept().await.is_ok() {
                seen.elsewhere.fetch_add(1, Ordering::SeqCst);
            }
        });
        Some(address)
    }

    /// How many connections it has had.
    pub fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// How many of them neither side has ended.
    pub fn open(&self) -> usize {
        self.seen.open.load(Ordering::SeqCst)
    }

    /// How many requests arrived whole.
    pub fn requests(&self) -> usize {
        self.seen.requests.load(Ordering::SeqCst)
    }

    /// How many requests at most came by one connection, the last of them whole or not.
    pub fn most_on_a_connection(&self) -> usize {
        self.seen.most_on_a_connection.load(Ordering::SeqCst)
    }

    /// How many connections came to where it redirected to.
    pub fn elsewhere(&self) -> usize {
        self.seen.elsewhere.load(Ordering::SeqCst)
    }
}

/// What the connections of a receiver are given.
#[derive(Clone)]
struct Serving {
    kind: Hostile,
    trap: Option<SocketAddr>,
    seen: Arc<Seen>,
    over: watch::Receiver<()>,
}

impl Serving {
    async fn serve(self, listener: TcpListener, authority: Authority) {
        let script = Arc::new(self.kind.script(self.trap));
        loop {
            // Out of descriptors, perhaps: there will be some again.
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            self.seen.connections.fetch_add(1, Ordering::SeqCst);
            self.seen.open.fetch_add(1, Ordering::SeqCst);
            let (serving, script, authority) = (self.clone(), Arc::clone(&script), authority.clone());
            spawn_until(self.over.clone(), async move {
                let _open = Open(Arc::clone(&serving.seen));
                // A receiver's end of a connection may fail in any way.
                let _ = serving.connection(stream, &script, &authority).await;
            });
        }
    }

    async fn connection(&self, stream: TcpStream, script: &script::Script, authority: &Authority) -> io::Result<()> {
        stream.set_nodelay(true)?;
        if script.resets() {
            // What is dropped is then reset, and not closed.
            stream.set_zero_linger()?;
        }
        match self.kind.speaks() {
            Speaks::Plain | Speaks::PlainBehindHttps => Peer::new(stream, &self.seen).play(script).await,
            Speaks::Tls(certificate) => {
                let stream = authority.acceptor(certificate).accept(stream).await?;
                Peer::new(stream, &self.seen).play(script).await
            }
        }
    }
}

/// Counts a connection as ended when it is.
struct Open(Arc<Seen>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Fills the backlog of a listener that never accepts.
#[allow(clippy::disallowed_methods, reason = "a receiver calls itself")]
async fn fill(address: SocketAddr) -> Vec<TcpStream> {
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) = timeout(Duration::from_millis(100), TcpStream::connect(address)).await {
        waiting.push(stream);
    }
    waiting
}

#[allow(clippy::disallowed_methods, reason = "a receiver is not part of the sender")]
fn spawn_until(mut over: watch::Receiver<()>, task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(async move {
        tokio::select! {
            () = task => {}
            _ = over.changed() => {}
        }
    });
}
