//! What each kind of receiver does with a connection, as data.

use std::net::SocketAddr;
use std::time::Duration;

use super::Hostile;

/// What a receiver does with a connection.
pub(super) struct Script {
    pub(super) reads: Reads,
    pub(super) says: Vec<u8>,
    pub(super) then: Then,
    resets: bool,
}

/// What it reads before it says something.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reads {
    Nothing,
    Something,
    Request,
}

/// What it does when it has said something.
pub(super) enum Then {
    /// The same with the next request.
    Serves,
    /// Nothing: it reads on.
    Holds,
    /// Nothing at all.
    Ignores,
    /// Says this as fast as it is read, for ever.
    Repeats(Vec<u8>),
    /// Says this after each pause, for ever.
    Drips(Vec<u8>, Duration),
    /// Says this after a pause, and then nothing.
    SaysLater(Vec<u8>, Duration),
    /// Closes its half, and reads on.
    HalfCloses,
    /// Lets the connection go: closed, or reset.
    Drops,
}

const OK: &str = "HTTP/1.1 200 OK\r\n";
const OK_EMPTY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const NO_BODY: &str = "Content-Length: 0\r\n\r\n";
const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n";
const GONE: &str = "HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n";
/// About as much as what repeats says at once: small enough to be stopped soon, large enough to be a flood.
const PIECE: usize = 4096;

impl Script {
    fn new(reads: Reads, says: impl Into<Vec<u8>>, then: Then) -> Script {
        Script { reads, says: says.into(), then, resets: false }
    }

    /// Whether the connection is reset where it is let go.
    pub(super) fn resets(&self) -> bool {
        self.resets
    }
}

/// Says this to a request, and then nothing.
fn says(says: impl AsRef<[u8]>) -> Script {
    Script::new(Reads::Request, says.as_ref(), Then::Holds)
}

/// Says this before it is asked, and then nothing.
fn says_first(says: impl AsRef<[u8]>) -> Script {
    Script::new(Reads::Nothing, says.as_ref(), Then::Holds)
}

/// Says this to each request.
fn serves(says: impl AsRef<[u8]>) -> Script {
    Script::new(Reads::Request, says.as_ref(), Then::Serves)
}

/// Says this to a request, then the piece for ever.
fn floods(says: &str, piece: &str) -> Script {
    Script::new(Reads::Request, says, Then::Repeats(piece.repeat(PIECE.div_ceil(piece.len())).into()))
}

/// Says this to a request, then the piece after each pause.
fn drips(says: &str, piece: &str, pause: Duration) -> Script {
    Script::new(Reads::Request, says, Then::Drips(piece.into(), pause))
}

/// Says this, and closes its half.
fn half_closes(reads: Reads, says: impl AsRef<[u8]>) -> Script {
    Script::new(reads, says.as_ref(), Then::HalfCloses)
}

/// Says this, and resets the connection.
fn resets(reads: Reads, says: &str) -> Script {
    Script { resets: true, ..Script::new(reads, says, Then::Drops) }
}

fn ok(rest: &str) -> String {
    [OK, rest].concat()
}

fn chunked(rest: &str) -> String {
    [OK, "Transfer-Encoding: chunked\r\n\r\n", rest].concat()
}

