//! Templates of a profile: texts with `{placeholders}`, read once and then filled or matched.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::invalid::Invalid;

/// The longest template.
const MAX_LENGTH: usize = 1024;

/// What a placeholder stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placeholder {
    /// `{id}`: the message id.
    Id,
    /// `{ts}`: the attempt's time in seconds since 1970.
    Seconds,
    /// `{ts_ms}`: the attempt's time in milliseconds since 1970.
    Millis,
    /// `{ts_iso}`: the attempt's time as RFC 3339.
    Iso,
    /// `{body}`: the request body's bytes.
    Body,
    /// `{body_sha256_hex}`: the body's SHA-256 in lowercase hex.
    BodySha256Hex,
    /// `{body_sha256_b64}`: the body's SHA-256 in base64.
    BodySha256Base64,
    /// `{method}`: always `POST`.
    Method,
    /// `{url}`: the endpoint's URL.
    Url,
    /// `{sig}`: in a key rule's format one signature, in a header all of them, joined.
    Signature,
}

const NAMES: [(&str, Placeholder); 10] = [
    ("id", Placeholder::Id),
    ("ts", Placeholder::Seconds),
    ("ts_ms", Placeholder::Millis),
    ("ts_iso", Placeholder::Iso),
    ("body", Placeholder::Body),
    ("body_sha256_hex", Placeholder::BodySha256Hex),
    ("body_sha256_b64", Placeholder::BodySha256Base64),
    ("method", Placeholder::Method),
    ("url", Placeholder::Url),
    ("sig", Placeholder::Signature),
];

impl Placeholder {
    fn name(self) -> &'static str {
        NAMES.iter().find(|(_, p)| *p == self).map(|(name, _)| *name).expect("every placeholder has a name")
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Placeholder(Placeholder),
}

/// A text with placeholders, such as `{id}.{ts}.{body}`. A brace that opens no known placeholder is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// An unknown placeholder, or a brace without its partner.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.len() > MAX_LENGTH {
            return Err(Invalid::new("template", "has at most 1,024 bytes"));
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find(['{', '}']) {
            if rest.as_bytes()[open] == b'}' {
                return Err(Invalid::new("template", format!("`{text}` has a `}}` without a `{{`")));
            }
            let close = rest[open..]
                .find('}')
                .ok_or_else(|| Invalid::new("template", format!("`{text}` has a `{{` without a `}}`")))?;
            let name = &rest[open + 1..open + close];
            let (_, placeholder) = NAMES.iter().find(|(known, _)| *known == name).ok_or_else(|| {
                let known: Vec<_> = NAMES.iter().map(|(name, _)| *name).collect();
                Invalid::new("template", format!("unknown placeholder {{{name}}}; known are {}", known.join(", ")))
            })?;
            if open > 0 {
                pieces.push(Piece::Literal(rest[..open].to_owned()));
            }
            pieces.push(Piece::Placeholder(*placeholder));
            rest = &rest[open + close + 1..];
        }
        if !rest.is_empty() {
            pieces.push(Piece::Literal(rest.to_owned()));
        }
        Ok(Template { pieces })
    }

    /// Whether the placeholder occurs in it.
    pub fn uses(&self, placeholder: Placeholder) -> bool {
        self.pieces.contains(&Piece::Placeholder(placeholder))
    }

    pub(crate) fn placeholders(&self) -> impl Iterator<Item = Placeholder> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Placeholder(placeholder) => Some(*placeholder),
            Piece::Literal(_) => None,
        })
    }

    /// Whether no two placeholders touch, so that a filled text can be taken apart again.
    pub(crate) fn can_be_matched(&self) -> bool {
        !self.pieces.windows(2).any(|pair| matches!(pair, [Piece::Placeholder(_), Piece::Placeholder(_)]))
    }

    /// Gives the filled template piece by piece to `sink`, so that a body need not be copied to be signed.
    pub(crate) fn fill<'a>(&'a self, value: impl Fn(Placeholder) -> &'a [u8], mut sink: impl FnMut(&'a [u8])) {
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => sink(text.as_bytes()),
                Piece::Placeholder(placeholder) => sink(value(*placeholder)),
            }
        }
    }

    /// The filled template as a text.
    pub(crate) fn filled<'a>(&'a self, value: impl Fn(Placeholder) -> &'a [u8]) -> String {
        let mut bytes = Vec::new();
        self.fill(value, |piece| bytes.extend_from_slice(piece));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Takes a filled text apart: what stands in the place of each placeholder.
    pub(crate) fn matched<'t>(&self, text: &'t str) -> Option<Vec<(Placeholder, &'t str)>> {
        let mut found = Vec::new();
        let mut rest = text;
        let mut pieces = self.pieces.iter().peekable();
        while let Some(piece) = pieces.next() {
            match piece {
                Piece::Literal(literal) => rest = rest.strip_prefix(literal.as_str())?,
                Piece::Placeholder(placeholder) => {
                    let end = match pieces.peek() {
                        Some(Piece::Literal(next)) => rest.find(next.as_str())?,
                        Some(Piece::Placeholder(_)) => return None,
                        None => rest.len(),
                    };
                    found.push((*placeholder, &rest[..end]));
                    rest = &rest[end..];
                }
            }
        }
        rest.is_empty().then_some(found)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => f.write_str(text)?,
                Piece::Placeholder(placeholder) => write!(f, "{{{}}}", placeholder.name())?,
            }
        }
        Ok(())
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Template::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_filled_template_is_taken_apart_again() {
        let template = Template::parse("t={ts},v0={sig}").unwrap();
        let filled = template.filled(|p| if p == Placeholder::Seconds { b"17" } else { b"abc" });
        assert_eq!(filled, "t=17,v0=abc");
        assert_eq!(
            template.matched(&filled),
            Some(vec![(Placeholder::Seconds, "17"), (Placeholder::Signature, "abc")])
        );
        assert_eq!(template.matched("t=17;v0=abc"), None);
    }

    #[test]
    fn unknown_placeholders_and_lone_braces_are_refused() {
        for text in ["{nonce}", "{id", "id}", "{}"] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_text_form_reads_back(text in "[a-z=,.]{0,5}(\\{(id|ts|body|sig)\\}[a-z=,.]{0,5}){0,4}") {
            let template = Template::parse(&text).unwrap();
            prop_assert_eq!(template.to_string(), text);
        }

        #[test]
        fn any_text_is_read_or_refused_without_a_panic(text in ".{0,40}", other in ".{0,40}") {
            if let Ok(template) = Template::parse(&text) {
                let _ = template.matched(&other);
            }
        }
    }
}
