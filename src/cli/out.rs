//! What a command says: results on the standard output, words beside them on the standard error.
//!
//! Invariant: with `--json`, nothing but JSON goes to the standard output, one value a line.

use std::io::{IsTerminal, Write};

use serde::Serialize;
use serde_json::value::RawValue;

use super::escape::{shown, shown_lines};
use super::exit::Problem;
use super::json_text;
use super::style::{Style, colours};

/// Where a command's words go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Out {
    json: bool,
    colours: bool,
}

impl Out {
    /// The standard output and error.
    pub(crate) fn new(json: bool) -> Out {
        Out { json, colours: !json && colours(&std::io::stdout()) }
    }

    /// Whether a program reads the output.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// The text in a style, if there are colours.
    pub(crate) fn paint(&self, style: Style, text: &str) -> String {
        style.paint(text, self.colours)
    }

    /// A line on the standard output. Whoever makes it has escaped what is not their own.
    ///
    /// # Errors
    /// Nobody reads any more.
    pub(crate) fn line(&self, text: &str) -> Result<(), Problem> {
        let mut stdout = std::io::stdout().lock();
        // Flushed, for whoever follows through a pipe.
        writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(|error| {
            if error.kind() == std::io::ErrorKind::BrokenPipe {
                return Problem::nobody_reads();
            }
            Problem::failed(format!("the standard output cannot be written: {error}"))
        })
    }

    /// A name and a value, such as `id        app_…`.
    pub(crate) fn field(&self, name: &str, value: &str) -> Result<(), Problem> {
        if value.is_empty() {
            return Ok(());
        }
        self.line(&format!("{} {}", self.paint(Style::Dim, &format!("{name:<13}")), shown(value)))
    }

    /// The server's own JSON on one line.
    pub(crate) fn raw(&self, value: &RawValue) -> Result<(), Problem> {
        self.line(&json_text::line(value.get()))
    }

    /// A value as JSON, on one line.
    pub(crate) fn value(&self, value: &impl Serialize) -> Result<(), Problem> {
        let text = serde_json::to_string(value).map_err(|error| Problem::failed(error.to_string()))?;
        self.line(&json_text::line(&text))
    }

    /// A word to people, beside the result.
    pub(crate) fn note(&self, text: &str) {
        // There is nowhere left to say that the standard error cannot be written.
        let _ = writeln!(std::io::stderr().lock(), "{}", shown_lines(text));
    }
}

/// Says why the program ends.
pub(super) fn complain(text: &str) {
    if text.is_empty() {
        return;
    }
    let stderr = std::io::stderr();
    let name = Style::Bad.paint("ringback:", colours(&stderr));
    let _ = writeln!(stderr.lock(), "{name} {}", shown_lines(text));
}

/// Asks before something that cannot be undone.
///
/// # Errors
/// There is no terminal to ask at, and no `--yes`; the answer is not yes.
pub(super) async fn confirm(question: &str, yes: bool) -> Result<(), Problem> {
    if yes {
        return Ok(());
    }
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Err(Problem::usage(format!("{question} There is no terminal to ask at: give --yes to go on")));
    }
    let _ = write!(std::io::stderr().lock(), "{} [y/N] ", shown(question));
    let answer = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|_| line)
    });
    let answer = answer.await.ok().and_then(Result::ok).unwrap_or_default();
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Problem::failed("nothing was done")),
    }
}
