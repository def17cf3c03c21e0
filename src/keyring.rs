//! The keys that secrets are sealed under where they are stored, and the sealing itself (XChaCha20-Poly1305).
//!
//! Invariants: no formatting shows a key, and a key is wiped from memory when it is dropped; what was sealed for one place
//! (the `context`) opens for that place alone; a changed byte opens nowhere.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use crate::secret::Secret;

/// The most keys of a ring. One is active; the others wait until nothing is sealed under them any more.
pub const MAX_KEYS: usize = 64;

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

/// Keys of 32 bytes, each under an id from 1 on. The one with the highest id is active: it seals. The others open what
/// was sealed under them.
///
/// ```
/// let keys: ringback::Keyring = "1:h2RyRnN9W6FRb0v0xGdqkDNHvbCUy2pOGiIWUWFWfi4".parse()?;
/// assert_eq!(format!("{keys:?}"), "Keyring { ids: [1] }");
/// # Ok::<(), ringback::Invalid>(())
/// ```
#[derive(Clone)]
pub struct Keyring {
    /// Never empty, and no id is 0.
    keys: BTreeMap<u32, Key>,
}

type Key = Zeroizing<[u8; KEY_BYTES]>;

/// A text that is no ring of keys: what is wrong, without a byte of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unreadable {
    /// Counted from 1; `None` for the text as a whole.
    pub(crate) line: Option<usize>,
    pub(crate) problem: String,
}

/// A secret as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sealed {
    /// Under which key.
    pub(crate) key: u32,
    /// The nonce and what was sealed, in base 64.
    pub(crate) text: String,
}

/// Why a sealed secret was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotOpened {
    /// The ring has no key of this id.
    NoKey(u32),
    /// The key is another one than it was sealed under, it was sealed for another place, or it was changed.
    Refused,
}

impl Keyring {
    /// A ring of one key. Its id is at least 1. The ring wipes its copy of the key when it is dropped; the caller's is the
    /// caller's to wipe. Let a generator for cryptography draw it: a password is no key.
    ///
    /// # Errors
    /// The id is 0.
    pub fn new(id: u32, key: [u8; 32]) -> Result<Keyring, crate::Invalid> {
        let key = Zeroizing::new(key);
        if id == 0 {
            return Err(crate::Invalid::new("keys", ID));
        }
        Ok(Keyring { keys: [(id, key)].into() })
    }

    /// Adds a key.
    ///
    /// # Errors
    /// The id is 0 or taken, or the ring has 64 keys.
    pub fn with(mut self, id: u32, key: [u8; 32]) -> Result<Keyring, crate::Invalid> {
        self.insert(id, Zeroizing::new(key)).map_err(|problem| crate::Invalid::new("keys", problem))?;
        Ok(self)
    }

    /// The id of the key that seals.
    pub fn active(&self) -> u32 {
        *self.keys.keys().next_back().expect("a ring has a key")
    }

    /// The ids of its keys, lowest first.
    pub fn ids(&self) -> Vec<u32> {
        self.keys.keys().copied().collect()
    }

    /// Reads a key a line, `id:key`; the key is 32 bytes in base 64. Empty lines and those that start with `#` count as
    /// nothing.
    pub(crate) fn parse(text: &str) -> Result<Keyring, Unreadable> {
        let mut ring = Keyring { keys: BTreeMap::new() };
        for (place, line) in text.lines().enumerate() {
            let at = |problem: &str| Unreadable { line: Some(place + 1), problem: problem.to_owned() };
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (id, key) = line.split_once(':').ok_or_else(|| at(LINE))?;
            let id = id.trim().parse().map_err(|_| at(ID))?;
            let key = read_key(key.trim()).ok_or_else(|| at(KEY))?;
            ring.insert(id, key).map_err(|problem| at(&problem))?;
        }
        match ring.keys.is_empty() {
            true => Err(Unreadable { line: None, problem: "holds no key".to_owned() }),
            false => Ok(ring),
        }
    }

    fn insert(&mut self, id: u32, key: Key) -> Result<(), String> {
        if id == 0 {
            return Err(ID.to_owned());
        }
        if self.keys.len() >= MAX_KEYS {
            return Err(format!("is one too many: a ring has at most {MAX_KEYS} keys"));
        }
        if self.keys.contains_key(&id) {
            return Err(format!("the id {id} stands twice"));
        }
        self.keys.insert(id, key);
        Ok(())
    }

