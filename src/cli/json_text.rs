//! JSON as it is shown: on one line or indented, with its numbers, texts and order of members as they were written.
//!
//! It is not parsed and written again, because that would change what a payload says: `1.0` is not `1`. Invariant: inside
//! texts, every character that a terminal would obey stands as a `\u` escape, which means the same to a JSON parser.

use std::fmt::Write as _;

use super::escape::is_plain;

/// Valid JSON on one line, without white space between its tokens.
pub(super) fn line(json: &str) -> String {
    written(json, None)
}

/// Valid JSON with a line for each member, each line indented by two spaces and `margin` more.
pub(super) fn indented(json: &str, margin: usize) -> String {
    written(json, Some(margin))
}

fn written(json: &str, margin: Option<usize>) -> String {
    let mut out = String::with_capacity(json.len());
    let mut chars = json.chars().filter(|char| !matches!(char, '\n' | '\r' | '\t')).peekable();
    let mut depth = 0_usize;
    let break_line = |out: &mut String, depth: usize| {
        if let Some(margin) = margin {
            let _ = write!(out, "\n{:1$}", "", margin + depth.min(MOST_INDENTED) * 2);
        }
    };
    while let Some(char) = chars.next() {
        match char {
            ' ' => {}
            '"' => text(&mut out, &mut chars),
            '{' | '[' => {
                out.push(char);
                while chars.next_if_eq(&' ').is_some() {}
                if let Some(end) = chars.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(end);
                } else {
                    depth += 1;
                    break_line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                break_line(&mut out, depth);
                out.push(char);
            }
            ',' => {
                out.push(char);
                break_line(&mut out, depth);
            }
            ':' if margin.is_some() => out.push_str(": "),
            _ => put(&mut out, char),
        }
    }
    out
}

/// Deeper than this, lines are not indented further: a thousand brackets must not become a million spaces.
const MOST_INDENTED: usize = 32;

/// The rest of a text, its closing quote included.
fn text(out: &mut String, chars: &mut impl Iterator<Item = char>) {
    out.push('"');
    while let Some(char) = chars.next() {
        put(out, char);
        match char {
            '"' => return,
            '\\' => {
                if let Some(char) = chars.next() {
                    put(out, char);
                }
            }
            _ => {}
        }
    }
}

fn put(out: &mut String, char: char) {
    if is_plain(char) {
        out.push(char);
    } else {
        for unit in char.encode_utf16(&mut [0; 2]) {
            let _ = write!(out, "\\u{unit:04x}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    #[test]
    fn numbers_order_and_escapes_stay_as_they_were_written() {
        let given = "{ \"b\" : 1.0,\n\t\"a\": [ 1e2, \"x\\\"\\\\ y\" , {} , [ ] ] }";
        assert_eq!(line(given), r#"{"b":1.0,"a":[1e2,"x\"\\ y",{},[]]}"#);
        let shown =
            "{\n    \"b\": 1.0,\n    \"a\": [\n      1e2,\n      \"x\\\"\\\\ y\",\n      {},\n      []\n    ]\n  }";
        assert_eq!(indented(given, 2), shown);
    }

    #[test]
    fn a_text_cannot_command_a_terminal_and_means_the_same() {
        let given = serde_json::to_string(&json!({"a": "\u{9b}31m\u{202e}\u{e0001}", "b": "\x1b["})).unwrap();
        for shown in [line(&given), indented(&given, 0)] {
            assert!(shown.is_ascii() && !shown.contains(['\x1b', '\u{9b}']), "{shown}");
            assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), serde_json::from_str::<Value>(&given).unwrap());
        }
    }

    #[test]
    fn deep_nesting_stays_small() {
        let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
        assert!(indented(&deep, 0).len() < 1_000_000);
    }

    proptest! {
        #[test]
        fn every_value_means_the_same_afterwards(text in "\\PC{0,20}", control in "[\\x00-\\x1f\u{80}-\u{9f}]{0,3}") {
            let value = json!({text.clone(): [1, null, {"x": control}, text]});
            let given = serde_json::to_string_pretty(&value).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Value>(&line(&given)).unwrap(), &value);
            prop_assert_eq!(&serde_json::from_str::<Value>(&indented(&given, 4)).unwrap(), &value);
        }
    }
}
