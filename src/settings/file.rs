//! The settings file: TOML, read so that every complaint has a line.

use std::path::Path;

use serde::de::{self, DeserializeOwned};
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::key::{Key, nearest};
use super::value::{Error, Given, Origin};

/// The tables of what is declared, beside the settings.
const TABLES: [&str; 3] = ["application", "event_type", "profile"];

/// A table with the name that it stands under.
pub(super) type Named<'t> = (&'static str, Table<'t>);

/// A settings file's text, to tell lines from.
pub(super) struct File {
    shown: String,
    text: String,
}

impl File {
    pub(super) fn read(path: &Path) -> Result<File, Error> {
        let shown = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(File { shown, text }),
            Err(error) => Err(Error::new(shown, format!("the settings file cannot be read: {error}"))),
        }
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn of(shown: &str, text: &str) -> File {
        File { shown: shown.to_owned(), text: text.to_owned() }
    }

    /// The file's settings, and the tables of what is declared: by name, in the file's order.
    pub(super) fn parse(&self) -> Result<(Vec<Given>, Vec<Named<'_>>), Error> {
        let root = DeTable::parse(&self.text).map_err(|error| self.error(&error, 1))?;
        let (mut settings, mut tables) = (Vec::new(), Vec::new());
        for (name, value) in root.into_inner() {
            let line = self.line(name.span().start);
            let name = name.into_inner();
            if let Some(key) = Key::named(&name) {
                let origin = Origin::File { file: self.shown.clone(), line };
                settings.push(Given::from_toml(key, value.get_ref(), origin)?);
            } else if let Some(table) = TABLES.into_iter().find(|table| *table == name) {
                let found = self.tables(table, value)?;
                tables.extend(found.into_iter().map(|found| (table, found)));
            } else {
                let known = Key::ALL.map(Key::name).into_iter().chain(TABLES);
                return Err(self.unknown(line, "setting", &name, known));
            }
        }
        Ok((settings, tables))
    }

    /// The tables of an array of tables.
    fn tables<'t>(&'t self, name: &str, value: Spanned<DeValue<'t>>) -> Result<Vec<Table<'t>>, Error> {
        let line = self.line(value.span().start);
        let wrong = || self.at(line, format!("{name} must be written [[{name}]]"));
        let DeValue::Array(items) = value.into_inner() else { return Err(wrong()) };
        let table = |item: Spanned<DeValue<'t>>| {
            let line = self.line(item.span().start);
            let span = item.span();
            let DeValue::Table(entries) = item.into_inner() else { return Err(wrong()) };
            Ok(Table { file: self, line, span, entries })
        };
        items.into_iter().map(table).collect()
    }

    fn at(&self, line: usize, problem: impl Into<String>) -> Error {
        Error::new(format_args!("{}:{line}", self.shown), problem)
    }

    fn line(&self, offset: usize) -> usize {
        1 + self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
    }

    /// An error of the TOML reader's, in one line.
    fn error(&self, error: &toml::de::Error, line: usize) -> Error {
        let line = error.span().map_or(line, |span| self.line(span.start));
        self.at(line, error.message().trim().replace('\n', "; "))
    }

    fn unknown<'k>(&self, line: usize, what: &str, name: &str, known: impl IntoIterator<Item = &'k str>) -> Error {
        let name_shown = name.escape_debug();
        self.at(
            line,
            match nearest(name, known) {
                Some(meant) => format!("unknown {what} `{name_shown}`; did you mean `{meant}`?"),
                None => format!("unknown {what} `{name_shown}`"),
            },
        )
    }
}

/// A table of the file, to be taken apart.
#[derive(Clone)]
pub(super) struct Table<'t> {
    file: &'t File,
    line: usize,
    span: std::ops::Range<usize>,
    entries: DeTable<'t>,
}

impl<'t> Table<'t> {
    /// An error at a member of the table, or at the table if it has no such member.
    ///
    /// `member` may be a path, such as `retry.delaysMs`: the line is that of the deepest part that is there.
    pub(super) fn error(&self, member: &str, problem: impl Into<String>) -> Error {
        self.error_named(member, member, problem)
    }

    /// The same, with the member shown under another name.
    pub(super) fn error_named(&self, member: &str, shown: &str, problem: impl Into<String>) -> Error {
        let mut line = self.line;
        let mut entries = Some(&self.entries);
        for part in member.split('.') {
            let Some((name, value)) = entries.and_then(|entries| entries.get_key_value(part)) else { break };
            line = self.file.line(name.span().start);
            entries = value.get_ref().as_table();
        }
        let problem = problem.into();
        let problem = if member.is_empty() { problem } else { format!("{shown}: {problem}") };
        self.file.at(line, problem)
    }

    /// An error of the library's, which names the member.
    pub(super) fn invalid(&self, invalid: &ringback::Invalid) -> Error {
        self.error(invalid.field(), invalid.problem())
    }

