//! What holds for any settings file: it is refused in one line that says where, or gives settings that the library takes.

use super::file::File;
use super::{Environment, Flags, Settings};

pub(crate) fn settings(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // Files that it names would be read.
    if text.contains("file") || text.contains("roots") || text.contains('\\') {
        return;
    }
    let read = || Settings::from_sources(Some(&File::of("x.toml", text)), &Environment::default(), &Flags::default());
    match read() {
        Err(error) => {
            let said = error.to_string();
            assert!(said.starts_with("x.toml:") && said.len() > "x.toml:1: ".len(), "{said:?}");
            assert!(!said.contains(['\n', '\r', '\x1b', '\0']), "{said:?}");
        }
        Ok(settings) => {
            assert_eq!(settings.config.validate(), Ok(()));
            assert!((1..=100_000).contains(&settings.max_connections));
            let again = read().map(|again| format!("{again:?}"));
            assert_eq!(again.ok(), Some(format!("{settings:?}")));
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_holds_for_any_file_holds_for_the_seeds_and_for_what_is_near_them() {
        crate::corpus::holds("settings", super::settings);
    }
}
