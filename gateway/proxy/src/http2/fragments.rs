//! Refuses fragments in the paths of requests, which have none (RFC 9113 §8.3.1): servers that ignore one and those that do not would see two paths. The library
//! cuts them off without telling, so it is made to refuse them: before it reads the bytes, `#` is changed into `>`, which no path may have. Both are one byte, and
//! both are 12 bits in HPACK's Huffman code (RFC 7541, appendix B), of which only the last differs. So no length changes; and what gets into the dynamic table is
//! refused again where it is used.

/// Frames that carry heads, and their flags (RFC 9113 §6.2, §6.10).
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;
const FRAME_HEADER: usize = 9;

/// Finds the heads in a client's bytes.
pub(super) struct Paths {
    at: At,
    header: [u8; FRAME_HEADER],
    /// How much of the frame is left.
    left: usize,
    block: Block,
}

enum At {
    /// So many bytes do not belong to a head.
    Skip(usize),
    /// So many bytes of a frame's header are known.
    Header(usize),
    /// The length of the padding comes next.
    Padding { flags: u8 },
    /// Fields come next, followed by so many bytes of padding; the first so many bytes are a priority.
    Fields { padding: usize, priority: usize },
}

impl Paths {
    /// `preface`: the number of bytes before the first frame.
    pub(super) fn new(preface: usize) -> Self {
        Self { at: At::Skip(preface), header: [0; FRAME_HEADER], left: 0, block: Block::default() }
    }

    /// Changes the next bytes, if there is a fragment in them.
    pub(super) fn pass(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let count = self.step(bytes);
            bytes = &mut bytes[count..];
        }
    }

    /// Takes one step. Returns how many bytes were looked at; 0: only the state has changed.
    fn step(&mut self, bytes: &mut [u8]) -> usize {
        let (count, next) = match self.at {
            At::Skip(0) => (0, At::Header(0)),
            At::Skip(left) => {
                let count = left.min(bytes.len());
                (count, At::Skip(left - count))
            }
            At::Header(have) => {
                let count = (FRAME_HEADER - have).min(bytes.len());
                self.header[have..have + count].copy_from_slice(&bytes[..count]);
                (count, if have + count == FRAME_HEADER { self.begin() } else { At::Header(have + count) })
            }
            At::Padding { flags } => {
                self.left -= 1;
                (1, fields(flags, usize::from(bytes[0])))
            }
            At::Fields { padding, priority } => {
                let fields = self.left.saturating_sub(padding);
                let skipped = priority.min(fields).min(bytes.len());
                let count = fields.min(bytes.len());
                self.block.pass(&mut bytes[skipped..count]);
                self.left -= count;
                (count, if count == fields { At::Skip(self.left) } else { At::Fields { padding, priority: priority - skipped } })
            }
        };
        self.at = next;
        count
    }

    /// Begins a frame whose header is known.
    fn begin(&mut self) -> At {
        let [l0, l1, l2, kind, flags, ..] = self.header;
        self.left = usize::from(l0) << 16 | usize::from(l1) << 8 | usize::from(l2);
        match kind {
            HEADERS => {
                self.block = Block::default();
                if flags & PADDED != 0 && self.left > 0 { At::Padding { flags } } else { fields(flags, 0) }
            }
            CONTINUATION => fields(0, 0),
            _ => At::Skip(self.left),
        }
    }
}

fn fields(flags: u8, padding: usize) -> At {
    At::Fields { padding, priority: if flags & PRIORITY == 0 { 0 } else { 5 } }
}

/// A block of fields (RFC 7541 §6), which may be cut anywhere.
#[derive(Default)]
struct Block {
    comes: Comes,
    /// The number that is being read, and how much of it was read.
    number: usize,
    shift: u32,
    /// How many bytes are left of the string that is being read, and whether it is coded.
    left: usize,
    coded: bool,
    /// Whether the string is the value of `:path`.
    path: bool,
    name: Name,
    code: Huffman,
}

/// What comes next in a block.
#[derive(Clone, Copy, Default)]
enum Comes {
    #[default]
    Field,
    /// The rest of a number.
    Number(Of),
    /// The length of a string.
    Length(Part),
    String(Part),
}

/// What a number stands for.
#[derive(Clone, Copy)]
enum Of {
    /// A field that is in a table, or the size of a table.
    Itself,
    /// The place of a field's name; 0: the name follows.
    Name,
    Length(Part),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Name,
    Value,
}

impl Block {
    fn pass(&mut self, bytes: &mut [u8]) {
        let mut at = 0;
        while at < bytes.len() {
            if matches!(self.comes, Comes::String(Part::Value)) && !self.path {
                // These are most bytes, and nobody looks at them.
                let count = self.left.min(bytes.len() - at);
                (at, self.left) = (at + count, self.left - count);
                if self.left == 0 {
                    self.comes = Comes::Field;
                }
            } else {
                self.byte(&mut bytes[at]);
                at += 1;
            }
        }
    }