    /// Gives a member that is absent the value of another.
    pub(super) fn fill_in(&mut self, member: &'static str, from: &str) {
        if !self.entries.contains_key(member)
            && let Some((name, value)) = self.entries.get_key_value(from)
        {
            let (name, value) = (Spanned::new(name.span(), member.into()), value.clone());
            self.entries.insert(name, value);
        }
    }

    /// Takes a member out.
    pub(super) fn take(&mut self, name: &str) -> Option<Spanned<DeValue<'t>>> {
        self.entries.remove(name)
    }

    /// Takes a member out that must be a text.
    pub(super) fn take_text(&mut self, name: &str) -> Result<Option<String>, Error> {
        let wrong = self.error(name, "must be a text");
        let text = self.take(name).map(|value| value.get_ref().as_str().map(str::to_owned).ok_or(wrong));
        text.transpose()
    }

    /// Takes a member out that must be true or false.
    pub(super) fn take_switch(&mut self, name: &str) -> Result<Option<bool>, Error> {
        let wrong = self.error(name, "must be true or false");
        self.take(name).map(|value| value.get_ref().as_bool().ok_or(wrong)).transpose()
    }

    /// Takes the tables of an array of tables out.
    pub(super) fn take_tables(&mut self, within: &str, name: &str) -> Result<Vec<Table<'t>>, Error> {
        match self.take(name) {
            Some(value) => self.file.tables(&format!("{within}.{name}"), value),
            None => Ok(Vec::new()),
        }
    }

    /// Takes a member out that must be a table: its entries, in the order of their names.
    pub(super) fn take_entries(&mut self, name: &str) -> Result<Vec<(String, DeValue<'t>)>, Error> {
        let wrong = self.error(name, "must be a table of names and values");
        match self.take(name).map(Spanned::into_inner) {
            None => Ok(Vec::new()),
            Some(DeValue::Table(entries)) => Ok(entries
                .into_iter()
                .map(|(name, value)| (name.into_inner().into_owned(), value.into_inner()))
                .collect()),
            Some(_) => Err(wrong),
        }
    }

    /// What is left of it, as a value of the library's; a member that it does not have is refused, as are those
    /// that were `taken` and could have been meant.
    pub(super) fn read<T: DeserializeOwned>(&self, taken: &[&'static str]) -> Result<T, Error> {
        let known = members::<T>();
        for name in self.entries.keys() {
            if !known.is_empty() && !known.contains(&name.get_ref().as_ref()) {
                let line = self.file.line(name.span().start);
                let candidates = known.iter().chain(taken).copied();
                return Err(self.file.unknown(line, "member", name.get_ref(), candidates));
            }
        }
        let value = Spanned::new(self.span.clone(), DeValue::Table(self.entries.clone()));
        T::deserialize(ValueDeserializer::from(value)).map_err(|error| self.file.error(&error, self.line))
    }
}

/// The names of a struct's members, as its derived `Deserialize` asks for them; empty for anything else.
fn members<T: DeserializeOwned>() -> &'static [&'static str] {
    struct Asked<'m>(&'m mut &'static [&'static str]);
    impl<'de> de::Deserializer<'de> for Asked<'_> {
        type Error = de::value::Error;
        fn deserialize_any<V: de::Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
            Err(de::Error::custom("only the members are asked for"))
        }
        fn deserialize_struct<V: de::Visitor<'de>>(
            self,
            _: &'static str,
            members: &'static [&'static str],
            visitor: V,
        ) -> Result<V::Value, Self::Error> {
            *self.0 = members;
            self.deserialize_any(visitor)
        }
        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
            unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }
    let mut members: &'static [&'static str] = &[];
    let _ = T::deserialize(Asked(&mut members));
    members
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_members_of_a_struct_are_known_by_their_names_in_json() {
        assert_eq!(members::<ringback::NewApplication>()[..2], ["name", "uid"]);
        assert!(members::<ringback::EndpointSettings>().contains(&"timeoutMs"));
        assert!(members::<ringback::Profile>().contains(&"retryOn"));
        assert!(members::<String>().is_empty());
    }

    #[test]
    fn an_error_stands_at_the_deepest_part_of_its_path_that_is_there() {
        let file = File::of("x.toml", "[[application]]\nuid = 'a'\n\n[application.retry]\ndelaysMs = [1]\n");
        let (_, tables) = file.parse().unwrap();
        let table = &tables[0].1;
        assert_eq!(table.error("uid", "p").to_string(), "x.toml:2: uid: p");
        assert_eq!(table.error("retry.delaysMs", "p").to_string(), "x.toml:5: retry.delaysMs: p");
        assert_eq!(table.error("retry.jitter", "p").to_string(), "x.toml:4: retry.jitter: p");
        assert_eq!(table.error("url", "p").to_string(), "x.toml:1: url: p");
    }
}