    /// Seals a secret under the active key, for one place. The nonce must never be used again.
    pub(crate) fn seal(&self, nonce: [u8; NONCE_BYTES], context: &[u8], secret: &Secret) -> Sealed {
        let key = self.active();
        let payload = Payload { msg: secret.expose().as_bytes(), aad: context };
        let sealed = cipher(&self.keys[&key])
            .encrypt(&XNonce::from(nonce), payload)
            .expect("a secret is far below the 256 GiB that a nonce may seal");
        Sealed { key, text: URL_SAFE_NO_PAD.encode([&nonce[..], &sealed].concat()) }
    }

    /// Opens what was sealed for a place.
    pub(crate) fn open(&self, sealed: &Sealed, context: &[u8]) -> Result<Secret, NotOpened> {
        let key = self.keys.get(&sealed.key).ok_or(NotOpened::NoKey(sealed.key))?;
        let bytes = URL_SAFE_NO_PAD.decode(&sealed.text).map_err(|_| NotOpened::Refused)?;
        let (nonce, msg) = bytes.split_first_chunk::<NONCE_BYTES>().ok_or(NotOpened::Refused)?;
        let opened = cipher(key).decrypt(&XNonce::from(*nonce), Payload { msg, aad: context });
        let opened = String::from_utf8(opened.map_err(|_| NotOpened::Refused)?).map_err(|_| NotOpened::Refused)?;
        Ok(Secret::new(opened))
    }
}

const LINE: &str = "must be an id, a colon and a key, such as 1:…";
const ID: &str = "a key's id is a number from 1 on";
const KEY: &str = "a key is 32 bytes in base 64; `openssl rand -base64 32` makes one";

impl std::str::FromStr for Keyring {
    type Err = crate::Invalid;

    /// Reads keys in the form `id:key`, with commas or line breaks between them; a key is 32 bytes in base 64.
    ///
    /// # Errors
    /// [`Invalid`](crate::Invalid) (`keys`): no key, more than 64, an entry that is none, an id that stands twice. The problem
    /// names the entry and has none of the text in it.
    fn from_str(text: &str) -> Result<Keyring, crate::Invalid> {
        // A remark may have commas of its own.
        let entries = text.lines().filter(|line| !line.trim_start().starts_with('#')).flat_map(|line| line.split(','));
        let lines = Zeroizing::new(entries.collect::<Vec<_>>().join("\n"));
        Keyring::parse(&lines).map_err(|Unreadable { line, problem }| {
            let problem = match line {
                Some(line) => format!("entry {line}: {problem}"),
                None => problem,
            };
            crate::Invalid::new("keys", problem)
        })
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("ids", &self.ids()).finish()
    }
}

/// A line of a file of keys.
pub(crate) fn line(id: u32, key: &[u8; KEY_BYTES]) -> Zeroizing<String> {
    Zeroizing::new(format!("{id}:{}\n", *Zeroizing::new(URL_SAFE_NO_PAD.encode(key))))
}

/// A key in either alphabet of base 64, with or without its padding.
fn read_key(text: &str) -> Option<Key> {
    let text = Zeroizing::new(text.trim_end_matches('=').replace('+', "-").replace('/', "_"));
    let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(text.as_bytes()).ok()?);
    Some(Zeroizing::new(bytes.as_slice().try_into().ok()?))
}

