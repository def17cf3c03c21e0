//! Colours, where the terminal has them and nobody said no.

use std::io::IsTerminal;

/// How a text is set off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Bold,
    Dim,
    Good,
    Bad,
    Waiting,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Style::Plain => "0",
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Good => "32",
            Style::Bad => "31",
            Style::Waiting => "33",
        }
    }

    /// A text that is not set off, as a table's cell.
    pub(super) fn plain(text: &str) -> (&str, Style) {
        (text, Style::Plain)
    }

    /// The text in this style, if there are colours.
    pub(crate) fn paint(self, text: &str, colours: bool) -> String {
        if colours && self != Style::Plain { format!("\x1b[{}m{text}\x1b[0m", self.code()) } else { text.to_owned() }
    }
}

/// Whether output to this stream may be coloured.
pub(crate) fn colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
