//! What a person sees: what will happen, each attempt as it happens, and the table at the end.
//!
//! Invariant: nothing that a receiver wrote reaches the terminal unescaped (`cli::escaped`).

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use ringback::{StateKind, Trigger};

use crate::cli::Style;

use super::lines::Attempted;
use super::report::{Report, Row};
use super::scenario::{Event, PerVendor, SCALE, Vendor};

/// How much of what speaks against a claim is shown.
const SHOWN: usize = 4;

/// Where the demo is shown.
#[derive(Debug)]
pub(super) struct Screen {
    shown: bool,
    colours: bool,
    acts: usize,
    hints: BTreeSet<(Vendor, String)>,
}

impl Screen {
    /// A screen; nothing is shown on one that is not `shown`.
    pub(super) fn new(shown: bool, colours: bool) -> Self {
        Screen { shown, colours, acts: 0, hints: BTreeSet::new() }
    }

    fn line(&self, text: &str) {
        if self.shown {
            // Whoever stopped reading has seen enough; the exit code still tells.
            let _ = writeln!(std::io::stdout().lock(), "{text}");
        }
    }

    fn paint(&self, style: Style, text: &str) -> String {
        style.paint(text, self.colours)
    }

    /// Says what will happen, and that time is scaled.
    pub(super) fn introduce(&self, folder: &str, urls: &PerVendor<String>) {
        self.line(&self.paint(
            Style::Bold,
            "ringback demo: three vendors, three difficult customers, and a sender that is killed",
        ));
        self.line("");
        self.line(&format!(
            "A sender process delivers the example events of the vendors' documents from a queue in\n{folder}"
        ));
        self.line("to three receivers on this machine. Each receiver verifies what it gets by its vendor's page, with code of its own.");
        self.line("The sender is killed in the middle and started again; a delivery that gave up is replayed.");
        self.line("");
        self.line(&format!(
            "Time is scaled: every delay and time limit is 1/{SCALE} of the vendor's. Nothing else is changed."
        ));
        for (vendor, url) in Vendor::ALL.into_iter().zip(urls.iter()) {
            let delays = |by: u32| {
                let delays: Vec<String> = vendor.delays().iter().map(|delay| seconds(*delay / by)).collect();
                delays.join(", ")
            };
            let limit = vendor.profile().timeout();
            self.line("");
            self.line(&format!("  {} {url}", self.paint(Style::Bold, &format!("{:<9}", vendor.name()))));
            self.line(&format!("            its customer {}", vendor.trouble()));
            self.line(&format!(
                "            retries after {}: here {}; time limit {}: here {}",
                delays(1),
                delays(SCALE),
                seconds(limit),
                seconds(limit / SCALE)
            ));
        }
    }

    /// Begins another part.
    pub(super) fn act(&mut self, title: &str) {
        self.acts += 1;
        self.line("");
        self.line(&self.paint(Style::Bold, &format!("{}. {title}", self.acts)));
    }

    /// Says something that is no attempt.
    pub(super) fn note(&self, at: Duration, text: &str) {
        self.line(&format!("{} {text}", offset(at)));
    }

    /// Shows an attempt. `verified` is the receiver's word on a delivered event.
    pub(super) fn attempt(&mut self, at: Duration, event: &Event, attempted: &Attempted, verified: bool) {
        let style = match attempted.result {
            StateKind::Delivered => Style::Good,
            StateKind::Dead | StateKind::Canceled => Style::Bad,
            StateKind::Waiting | StateKind::Held | StateKind::Leased => Style::Waiting,
        };
        let mut line = format!(
            "{} {:<9}{:<27}#{} {:<7} {} {}",
            offset(at),
            event.vendor.name(),
            event.title(),
            attempted.number,
            trigger(attempted.trigger),
            self.paint(style, &format!("{:<8}", attempted.outcome)),
            after(attempted, verified),
        );
        if !attempted.answer.is_empty() && attempted.result != StateKind::Delivered {
            let _ = write!(line, "  {}", self.paint(Style::Dim, &format!("\"{}\"", attempted.answer)));
        }
        if attempted.from_log {
            line.push_str("  (recorded before the kill, read from the log)");
        }
        self.line(&line);
        // Once is enough to explain a status.
        if let Some(hint) = &attempted.hint
            && self.hints.insert((event.vendor, attempted.outcome.clone()))
        {
            self.line(&self.paint(Style::Dim, &format!("{:>29}hint: {hint}", "")));
        }
    }