    fn byte(&mut self, byte: &mut u8) {
        match self.comes {
            Comes::Field => match *byte {
                0x80.. => self.begin(*byte, 7, Of::Itself),
                0x40.. => self.begin(*byte, 6, Of::Name),
                0x20.. => self.begin(*byte, 5, Of::Itself),
                _ => self.begin(*byte, 4, Of::Name),
            },
            Comes::Number(of) => {
                self.number = self.number.saturating_add(usize::from(*byte & 0x7f).checked_shl(self.shift).unwrap_or(usize::MAX));
                self.shift = self.shift.saturating_add(7);
                if *byte & 0x80 == 0 {
                    self.told(of);
                }
            }
            Comes::Length(part) => {
                self.coded = *byte & 0x80 != 0;
                self.begin(*byte, 7, Of::Length(part));
            }
            Comes::String(part) => {
                match part {
                    Part::Name => self.name.push(*byte),
                    Part::Value if self.coded => self.code.pass(byte),
                    Part::Value if *byte == b'#' => *byte = b'>',
                    Part::Value => {}
                }
                self.left -= 1;
                if self.left == 0 {
                    self.end(part);
                }
            }
        }
    }

    /// Begins a number, in the last bits of a byte (RFC 7541 §5.1).
    fn begin(&mut self, byte: u8, bits: u32, of: Of) {
        let most = (1 << bits) - 1;
        (self.number, self.shift) = (usize::from(byte & most), 0);
        if byte & most == most { self.comes = Comes::Number(of) } else { self.told(of) }
    }

    fn told(&mut self, of: Of) {
        self.comes = match of {
            Of::Itself => Comes::Field,
            Of::Name if self.number == 0 => Comes::Length(Part::Name),
            Of::Name => {
                // These are its two places in the static table. In the dynamic table nobody looks for a name that is in the static one.
                self.path = matches!(self.number, 4 | 5);
                Comes::Length(Part::Value)
            }
            Of::Length(part) => {
                (self.left, self.name, self.code) = (self.number, Name::default(), Huffman::default());
                if self.left == 0 {
                    return self.end(part);
                }
                Comes::String(part)
            }
        };
    }

    fn end(&mut self, part: Part) {
        self.comes = match part {
            Part::Value => Comes::Field,
            Part::Name => {
                self.path = self.name.is_path(self.coded);
                Comes::Length(Part::Value)
            }
        };
    }
}

/// The beginning of a field's name.
#[derive(Default)]
struct Name {
    bytes: [u8; 5],
    length: usize,
}

impl Name {
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
        }
        self.length += 1;
    }

    fn is_path(&self, coded: bool) -> bool {
        // Shorter names end in zeros, and longer ones have another length.
        if coded {
            self.length == 4 && self.bytes.starts_with(&[0xb9, 0x58, 0xd3, 0x3f])
        } else {
            self.length == 5 && self.bytes == *b":path"
        }
    }
}

/// A string in Huffman's code that is being read.
#[derive(Default)]
struct Huffman {
    /// The bits that are not a whole symbol yet, and their number.
    bits: u64,
    count: u32,
}

/// Codes below the first number, with their bits at its left, have as many bits as the second number says; all others have 30. The code is canonical.
const LENGTHS: [(u32, u32); 20] = [
    (0x5000_0000, 5),
    (0xb800_0000, 6),
    (0xf800_0000, 7),
    (0xfe00_0000, 8),
    (0xff40_0000, 10),
    (0xffa0_0000, 11),
    (0xffc0_0000, 12),
    (0xfff0_0000, 13),
    (0xfff8_0000, 14),
    (0xfffe_0000, 15),
    (0xfffe_6000, 19),
    (0xfffe_e000, 20),
    (0xffff_4800, 21),
    (0xffff_b000, 22),
    (0xffff_ea00, 23),
    (0xffff_f600, 24),
    (0xffff_f800, 25),
    (0xffff_fbc0, 26),
    (0xffff_fe20, 27),
    (0xffff_fff0, 28),
];
/// The code of `#`; that of `>` is greater by one.
const FRAGMENT: u64 = 0xffa;

impl Huffman {
    fn pass(&mut self, byte: &mut u8) {
        self.bits = self.bits << 8 | u64::from(*byte);
        self.count += 8;
        loop {
            let left = (self.bits << (32 - self.count.min(32)) >> self.count.saturating_sub(32)) as u32;
            let length = LENGTHS.iter().find(|(limit, _)| left < *limit).map_or(30, |(_, length)| *length);
            if length > self.count {
                return;
            }
            self.count -= length;
            if self.bits >> self.count == FRAGMENT && length == 12 {
                // Its last bit is in this byte, or else it would have been found in the one before.
                *byte |= 1 << self.count;
            }
            self.bits &= (1 << self.count) - 1;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn hex(digits: &str) -> Vec<u8> {
        (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
    }

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, 1], payload].concat()
    }

