//! Everything that the program said, and the search through it.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// A secret that is looked for in all its forms.
pub struct Canary {
    name: String,
    needles: Vec<String>,
    exempt: &'static [&'static str],
}

impl Canary {
    /// One whose text is this: as it is, in hex, in base 64 (where it stands at the start), and as a list of its bytes.
    pub fn of(text: &str) -> Canary {
        Canary { name: text.to_owned(), needles: forms(text), exempt: &[] }
    }

    /// The same secret as another text.
    pub fn and(mut self, text: &str) -> Canary {
        self.needles.extend(forms(text));
        self
    }

    /// Places whose names start like this may have it.
    pub fn but_in(mut self, places: &'static [&'static str]) -> Canary {
        self.exempt = places;
        self
    }

    fn is_in(&self, text: &str) -> bool {
        self.needles.iter().any(|needle| text.contains(needle))
    }
}

fn forms(text: &str) -> Vec<String> {
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    let bytes: Vec<String> = text.bytes().map(|byte| byte.to_string()).collect();
    // The last letters depend on what follows.
    let base64 = |engine: &dyn Fn(&str) -> String| engine(text)[..text.len() * 4 / 3 - 2].to_owned();
    [
        text.to_owned(),
        hex.to_ascii_uppercase(),
        base64(&|text| STANDARD_NO_PAD.encode(text)),
        base64(&|text| URL_SAFE_NO_PAD.encode(text)),
        bytes.join(", "),
        bytes.join(","),
        hex,
    ]
    .into()
}

/// What was said, where.
#[derive(Default)]
pub struct Heard {
    /// Bytes that are no text are replaced, which leaves those that are looked for.
    said: Vec<(String, String)>,
    revealed: String,
}

impl Heard {
    pub fn hear(&mut self, place: String, text: Vec<u8>) {
        self.said.push((place, String::from_utf8_lossy(&text).into_owned()));
    }

    /// What reveals on purpose.
    pub fn reveal(&mut self, text: &[u8]) {
        self.revealed.push_str(&String::from_utf8_lossy(text));
    }

    /// Every file of a folder.
    pub fn hear_files(&mut self, folder: &Path) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                self.hear_files(&path);
            } else {
                self.hear(format!("file {}", path.display()), fs::read(&path).unwrap());
            }
        }
    }

    pub fn was_revealed(&self, canary: &Canary) -> bool {
        canary.is_in(&self.revealed)
    }

    /// Where it is.
    pub fn places_of(&self, canary: &Canary) -> Vec<&str> {
        self.said.iter().filter(|(_, text)| canary.is_in(text)).map(|(place, _)| place.as_str()).collect()
    }

    /// Where it is and may not be.
    pub fn leaks(&self, canary: &Canary) -> Vec<String> {
        let is_exempt = |place: &str| canary.exempt.iter().any(|start| place.starts_with(start));
        let leaks = self.places_of(canary).into_iter().filter(|place| !is_exempt(place));
        leaks.map(|place| format!("{} is in: {place}", canary.name)).collect()
    }
}