    /// Shows the table, the claims and the verdict.
    pub(super) fn conclude(&self, report: &Report) {
        self.line("");
        self.table(&report.events);
        self.line("");
        for check in &report.checks {
            let mark = if check.holds { self.paint(Style::Good, "holds") } else { self.paint(Style::Bad, "FAILS") };
            self.line(&format!("{mark}  {}", check.claim));
            for against in check.against.iter().take(SHOWN) {
                self.line(&format!("         {against}"));
            }
            if check.against.len() > SHOWN {
                self.line(&format!("         and {} more (--json shows all)", check.against.len() - SHOWN));
            }
        }
        self.line("");
        let seconds = report.seconds;
        self.line(&match report.ok {
            true => self.paint(Style::Good, &format!("All of it holds, in {seconds:.1} s.")),
            false => self.paint(Style::Bad, &format!("Not all of it holds ({seconds:.1} s).")),
        });
        if let Some(folder) = &report.folder {
            self.line(&format!("The queue is kept in {folder}"));
        }
    }

    fn table(&self, rows: &[Row]) {
        let head = ["event", "vendor", "attempts", "result", "verified"].map(str::to_owned);
        let cells: Vec<[String; 5]> = rows.iter().map(cells).collect();
        let width = |column: usize| {
            let longest = cells.iter().chain([&head]).map(|row| row[column].chars().count()).max();
            longest.unwrap_or_default()
        };
        let widths: [usize; 5] = std::array::from_fn(width);
        let render = |row: &[String; 5]| {
            let padded: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            padded.join("  ").trim_end().to_owned()
        };
        self.line(&self.paint(Style::Bold, &render(&head)));
        for (row, cells) in rows.iter().zip(&cells) {
            let fine = row.verified && row.result == Some(StateKind::Delivered);
            let text = render(cells);
            self.line(&if fine { text } else { self.paint(Style::Bad, &text) });
        }
    }
}

fn cells(row: &Row) -> [String; 5] {
    let result = row.result.map_or("not accepted", state);
    [
        if row.typed { format!("{} (typed)", row.event) } else { row.event.to_owned() },
        row.vendor.to_owned(),
        format!("{}: {}", row.attempts.len(), row.attempts.join(" ")),
        if row.replayed { format!("{result}, replayed") } else { result.to_owned() },
        match row.verified {
            true => format!("yes, {} of {}", row.requests, row.requests),
            false => format!("NO: {}", row.problems.join("; ")),
        },
    ]
}

fn state(kind: StateKind) -> &'static str {
    match kind {
        StateKind::Waiting => "waiting",
        StateKind::Held => "held",
        StateKind::Leased => "on its way",
        StateKind::Delivered => "delivered",
        StateKind::Dead => "dead letter",
        StateKind::Canceled => "canceled",
    }
}

fn trigger(trigger: Trigger) -> &'static str {
    match trigger {
        Trigger::First => "first",
        Trigger::Retry => "retry",
        Trigger::Replay => "replay",
        Trigger::Test => "test",
    }
}

fn after(attempted: &Attempted, verified: bool) -> String {
    match (attempted.result, attempted.wait_ms) {
        (StateKind::Waiting, Some(wait)) => format!("next in {}", seconds(Duration::from_millis(wait))),
        (StateKind::Waiting | StateKind::Held | StateKind::Leased, _) => "is tried again".to_owned(),
        (StateKind::Delivered, _) if verified => "delivered, and verified by its receiver".to_owned(),
        (StateKind::Delivered, _) => "delivered, but its receiver objects".to_owned(),
        (StateKind::Dead, _) => "no retry is left: a dead letter".to_owned(),
        (StateKind::Canceled, _) => "canceled".to_owned(),
    }
}

fn offset(at: Duration) -> String {
    format!("{:>7.3} s ", at.as_secs_f64())
}

/// A duration as people write it: `0.1 s`, `25 s`.
fn seconds(duration: Duration) -> String {
    let hundredths = (duration.as_secs_f64() * 100.0).round() / 100.0;
    format!("{hundredths} s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_short() {
        let texts = [100, 2_500, 25_000, 503].map(|ms| seconds(Duration::from_millis(ms)));
        assert_eq!(texts, ["0.1 s", "2.5 s", "25 s", "0.5 s"]);
    }
}
