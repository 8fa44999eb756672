//! Finds where a section of lines ends: a head, or trailers. Only this decides it: parsers are given what is found here and nothing behind it, so they cannot
//! see another end, in whatever pieces the bytes come.

/// Which line ends are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineEnds {
    /// Only CR LF: from clients, and in all that frames content.
    Strict,
    /// Also LF alone, as it may stand in endpoints' heads (RFC 9112 §2.2).
    Lenient,
}

/// A line ends in a way that is not taken, or a carriage return stands alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadLine;

/// The length of a head with the empty line that ends it; none: that has not come. Empty lines before the head are part of it (RFC 9112 §2.2).
/// `seen`: the number of bytes that were looked at before, in vain.
pub(super) fn head(buffer: &[u8], seen: usize, ends: LineEnds) -> Result<Option<usize>, BadLine> {
    if is_one_head(buffer) {
        return Ok(Some(buffer.len()));
    }
    section(buffer, first_line(buffer), seen, ends)
}

/// Whether these bytes are one head and nothing else, with CR LF behind every line, as most requests come. One look at each two bytes that follow one another
/// tells, which is quicker than to search for each line's end.
fn is_one_head(bytes: &[u8]) -> bool {
    let Some(lines) = bytes.strip_suffix(b"\n\r\n") else { return false };
    // Another empty line, or a line that ends otherwise.
    let wrong = |one: u8, next: u8| (one == b'\n' && next == b'\r') | (one != b'\r' && next == b'\n');
    let first = lines.first().is_some_and(|first| !matches!(first, b'\r' | b'\n'));
    first && lines.ends_with(b"\r") && !lines.iter().zip(&lines[1..]).fold(false, |found, (one, next)| found | wrong(*one, *next))
}

/// Where the first line begins that is not empty.
pub(super) fn first_line(buffer: &[u8]) -> usize {
    buffer.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(buffer.len())
}

/// The length of a trailer section with the empty line that ends it; none: that has not come. The section may be nothing but an empty line.
pub(super) fn trailers(buffer: &[u8], seen: usize) -> Result<Option<usize>, BadLine> {
    section(buffer, 0, seen, LineEnds::Strict)
}

fn section(buffer: &[u8], begin: usize, seen: usize, ends: LineEnds) -> Result<Option<usize>, BadLine> {
    for at in memchr::memchr_iter(b'\n', &buffer[seen..]).map(|at| at + seen) {
        let carriage = at > 0 && buffer[at - 1] == b'\r';
        if !carriage && ends == LineEnds::Strict {
            return Err(BadLine);
        }
        let line_end = at - usize::from(carriage);
        if at >= begin && (line_end == begin || buffer[line_end - 1] == b'\n') {
            return Ok(Some(at + 1));
        }
    }
    // If the end has come, the parsers find these. A sender of one that sends no end need not be waited for.
    if has_lone_return(&buffer[seen.saturating_sub(1)..]) { Err(BadLine) } else { Ok(None) }
}

/// Whether a carriage return is followed by something else than a line feed.
fn has_lone_return(buffer: &[u8]) -> bool {
    memchr::memchr_iter(b'\r', buffer).any(|at| buffer.get(at + 1).is_some_and(|next| *next != b'\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The result when the bytes come in two pieces.
    fn cut(whole: &[u8], at: usize, ends: LineEnds) -> Result<Option<usize>, BadLine> {
        match head(&whole[..at], 0, ends)? {
            None => head(whole, at, ends),
            found => Ok(found),
        }
    }

    #[test]
    fn a_head_ends_at_its_empty_line_wherever_it_is_cut() {
        for (bytes, strict, lenient) in [
            ("a\r\nb: 1\r\n\r\nc", Ok(Some(11)), Ok(Some(11))),
            ("\r\n\r\na\r\n\r\nc", Ok(Some(9)), Ok(Some(9))),
            ("a\r\nb: 1\n\r\nc", Err(BadLine), Ok(Some(10))),
            ("a\r\nb: 1\r\n\nc", Err(BadLine), Ok(Some(10))),
            ("a\nb: 1\n\nc", Err(BadLine), Ok(Some(8))),
            ("a\r\nb: 1\r\n", Ok(None), Ok(None)),
            ("\r\n\r\n", Ok(None), Ok(None)),
            ("\n\n", Err(BadLine), Ok(None)),
            ("a\r\n\r\r\n", Err(BadLine), Err(BadLine)),
            ("a\r\rb", Err(BadLine), Err(BadLine)),
        ] {
            for at in 0..=bytes.len() {
                assert_eq!(cut(bytes.as_bytes(), at, LineEnds::Strict), strict, "{bytes:?} at {at}");
                assert_eq!(cut(bytes.as_bytes(), at, LineEnds::Lenient), lenient, "{bytes:?} at {at}");
            }
        }
    }

    /// All heads of up to nine bytes of these.
    #[test]
    fn the_quick_look_tells_what_the_search_does() {
        for length in 0..=9 {
            for number in 0..3_usize.pow(length) {
                let bytes: Vec<u8> = (0..length).map(|at| b"\r\na"[number / 3_usize.pow(at) % 3]).collect();
                if is_one_head(&bytes) {
                    for ends in [LineEnds::Strict, LineEnds::Lenient] {
                        assert_eq!(section(&bytes, first_line(&bytes), 0, ends), Ok(Some(bytes.len())), "{bytes:?}");
                    }
                }
            }
        }
        assert!(is_one_head(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n") && !is_one_head(b"a\r\n\r\nb\r\n\r\n"));
    }

    #[test]
    fn trailers_may_be_an_empty_line() {
        assert_eq!(trailers(b"\r\nGET", 0), Ok(Some(2)));
        assert_eq!(trailers(b"\r\n", 1), Ok(Some(2)));
        assert_eq!(trailers(b"\r", 0), Ok(None));
        assert_eq!(trailers(b"\n", 0), Err(BadLine));
        assert_eq!(trailers(b"a: 1\r\n\r\nGET", 0), Ok(Some(8)));
        assert_eq!(trailers(b"a: 1\r\n\n", 6), Err(BadLine));
    }
}
