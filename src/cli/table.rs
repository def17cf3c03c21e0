//! A table: columns as wide as their widest cell, a heading, a style for each cell.
//!
//! Cells are escaped here, so a table cannot show anything else.

use super::escape::escaped;
use super::exit::Problem;
use super::out::Out;
use super::style::Style;

/// The longest cell that is shown.
const MOST: usize = 120;

/// Rows under a heading.
#[derive(Debug)]
pub(super) struct Table {
    head: Vec<&'static str>,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    cells: Vec<(String, Style)>,
    below: Option<String>,
}

impl Table {
    /// A table without rows.
    pub(super) fn new(head: &[&'static str]) -> Table {
        Table { head: head.to_vec(), rows: Vec::new() }
    }

    /// Adds a row of plain cells.
    pub(super) fn row<const N: usize>(&mut self, cells: [&str; N]) {
        self.styled(cells.map(|cell| (cell, Style::Plain)), None);
    }

    /// Adds a row, with a remark below it.
    pub(super) fn styled<const N: usize>(&mut self, cells: [(&str, Style); N], below: Option<&str>) {
        let cells = cells.into_iter().map(|(cell, style)| (escaped(cell.as_bytes(), MOST), style)).collect();
        self.rows.push(Row { cells, below: below.map(|text| escaped(text.as_bytes(), usize::MAX)) });
    }

    /// Shows it; `nothing` is said instead of an empty one.
    pub(super) fn print(&self, out: &Out, nothing: &str) -> Result<(), Problem> {
        if self.rows.is_empty() {
            out.note(nothing);
            return Ok(());
        }
        let head: Vec<(String, Style)> = self.head.iter().map(|name| ((*name).to_owned(), Style::Bold)).collect();
        let widths = self.widths();
        out.line(&line(&head, &widths, out))?;
        for row in &self.rows {
            out.line(&line(&row.cells, &widths, out))?;
            if let Some(below) = &row.below {
                out.line(&out.paint(Style::Dim, &format!("  {below}")))?;
            }
        }
        Ok(())
    }

    fn widths(&self) -> Vec<usize> {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.cells.get(column));
            let longest = cells.map(|(cell, _)| cell.chars().count()).max().unwrap_or_default();
            longest.max(self.head[column].chars().count())
        };
        (0..self.head.len()).map(width).collect()
    }
}

fn line(cells: &[(String, Style)], widths: &[usize], out: &Out) -> String {
    let mut line = String::new();
    for (index, ((cell, style), width)) in cells.iter().zip(widths).enumerate() {
        if index > 0 {
            line.push_str("  ");
        }
        line.push_str(&out.paint(*style, cell));
        if index + 1 < cells.len() {
            line.extend(std::iter::repeat_n(' ', width - cell.chars().count()));
        }
    }
    line
}
