//! What the benchmarks share: options, tables, and what the process has used.

#![allow(dead_code, reason = "no benchmark needs everything")]

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// An event's size, in bytes.
pub const EVENT: usize = 1200;

/// How a benchmark was called.
#[derive(Debug, Clone)]
pub struct Options {
    /// A few milliseconds a figure, to see that it runs: `--quick`, and whenever cargo does not say `--bench`.
    pub quick: bool,
    pub json: bool,
    args: Vec<String>,
}

impl Options {
    pub fn read() -> Options {
        let args: Vec<String> = std::env::args().skip(1).collect();
        let given = |name: &str| args.iter().any(|arg| arg == name);
        Options { quick: given("--quick") || !given("--bench"), json: given("--json"), args }
    }

    /// The word after `--name`.
    pub fn word(&self, name: &str) -> Option<&str> {
        let place = self.args.iter().position(|arg| arg == name)?;
        self.args.get(place + 1).map(String::as_str)
    }

    /// The number after `--name`.
    pub fn number(&self, name: &str, default: usize) -> usize {
        self.word(name)
            .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} takes a number, not {text}")))
    }

    /// How long one figure is measured.
    pub fn time(&self) -> Duration {
        if self.quick { Duration::from_millis(50) } else { Duration::from_secs(self.number("--seconds", 5) as u64) }
    }
}

/// A row of figures under their names, in the order in which they are shown.
pub type Row = Vec<(&'static str, Cell)>;

#[derive(Debug, Clone)]
pub enum Cell {
    Text(String),
    Whole(f64),
    Fine(f64),
}

pub fn text(text: impl Into<String>) -> Cell {
    Cell::Text(text.into())
}

pub fn whole(number: impl Into<f64>) -> Cell {
    Cell::Whole(number.into())
}

pub fn fine(number: impl Into<f64>) -> Cell {
    Cell::Fine(number.into())
}

impl Cell {
    fn shown(&self) -> String {
        match self {
            Cell::Text(text) => text.clone(),
            Cell::Whole(number) => thousands(number.round() as u64),
            Cell::Fine(number) => format!("{number:.2}"),
        }
    }

    fn json(&self) -> serde_json::Value {
        match self {
            Cell::Text(text) => text.clone().into(),
            Cell::Whole(number) => (number.round() as u64).into(),
            Cell::Fine(number) => ((number * 1000.0).round() / 1000.0).into(),
        }
    }
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// Shows a table, or prints it as one line of JSON.
pub fn show(options: &Options, title: &str, rows: &[Row]) {
    if options.json {
        let row = |row: &Row| -> serde_json::Value {
            row.iter().map(|(name, cell)| ((*name).to_owned(), cell.json())).collect::<serde_json::Map<_, _>>().into()
        };
        let rows: Vec<_> = rows.iter().map(row).collect();
        println!("{}", serde_json::json!({ "table": title, "quick": options.quick, "rows": rows }));
        return;
    }
    println!("\n{title}\n");
    let Some(first) = rows.first() else { return };
    let mut lines: Vec<Vec<String>> = vec![first.iter().map(|(name, _)| (*name).to_owned()).collect()];
    lines.extend(rows.iter().map(|row| row.iter().map(|(_, cell)| cell.shown()).collect()));
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..first.len()).map(width).collect();
    for (number, line) in lines.iter().enumerate() {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}")).collect();
        println!("| {} |", cells.join(" | "));
        if number == 0 {
            let rules: Vec<String> = widths.iter().map(|width| format!("{}:", "-".repeat(width - 1))).collect();
            println!("| {} |", rules.join(" | "));
        }
    }
}

/// What has been used between two moments.
#[derive(Debug, Clone, Copy)]
pub struct Used {
    pub wall: Duration,
    pub cpu: Duration,
}

pub struct Meter {
    wall: Instant,
    cpu: Duration,
}

impl Meter {
    pub fn start() -> Meter {
        Meter { wall: Instant::now(), cpu: cpu() }
    }

    pub fn stop(&self) -> Used {
        Used { wall: self.wall.elapsed(), cpu: cpu() - self.cpu }
    }
}

impl Used {
    pub fn per_second(&self, count: usize) -> f64 {
        count as f64 / self.wall.as_secs_f64()
    }

    pub fn cpu_us(&self, count: usize) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / count.max(1) as f64
    }
}

/// The processor time of this process, all threads.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The memory that this process has in RAM, in MiB.
pub fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) / 1024.0
}

/// The times below which half and 99 of 100 of them lie, in milliseconds.
pub fn percentiles(times: &mut [Duration]) -> (f64, f64) {
    times.sort_unstable();
    let at = |part: usize| times.get(times.len() * part / 100).map_or(0.0, |time| time.as_secs_f64() * 1e3);
    (at(50), at(99))
}

/// A JSON object of [`EVENT`] bytes, different for each number. Cheap: it is made while the clock runs.
pub fn event(number: usize) -> String {
    static LETTERS: OnceLock<String> = OnceLock::new();
    let letters = LETTERS.get_or_init(|| ('a'..='z').cycle().step_by(7).take(EVENT + 26).collect());
    let head = format!(r#"{{"id":{number},"text":""#);
    let start = number % 26;
    let text = &letters[start..start + EVENT - head.len() - 2];
    [&head, text, r#""}"#].concat()
}

/// A folder that is removed at the end, on the disk that is measured: `RINGBACK_BENCH_DIR`, or `target`.
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(std::env::var("RINGBACK_BENCH_DIR").unwrap_or_else(|_| "target".into())).unwrap()
}

/// This program in another role, its words on standard output to be read.
pub fn again(args: &[&str]) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(args).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    command
}