fn cipher(key: &Key) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new((&**key).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ring(ids: &[u32]) -> Keyring {
        let mut keys = ids.iter().map(|id| (*id, [*id as u8; 32]));
        let (id, key) = keys.next().unwrap();
        keys.fold(Keyring::new(id, key).unwrap(), |ring, (id, key)| ring.with(id, key).unwrap())
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_in_its_place_alone(
            text in ".{0,4096}",
            nonce in any::<[u8; 24]>(),
            context in prop::collection::vec(any::<u8>(), 0..100),
            other in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let text: String = text.chars().take(1024).collect();
            let (ring, secret) = (ring(&[7]), Secret::from(text.as_str()));
            let sealed = ring.seal(nonce, &context, &secret);
            prop_assert_eq!(ring.open(&sealed, &context), Ok(secret));
            prop_assert!(text.len() < 4 || !sealed.text.contains(&text));
            if other != context {
                prop_assert_eq!(ring.open(&sealed, &other), Err(NotOpened::Refused));
            }
        }

        #[test]
        fn no_flipped_bit_opens(text in ".{0,64}", nonce in any::<[u8; 24]>(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
            let ring = ring(&[7]);
            let sealed = ring.seal(nonce, b"here", &Secret::from(text));
            let mut bytes = URL_SAFE_NO_PAD.decode(&sealed.text).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let flipped = Sealed { text: URL_SAFE_NO_PAD.encode(&bytes), ..sealed };
            prop_assert_eq!(ring.open(&flipped, b"here"), Err(NotOpened::Refused));
        }
    }

    #[test]
    fn the_highest_id_seals_and_the_older_ones_still_open() {
        let old = ring(&[1]);
        let sealed = old.seal([0; 24], b"", &Secret::from("s"));
        let both = ring(&[2, 1]);
        assert_eq!((both.active(), both.ids()), (2, vec![1, 2]));
        assert_eq!(both.open(&sealed, b""), Ok(Secret::from("s")));
        assert_eq!(both.seal([0; 24], b"", &Secret::from("s")).key, 2);
        assert_eq!(ring(&[2]).open(&sealed, b""), Err(NotOpened::NoKey(1)));
        let wrong = Keyring::new(1, [9; 32]).unwrap();
        assert_eq!(wrong.open(&sealed, b""), Err(NotOpened::Refused));
    }

    #[test]
    fn what_is_cut_short_or_no_base_64_is_refused() {
        let ring = ring(&[1]);
        for text in ["", "A", "AAAA", "not base 64!", &"A".repeat(32), &"A".repeat(53)] {
            let sealed = Sealed { key: 1, text: text.to_owned() };
            assert_eq!(ring.open(&sealed, b""), Err(NotOpened::Refused), "{text}");
        }
    }

    #[test]
    fn a_text_of_keys_is_read_in_either_alphabet() {
        let written = line(3, &[0xfb; 32]);
        let standard = written.replace('-', "+").replace('_', "/");
        for text in [&*written, &format!("# a remark\n\n {standard}"), &format!("{}=\n", standard.trim())] {
            let read = Keyring::parse(text).unwrap();
            assert_eq!((read.active(), *read.keys[&3]), (3, [0xfb; 32]), "{text}");
        }
        let two: Keyring = format!("{},{}", line(2, &[2; 32]).trim(), line(1, &[1; 32]).trim()).parse().unwrap();
        assert_eq!(two.ids(), [1, 2]);
        let file: Keyring = format!("# one, two\n{}", *line(4, &[4; 32])).parse().unwrap();
        assert_eq!(file.ids(), [4]);
    }

    #[test]
    fn what_is_no_ring_is_refused_with_its_line_and_without_its_text() {
        let good = line(1, &[1; 32]);
        let key = good.trim().strip_prefix("1:").unwrap();
        for (text, line, says) in [
            ("", None, "holds no key"),
            ("# only a remark\n", None, "holds no key"),
            (key, Some(1), "must be an id, a colon and a key"),
            (&format!("{}x{}", *good, key), Some(2), "must be an id"),
            (&format!("0:{key}"), Some(1), "from 1 on"),
            (&format!("-1:{key}"), Some(1), "from 1 on"),
            (&format!("4294967296:{key}"), Some(1), "from 1 on"),
            (&format!("{}\n{}", *good, *good), Some(3), "the id 1 stands twice"),
            (&format!("1:{}", &key[1..]), Some(1), "32 bytes"),
            (&format!("1:{key}AAAA"), Some(1), "32 bytes"),
            ("1:", Some(1), "32 bytes"),
        ] {
            let refused = Keyring::parse(text).unwrap_err();
            assert_eq!(refused.line, line, "{refused:?}");
            assert!(refused.problem.contains(says) && !refused.problem.contains(&key[2..]), "{refused:?}");
        }
        let many: String = (1..=65).map(|id| line(id, &[1; 32]).to_string()).collect();
        assert_eq!(Keyring::parse(&many).unwrap_err().line, Some(65));
    }

    #[test]
    fn no_output_shows_a_key() {
        let ring = Keyring::parse(&line(1, &[0xab; 32])).unwrap();
        let shown = format!("{ring:?} {ring:#?}");
        assert!(!shown.contains("q6ur") && !shown.contains("171") && !shown.contains("ab, "), "{shown}");
    }
}
