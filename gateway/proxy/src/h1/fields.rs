//! The fields of a message. Most pass as they came: a map is made of them only if somebody looks, as that would cost more than all that is done with them.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use memchr::memchr;

use super::spelling::Spellings;

/// The largest number of runs of lines that pass, between those of framing and of this hop.
const SPANS: usize = 4;
/// The largest number of fields of a head. What was read once can be read again.
const MOST: usize = super::head::MAX_RESPONSE_FIELDS;

/// The header fields of a message, before or after they are put into a map.
#[derive(Debug)]
pub(crate) enum Fields {
    /// The lines as they came, without those of framing and of the hop.
    AsTheyCame(Lines),
    Map(HeaderMap),
    /// Fields whose names are to be written as they were spelt.
    Spelt(Box<(HeaderMap, Spellings)>),
}

/// Lines of a head, each with its end.
#[derive(Debug)]
pub(crate) struct Lines {
    head: Bytes,
    spans: Spans,
    /// Whether `Date` is among them.
    pub(super) dated: bool,
}

/// The fields of a request of which none needs a closer look, as lines of its head.
#[derive(Debug)]
pub(crate) struct RequestLines {
    head: Bytes,
    /// The lines that go on: all but those of framing and of the hop.
    spans: Spans,
    /// Where the value of the one `Host` stands.
    host: (u32, u32),
    /// The number of fields.
    pub(super) count: usize,
}

impl RequestLines {
    pub(super) fn new(head: Bytes, spans: Spans, host: (u32, u32), count: usize) -> Self {
        Self { head, spans, host, count }
    }

    /// The value of `Host`.
    pub(crate) fn host(&self) -> &[u8] {
        &self.head[self.host.0 as usize..self.host.1 as usize]
    }

    /// Tells name and value of each field whose name begins as those of a trace's do.
    pub(crate) fn each_of_trace(&self, mut note: impl FnMut(&[u8], &[u8])) {
        let mut rest = &self.head[..];
        while let Some(end) = memchr(b'\n', rest) {
            let (line, after) = rest.split_at(end + 1);
            if line.len() > 5
                && line[..5].eq_ignore_ascii_case(b"trace")
                && let Some(colon) = memchr(b':', line)
            {
                note(&line[..colon], line[colon + 1..].trim_ascii());
            }
            rest = after;
        }
    }

    /// Writes the lines that go on.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        self.spans.write(&self.head, out);
    }

    /// All fields, those of framing and of the hop among them.
    pub(crate) fn map(&self) -> HeaderMap {
        super::head::map(&self.head)
    }
}

/// Runs of lines, as places in a head.
#[derive(Debug, Default)]
pub(super) struct Spans {
    all: [(u32, u32); SPANS],
    used: usize,
}

impl Spans {
    /// Lets the bytes `from..to` pass, which come after those before. Returns false if there are too many runs.
    pub(super) fn pass(&mut self, from: usize, to: usize) -> bool {
        let (from, to) = (from as u32, to as u32);
        if let Some(last) = self.all[..self.used].last_mut().filter(|last| last.1 == from) {
            last.1 = to;
            return true;
        }
        let Some(free) = self.all.get_mut(self.used) else { return false };
        *free = (from, to);
        self.used += 1;
        true
    }

    fn write(&self, head: &[u8], out: &mut Vec<u8>) {
        for (from, to) in &self.all[..self.used] {
            out.extend_from_slice(&head[*from as usize..*to as usize]);
        }
    }
}

impl Lines {
    pub(super) fn new(head: Bytes, spans: Spans, dated: bool) -> Self {
        Self { head, spans, dated }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        self.spans.write(&self.head, out);
    }

    fn map(&self) -> HeaderMap {
        let mut lines = Vec::new();
        self.write(&mut lines);
        lines.extend_from_slice(b"\r\n");
        let lines = Bytes::from(lines);
        let mut fields = [httparse::EMPTY_HEADER; MOST];
        let mut map = HeaderMap::new();
        // They were read before, so there is no error.
        if let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(&lines, &mut fields) {
            for field in fields {
                let value = HeaderValue::from_maybe_shared(lines.slice_ref(field.value));
                if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(field.name.as_bytes()), value) {
                    map.append(name, value);
                }
            }
        }
        map
    }
}

impl Fields {
    /// `spellings`: how the names were spelt; none: they may be written in lower case.
    pub(super) fn spelt(map: HeaderMap, spellings: Option<Spellings>) -> Self {
        match spellings {
            None => Self::Map(map),
            Some(spellings) => Self::Spelt(Box::new((map, spellings))),
        }
    }

    /// The map, which is made if there is none yet.
    pub(crate) fn map(&mut self) -> &mut HeaderMap {
        if let Self::AsTheyCame(lines) = self {
            *self = Self::Map(lines.map());
        }
        match self {
            Self::Map(map) => map,
            Self::Spelt(spelt) => &mut spelt.0,
            Self::AsTheyCame(_) => unreachable!("its map has just been made"),
        }
    }

    /// The map, if there is one.
    pub(crate) fn made(&mut self) -> Option<&mut HeaderMap> {
        match self {
            Self::Map(map) => Some(map),
            Self::Spelt(spelt) => Some(&mut spelt.0),
            Self::AsTheyCame(_) => None,
        }
    }
}

impl From<HeaderMap> for Fields {
    fn from(map: HeaderMap) -> Self {
        Self::Map(map)
    }
}

impl From<Lines> for Fields {
    fn from(lines: Lines) -> Self {
        Self::AsTheyCame(lines)
    }
}