    /// What the bytes become, which is the same in whatever pieces they come.
    fn passed(bytes: &[u8]) -> Vec<u8> {
        let all = |piece: usize| {
            let (mut paths, mut bytes) = (Paths::new(3), bytes.to_vec());
            bytes.chunks_mut(piece).for_each(|piece| paths.pass(piece));
            bytes
        };
        let whole = all(bytes.len());
        for piece in 1..bytes.len() {
            assert_eq!(all(piece), whole, "in pieces of {piece}");
        }
        whole
    }

    /// Blocks from the library hpack: GET http://a.example/x#frag, coded and plain.
    const CODED: &str = "82448663cffd4b60e68641871ae5f23a6ba0bf";

    #[test]
    fn a_fragment_becomes_what_no_path_may_have() {
        let block = hex(CODED);
        let changed = |from: &str, to: &str| hex(&CODED.replacen(from, to, 1));
        assert_eq!(CODED.matches("63cffd4b60e6").count(), 1);
        let refused = changed("63cffd4b60e6", "63cffdcb60e6");
        for (flags, before, after) in [
            (4, vec![], vec![]),
            (4 | PADDED, vec![2], vec![b'#'; 2]),
            (4 | PRIORITY, vec![b'#'; 5], vec![]),
            (4 | PADDED | PRIORITY, vec![1, 0, 0, 0, 0, 0], vec![9]),
        ] {
            let payload = |block: &[u8]| [&before[..], block, &after[..]].concat();
            let bytes = [b"pre".to_vec(), frame(0, 0, b"#"), frame(HEADERS, flags, &payload(&block)), frame(0, 1, b"/#")].concat();
            let wanted = [b"pre".to_vec(), frame(0, 0, b"#"), frame(HEADERS, flags, &payload(&refused)), frame(0, 1, b"/#")].concat();
            assert_eq!(passed(&bytes), wanted, "{flags}");
        }
        // The block comes in several frames.
        let pieces = |block: &[u8]| {
            [b"pre".to_vec(), frame(HEADERS, 0, &block[..6]), frame(CONTINUATION, 0, &[]), frame(CONTINUATION, 4, &block[6..])].concat()
        };
        assert_eq!(passed(&pieces(&block)), pieces(&refused));
    }

    #[test]
    fn only_paths_are_changed_whatever_their_form() {
        let literal = |name: &[u8], value: &[u8]| [&[0x40][..], &[name.len() as u8], name, &[value.len() as u8], value].concat();
        let coded = |name: &[u8], value: &[u8]| [&[0x10][..], &[0x80 | name.len() as u8], name, &[value.len() as u8], value].concat();
        let path = [0xb9, 0x58, 0xd3, 0x3f];
        for (block, wanted) in [
            (literal(b":path", b"/a#b#"), literal(b":path", b"/a>b>")),
            (coded(&path, b"/#"), coded(&path, b"/>")),
            (literal(b"x-path", b"/#"), literal(b"x-path", b"/#")),
            (literal(b":pat", b"/#"), literal(b":pat", b"/#")),
            (literal(b"x", b""), literal(b"x", b"")),
            (vec![0x05, 2, b'/', b'#'], vec![0x05, 2, b'/', b'>']),
            // Another name of the static table, and a place that takes two bytes.
            (vec![0x41, 1, b'#', 0x0f, 0x00, 1, b'#'], vec![0x41, 1, b'#', 0x0f, 0x00, 1, b'#']),
            // A size of a table that takes several bytes, and then a path.
            (vec![0x3f, 0xe1, 0x1f, 0x44, 2, b'/', b'#'], vec![0x3f, 0xe1, 0x1f, 0x44, 2, b'/', b'>']),
            // `/x?y%23` and the like stay.
            (vec![0x44, 4, b'/', b'%', b'2', b'3'], vec![0x44, 4, b'/', b'%', b'2', b'3']),
        ] {
            let head = |block: &[u8]| [b"pre".to_vec(), frame(HEADERS, 4, block)].concat();
            assert_eq!(passed(&head(&block)), head(&wanted), "{block:x?}");
        }
    }

    #[test]
    fn nonsense_is_left_to_the_library() {
        let mut paths = Paths::new(0);
        let mut nonsense = [frame(HEADERS, PADDED, &[]), frame(HEADERS, PADDED, &[9]), frame(HEADERS, PRIORITY, &[0; 2])].concat();
        nonsense.extend(frame(HEADERS, 4, &[0xff; 40]));
        nonsense.extend(frame(HEADERS, 4, &[&[0x44, 0xff][..], &[0xff; 40]].concat()));
        let before = nonsense.clone();
        paths.pass(&mut nonsense);
        assert_eq!(nonsense, before);
    }
}
