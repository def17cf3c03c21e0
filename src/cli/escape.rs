//! The one way of other people's text to a terminal.
//!
//! Invariant: what [`escaped`] gives holds no control character, no invisible one and none that turns the direction of
//! writing, so nothing that a receiver, a vendor or a server wrote can command a terminal or disguise itself.

/// A text of somebody else's, cut after `most` characters and without anything that a terminal would obey.
pub(crate) fn escaped(bytes: &[u8], most: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut shown = String::new();
    for char in text.chars().take(most) {
        match char {
            // Harmless, and JSON is full of them.
            '"' | '\'' => shown.push(char),
            _ => shown.extend(char.escape_debug()),
        }
    }
    if text.chars().nth(most).is_some() {
        shown.push('…');
    }
    shown
}

/// The same, uncut.
pub(crate) fn shown(text: &str) -> String {
    escaped(text.as_bytes(), usize::MAX)
}

/// The same for a text of several lines, whose line breaks stay.
pub(crate) fn shown_lines(text: &str) -> String {
    text.lines().map(shown).collect::<Vec<_>>().join("\n")
}

/// Whether a character stands as it is, inside a JSON text that is shown.
pub(super) fn is_plain(char: char) -> bool {
    matches!(char, '"' | '\'' | '\\') || char.escape_debug().len() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receivers_bytes_cannot_command_a_terminal() {
        assert_eq!(escaped(b"\x1b[31mred\r\n\xff", 40), "\\u{1b}[31mred\\r\\n\u{fffd}");
        assert_eq!(escaped("a\u{202e}b".as_bytes(), 40), "a\\u{202e}b");
        assert_eq!(escaped(br#"{"a":"b"}"#, 4), r#"{"a"…"#);
    }

    #[test]
    fn no_character_that_acts_or_hides_is_left() {
        // ESC, the 8-bit CSI, bells, deletes, overrides and isolates, zero widths, a byte order mark, a line separator.
        let dangerous = "\x1b\u{9b}\x07\x08\x7f\u{202a}\u{202d}\u{2066}\u{2069}\u{200b}\u{200f}\u{feff}\u{2028}";
        let text = shown(dangerous);
        assert!(text.is_ascii() && !text.contains(|char: char| char.is_control()), "{text}");
        assert!(dangerous.chars().all(|char| !is_plain(char)));
        assert_eq!(shown_lines("a\r\n\x1bb\n"), "a\n\\u{1b}b");
        assert_eq!(shown("Grüße, 日本 → ✓"), "Grüße, 日本 → ✓");
    }
}
