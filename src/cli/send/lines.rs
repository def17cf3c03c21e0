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

/// The next line; `None` at the end of the file. `read` grows by the bytes that were read.
pub(super) async fn next(
    reader: &mut (impl AsyncBufRead + Unpin),
    longest: usize,
    read: &mut u64,
) -> std::io::Result<Option<Line>> {
    let mut line = Vec::new();
    let (mut any, mut too_long) = (false, false);
    loop {
        let buffer = reader.fill_buf().await?;
        if buffer.is_empty() {
            break;
        }
        any = true;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let part = &buffer[..end.unwrap_or(buffer.len())];
        if line.len() + part.len() > longest {
            too_long = true;
            line = Vec::new();
        }
        if !too_long {
            line.extend_from_slice(part);
        }
        let used = end.map_or(buffer.len(), |end| end + 1);
        reader.consume(used);
        *read += used as u64;
        if end.is_some() {
            break;
        }
    }
    Ok(match (any, too_long) {
        (false, _) => None,
        (true, true) => Some(Line::TooLong),
        (true, false) => Some(Line::Read(line)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_beyond_the_bound_costs_itself_alone() {
        let text = b"one\n\nmuch too long a line\nlast".as_slice();
        let mut reader = tokio::io::BufReader::with_capacity(4, text);
        let mut read = 0;
        let mut lines = Vec::new();
        while let Some(line) = next(&mut reader, 5, &mut read).await.unwrap() {
            lines.push(line);
        }
        let line = |text: &str| Line::Read(text.as_bytes().to_vec());
        assert_eq!(lines, [line("one"), line(""), Line::TooLong, line("last")]);
        assert_eq!(read, text.len() as u64);
    }
}
