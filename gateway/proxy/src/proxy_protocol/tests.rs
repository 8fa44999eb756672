#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use sluicegate_model::settings::ProxyVersion::{V1, V2};

use super::*;

fn header(bytes: &[u8]) -> Header {
    match parse(bytes).unwrap() {
        Parsed::Header(header, length) => {
            assert_eq!(length, bytes.len());
            header
        }
        other => panic!("{other:?}"),
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn inet(source: &str, destination: &str) -> Ends {
    Ends::Inet { source: address(source), destination: address(destination) }
}

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend_from_slice(&[0x20 | command, family]);
    bytes.extend_from_slice(&u16::try_from(body.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

const V4: &[u8] = &[192, 0, 2, 1, 198, 51, 100, 2, 0x13, 0x88, 0, 80];

#[test]
fn lines() {
    assert_eq!(header(b"PROXY TCP4 192.0.2.1 198.51.100.2 5000 80\r\n").ends, inet("192.0.2.1:5000", "198.51.100.2:80"));
    assert_eq!(header(b"PROXY TCP6 2001:db8::1 ::2 0 65535\r\n").ends, inet("[2001:db8::1]:0", "[::2]:65535"));
    assert_eq!(header(b"PROXY UNKNOWN\r\n").ends, Ends::Own);
    assert_eq!(header(b"PROXY UNKNOWN ffff:: whatever\r\n").ends, Ends::Own);
    for wrong in [
        &b"PROXY TCP4 192.0.2.1 198.51.100.2 5000 80\n"[..],
        b"PROXY TCP4 192.0.2.1  198.51.100.2 5000 80\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 05000 80\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 +5000 80\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 65536 80\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 5000\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 5000 80 x\r\n",
        b"PROXY TCP4 ::1 ::2 5000 80\r\n",
        b"PROXY TCP6 192.0.2.1 198.51.100.2 5000 80\r\n",
        b"PROXY UDP4 192.0.2.1 198.51.100.2 5000 80\r\n",
        b"PROXY \r\n",
        b"PROXY \xff\r\n",
    ] {
        assert_eq!(parse(wrong), Err(Malformed::Line), "{}", String::from_utf8_lossy(wrong));
    }
    let mut long = b"PROXY UNKNOWN ".to_vec();
    long.resize(107, b'x');
    assert_eq!(parse(&long), Err(Malformed::LongLine));
    assert_eq!(parse(&long[..106]), Ok(Parsed::More));
}

#[test]
fn every_piece_of_a_header_asks_for_more_and_what_follows_is_left() {
    let line = b"PROXY TCP4 192.0.2.1 198.51.100.2 5000 80\r\n".to_vec();
    for whole in [line, v2(1, 0x11, V4)] {
        for end in 0..whole.len() {
            assert_eq!(parse(&whole[..end]), Ok(Parsed::More), "{end}");
        }
        let mut more = whole.clone();
        more.extend_from_slice(b"GET / HTTP/1.1");
        assert!(matches!(parse(&more), Ok(Parsed::Header(_, length)) if length == whole.len()));
    }
    for other in [&b"GET / HTTP/1.1\r\n"[..], b"PROPFIND / HTTP/1.1\r\n", b"\r\n\r\n\0\r\nQUIT!", b"\x16\x03\x01", b"PROXYX"] {
        assert_eq!(parse(other), Ok(Parsed::Other));
    }
}

#[test]
fn binary_headers_of_all_families() {
    assert_eq!(header(&v2(1, 0x11, V4)).ends, inet("192.0.2.1:5000", "198.51.100.2:80"));
    let mut v6 = [0; 36];
    (v6[15], v6[31], v6[33], v6[35]) = (1, 2, 3, 4);
    assert_eq!(header(&v2(1, 0x21, &v6)).ends, inet("[::1]:3", "[::2]:4"));
    let mut paths = [0; PATHS];
    paths[0] = b'/';
    assert_eq!(header(&v2(1, 0x31, &paths)).ends, Ends::Unix(Box::new(paths)));
    assert_eq!(header(&v2(1, 0x00, &[])).ends, Ends::Own);
    assert_eq!(header(&v2(1, 0x00, b"odd")).ends, Ends::Own, "what stands there is ignored");
    assert_eq!(header(&v2(0, 0x11, V4)).ends, Ends::Own, "LOCAL");
    assert_eq!(header(&v2(0, 0xFF, b"anything")).ends, Ends::Own, "LOCAL: the rest is skipped");
    for (wrong, why) in [
        (v2(2, 0x11, V4), Malformed::Version),
        (v2(1, 0x12, V4), Malformed::Family),
        (v2(1, 0x41, V4), Malformed::Family),
        (v2(1, 0x11, &V4[..11]), Malformed::Short),
        (v2(1, 0x21, &[0; 35]), Malformed::Short),
        (v2(1, 0x31, &[0; 215]), Malformed::Short),
        (v2(1, 0x11, &[V4, &[1, 0]].concat()), Malformed::Tlv),
        (v2(1, 0x11, &[V4, &[1, 0, 2, 9]].concat()), Malformed::Tlv),
        (v2(1, 0x11, &[0; MOST]), Malformed::TooLong),
    ] {
        assert_eq!(parse(&wrong), Err(why));
    }
    let mut old = v2(1, 0x11, V4);
    old[12] = 0x11;
    assert_eq!(parse(&old), Err(Malformed::Version));
}

#[test]
fn tlvs_are_kept_and_the_checksum_is_verified_and_made_anew() {
    assert_eq!(crc32c(b"123456789".iter().copied()), 0xE306_9283, "the check value of CRC-32C");
    let tlvs = [&b"\x05\0\x03abc"[..], b"\xE0\0\0"].concat();
    let came = Header { ends: inet("192.0.2.1:5000", "198.51.100.2:80"), tlvs: tlvs.clone(), checksum: true };
    let written = write(V2, address("127.0.0.1:1"), address("127.0.0.1:2"), Some(&came));
    assert_eq!(header(&written), came);
    for at in FIXED..written.len() {
        let mut broken = written.clone();
        broken[at] ^= 1;
        assert!(parse(&broken) != Ok(Parsed::Header(came.clone(), written.len())), "byte {at}");
    }
    let mut padded = [V4, b"\x04\0\x02\0\0"].concat();
    padded.extend_from_slice(&tlvs);
    assert_eq!(header(&v2(1, 0x11, &padded)).tlvs, tlvs, "padding is not passed on");
}

#[test]
fn what_is_written() {
    let (a, b) = (address("127.0.0.1:5000"), address("127.0.0.2:80"));
    assert_eq!(write(V1, a, b, None), b"PROXY TCP4 127.0.0.1 127.0.0.2 5000 80\r\n");
    assert_eq!(write(V1, address("[::ffff:127.0.0.1]:5000"), b, None), b"PROXY TCP4 127.0.0.1 127.0.0.2 5000 80\r\n");
    assert_eq!(write(V1, address("[::1]:5000"), b, None), b"PROXY TCP6 ::1 ::ffff:127.0.0.2 5000 80\r\n");
    assert_eq!(header(&write(V2, a, b, None)).ends, Ends::Inet { source: a, destination: b });
    assert_eq!(header(&write(V2, address("[::1]:5000"), address("[::2]:1"), None)).ends, inet("[::1]:5000", "[::2]:1"));
    let unix = Header { ends: Ends::Unix(Box::new([7; PATHS])), tlvs: Vec::new(), checksum: false };
    assert_eq!(header(&write(V2, a, b, Some(&unix))), unix);
    assert_eq!(write(V1, a, b, Some(&unix)), b"PROXY UNKNOWN\r\n");
    let local = Header { ends: Ends::Own, tlvs: Vec::new(), checksum: false };
    assert_eq!(write(V1, a, b, Some(&local)), write(V1, a, b, None), "a proxy that speaks for itself is the client");
    for version in [V1, V2] {
        assert_eq!(header(version.local()).ends, Ends::Own);
    }
}

#[test]
fn no_bytes_make_it_panic() {
    // A small generator, which gives the same bytes each time.
    let mut state = 0x2545_F491_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    for _ in 0..20_000 {
        let mut bytes = if next() % 2 == 0 { SIGNATURE.to_vec() } else { WORD.to_vec() };
        bytes.extend((0..next() % 64).map(|_| (next() & 0xFF) as u8));
        if next() % 4 != 0 && bytes.len() > FIXED {
            let length = (bytes.len() - FIXED) as u16;
            (bytes[12], bytes[13]) = (0x21, [0x11, 0x21, 0x31, 0x01][(next() % 4) as usize]);
            bytes[14..16].copy_from_slice(&length.to_be_bytes());
        }
        if let Ok(Parsed::Header(header, length)) = parse(&bytes) {
            assert!(length <= bytes.len());
            let again = write(V2, address("127.0.0.1:1"), address("127.0.0.1:2"), Some(&header));
            assert!(matches!(parse(&again), Ok(Parsed::Header(..))));
        }
    }
}