impl Hostile {
    /// What it does; `trap` is where it redirects to. A table, as long as there are kinds.
    pub(super) fn script(self, trap: Option<SocketAddr>) -> Script {
        use Hostile::*;
        use Reads::{Nothing, Request, Something};
        match self {
            Silent => says(""),
            // They have no connections.
            NeverAccepts | Refuses => Script::new(Nothing, "", Then::Ignores),

            TlsHangs => says(""),
            TlsGarbage => Script::new(Something, "HTTP/1.1 400 Bad Request\r\n\r\n", Then::Holds),
            TlsCloses => half_closes(Something, ""),
            TlsResets => resets(Something, ""),
            // The handshake has failed already.
            TlsUnknownAuthority | TlsOtherName => says(OK_EMPTY),
            TlsUnclosed => Script::new(Request, ok("\r\nthe end"), Then::Drops),
            // A fatal alert: "unexpected message".
            TlsBehindHttp => half_closes(Request, [0x15, 3, 3, 0, 2, 2, 10]),

            ResetsAtOnce => resets(Nothing, ""),
            ResetsAfterReading => resets(Request, ""),
            ResetsInHead => resets(Request, &ok("Content-Le")),
            ResetsInBody => resets(Request, &ok("Content-Length: 9\r\n\r\nfirst")),
            ResetsAfterAnswer => resets(Request, OK_EMPTY),
            HalfClosesAtOnce => half_closes(Nothing, ""),
            HalfClosesAfterReading => half_closes(Request, ""),
            HalfClosesInHead => half_closes(Request, ok("Content-Le")),

            DripsHead => drips(&ok("X-Drip: "), "a", Duration::from_secs(1)),
            EndlessHeader => floods(&ok("X-Endless: "), "a"),
            EndlessHeaders => floods(OK, "X-More: and more\r\n"),
            ThousandHeaders => says(ok(&["A: b\r\n".repeat(1000).as_str(), NO_BODY].concat())),
            EndlessBlankLines => floods("", "\r\n"),
            ContinueFlood => floods("", "HTTP/1.1 100 Continue\r\n\r\n"),
            EarlyHintsFlood | EarlyHintsFloodOverTls => floods("", HINTS),
            DripsInterim => drips("", "HTTP/1.1 102 Processing\r\n\r\n", Duration::from_millis(20)),
            NineInterim => says([&HINTS.repeat(9), OK_EMPTY].concat()),

            Garbage => Script::new(Request, "", Then::Repeats(noise())),
            SshBanner => says_first("SSH-2.0-OpenSSH_9.6\r\n"),
            SmtpBanner => says_first("220 mail.acme.example ESMTP\r\n"),
            // The preface, and an empty frame of settings.
            Http2 => says_first(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"),
            Headless => half_closes(Request, "<html><p>It works!</html>\n"),
            NonsenseStatus => says(["HTTP/1.1 999999 x\r\n", NO_BODY].concat()),
            NonsenseVersion => says(["HTTP/9.9 200 OK\r\n", NO_BODY].concat()),
            ControlBytes => says(ok(&["X-Bell: a\x07b\0c\r\n", NO_BODY].concat())),
            InvalidUtf8 => serves([OK.as_bytes(), b"X-Name: caf\xe9 \xff\xfe\r\n", NO_BODY.as_bytes()].concat()),

            EndlessBody => floods(&ok("\r\n"), "x"),
            EndlessChunks => floods(&chunked(""), "4\r\nmore\r\n"),
            HugeLength => floods(&ok("Content-Length: 9223372036854775807\r\n\r\n"), "x"),
            DripsBody => drips(&ok("Content-Length: 1000000\r\n\r\n"), "a", Duration::from_millis(50)),
            LengthTooLong => half_closes(Request, ok("Content-Length: 100\r\n\r\nfour")),
            LengthTooShort => says(ok("Content-Length: 4\r\n\r\nfour and some more")),
            LengthTwice => says(ok("Content-Length: 1\r\nContent-Length: 2\r\n\r\nab")),
            LengthNegative => says(ok("Content-Length: -1\r\n\r\n")),
            LengthBeyond => says(ok("Content-Length: 18446744073709551616\r\n\r\n")),
            LengthAndChunks => serves(ok("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")),
            MalformedChunk => says(chunked("zz\r\nmore\r\n")),
            ChunkOverflow => says(chunked("ffffffffffffffffff\r\nmore\r\n")),
            EndlessChunkExtension => floods(&chunked("4;x="), "a"),
            EndlessTrailers => floods(&chunked("0\r\n"), "X-Trailer: more\r\n"),
            GzipBomb => bomb("gzip", &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]),
            DeflateBomb => bomb("deflate", &[0x78, 0x9c]),

            Redirects(status) => {
                let elsewhere = trap.map_or_else(String::new, |trap| format!("http://{trap}/latest/meta-data/"));
                serves(format!("HTTP/1.1 {status} x\r\nLocation: {elsewhere}\r\n{NO_BODY}"))
            }
            AbsurdRetryAfter => serves(["HTTP/1.1 503 x\r\nRetry-After: 99999999999999999999\r\n", NO_BODY].concat()),
            UnaskedAtOnce => says([OK_EMPTY, GONE].concat()),
            UnaskedLater => Script::new(Request, OK_EMPTY, Then::SaysLater(GONE.into(), Duration::from_millis(30))),
            Unread => Script::new(Nothing, "", Then::Ignores),
            RefusesUnread => {
                let head = ["HTTP/1.1 413 x\r\nConnection: close\r\n", NO_BODY].concat();
                Script::new(Something, head, Then::Ignores)
            }
            SwitchingProtocols => says("HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
        }
    }
}

/// Bytes that look random, and are the same each time.
fn noise() -> Vec<u8> {
    (0..PIECE as u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect()
}

/// An answer whose body unpacks to zeros, 158 for each of its bytes, without end.
fn bomb(encoding: &str, wrapper: &[u8]) -> Script {
    // A block with the fixed codes, a zero, then "258 bytes as the one before" (8 bits, and 5 for the distance) for
    // ever. Codes are written from their first bit, into bytes that fill from their last.
    let mut bits = vec![false, true, false];
    bits.extend([false, false, true, true, false, false, false, false]);
    let again = [true, true, false, false, false, true, false, true, false, false, false, false, false];
    // To a byte's end once, and then 13 bytes are 8 times the same.
    let byte = |bits: &[bool]| bits.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit));
    bits.extend(again.iter().copied().cycle().take(13 * 8 * 40 - 11));
    let start: Vec<u8> = bits.chunks(8).map(byte).collect();
    let shift = (13 * 8 * 40 - 11) % 13;
    let rest: Vec<bool> = again.iter().copied().cycle().skip(shift).take(13 * 8 * 40).collect();
    let piece = rest.chunks(8).map(byte).collect();
    let head = format!("{OK}Content-Encoding: {encoding}\r\n\r\n");
    Script::new(Reads::Request, [head.as_bytes(), wrapper, &start].concat(), Then::Repeats(piece))
}
