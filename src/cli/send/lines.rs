//! The lines of a file, one at a time and each within a bound.

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// The longest line: a payload of the largest size that a server can be set to take, and a message around it.
pub(super) const LONGEST: usize = 17 << 20;

/// A line, without its line break.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Its bytes.
    Read(Vec<u8>),
    /// It is longer than [`LONGEST`]; it was passed over.
    TooLong,
}

/// A file that is read line by line.
pub(super) struct Lines<R> {
    reader: R,
    longest: usize,
    /// What has been read of the next line.
    begun: Vec<u8>,
    any: bool,
    too_long: bool,
    /// How many bytes have been read.
    pub(super) read: u64,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    /// The lines of this file, each with at most so many bytes.
    pub(super) fn new(reader: R, longest: usize) -> Lines<R> {
        Lines { reader, longest, begun: Vec::new(), any: false, too_long: false, read: 0 }
    }

    /// The next line; `None` at the end of the file. Nothing is lost if this is given up and called again.
    pub(super) async fn next(&mut self) -> std::io::Result<Option<Line>> {
        loop {
            let buffer = self.reader.fill_buf().await?;
            if buffer.is_empty() {
                break;
            }
            self.any = true;
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let part = &buffer[..end.unwrap_or(buffer.len())];
            if self.begun.len() + part.len() > self.longest {
                self.too_long = true;
                self.begun = Vec::new();
            }
            if !self.too_long {
                self.begun.extend_from_slice(part);
            }
            let used = end.map_or(buffer.len(), |end| end + 1);
            self.reader.consume(used);
            self.read += used as u64;
            if end.is_some() {
                break;
            }
        }
        let line = std::mem::take(&mut self.begun);
        Ok(match (std::mem::take(&mut self.any), std::mem::take(&mut self.too_long)) {
            (false, _) => None,
            (true, true) => Some(Line::TooLong),
            (true, false) => Some(Line::Read(line)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    #[tokio::test]
    async fn a_line_beyond_the_bound_costs_itself_alone() {
        let text = b"one\n\nmuch too long a line\nlast".as_slice();
        let reader = tokio::io::BufReader::with_capacity(4, text);
        let mut reader = Lines::new(reader, 5);
        let mut lines = Vec::new();
        while let Some(line) = reader.next().await.unwrap() {
            lines.push(line);
        }
        let line = |text: &str| Line::Read(text.as_bytes().to_vec());
        assert_eq!(lines, [line("one"), line(""), Line::TooLong, line("last")]);
        assert_eq!(reader.read, text.len() as u64);
    }

    #[tokio::test]
    async fn a_look_that_was_given_up_loses_nothing() {
        let (mut writer, reader) = tokio::io::duplex(64);
        let mut lines = Lines::new(tokio::io::BufReader::new(reader), 100);
        writer.write_all(b"one\ntw").await.unwrap();
        assert_eq!(lines.next().await.unwrap(), Some(Line::Read(b"one".to_vec())));
        for part in [b"o an", b"d ha"] {
            assert!(futures_util::FutureExt::now_or_never(lines.next()).is_none());
            writer.write_all(part).await.unwrap();
        }
        writer.write_all(b"lf\n").await.unwrap();
        assert_eq!(lines.next().await.unwrap(), Some(Line::Read(b"two and half".to_vec())));
    }
}
