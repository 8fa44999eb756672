//! Reads a trace line by line. It is a file from somewhere: what is wrong with it is told with its line, and no line may be longer than memory allows.

use std::io::{BufRead, Read as _};

use sluicegate_model::trace::{Begin, Line, VERSION};

/// The longest line, in bytes: that of a pool of 100,000 endpoints with labels.
const MOST_LINE: u64 = 256 << 20;

pub(super) struct Lines<R> {
    from: R,
    number: u64,
    line: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(from: R) -> Self {
        Self { from, number: 0, line: Vec::new() }
    }

    /// The first line.
    pub(super) fn begin(&mut self) -> Result<Begin, String> {
        let begin = match self.next()? {
            Some((_, Line::Begin(begin))) => begin,
            Some((number, _)) => return Err(format!("line {number}: a trace begins with `begin`")),
            None => return Err("there is nothing in it".to_owned()),
        };
        if begin.version == VERSION {
            Ok(begin)
        } else {
            Err(format!("line 1: it is a trace of {:?}, and this reads {VERSION:?}", begin.version))
        }
    }

    /// The next line with its number. A last line without its end was cut off, together with what wrote it, and is left out.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Line)>, String> {
        loop {
            self.line.clear();
            self.number += 1;
            let at = |error: String| format!("line {}: {error}", self.number);
            let read = self.from.by_ref().take(MOST_LINE).read_until(b'\n', &mut self.line).map_err(|e| at(e.to_string()))?;
            if read as u64 == MOST_LINE && !self.line.ends_with(b"\n") {
                return Err(at(format!("longer than {MOST_LINE} bytes")));
            }
            if !self.line.ends_with(b"\n") {
                return Ok(None);
            }
            if !self.line.trim_ascii().is_empty() {
                let line = serde_json::from_slice(&self.line).map_err(|e| at(e.to_string()))?;
                return Ok(Some((self.number, line)));
            }
        }
    }
}
