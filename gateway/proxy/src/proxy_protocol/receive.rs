//! Waits for a header. It is looked at in the socket (`MSG_PEEK`), and taken only when it is whole. So no byte behind it leaves the socket, and forwarding, TLS
//! and HTTP need not know that there was one.

use std::io::{Error, ErrorKind, Result};
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;

use super::{Header, MOST, Parsed, parse};

/// How long a header may take. A proxy sends it with the handshake, or right after it.
const TIME: Duration = Duration::from_secs(10);

/// The header of a connection; none: it begins with something else. Errors: it is malformed, or did not come in time.
pub(crate) async fn receive(stream: &TcpStream) -> Result<Option<Header>> {
    tokio::time::timeout(TIME, wait(stream)).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}

async fn wait(stream: &TcpStream) -> Result<Option<Header>> {
    let mut bytes = vec![0; MOST];
    loop {
        let ready = stream.ready(Interest::READABLE).await?;
        // The readiness is edge-triggered (epoll(7)): bytes in the socket wake nobody again, only more of them do, and the end.
        let seen = stream.try_io(Interest::READABLE, || match parse_peeked(stream, &mut bytes)? {
            Parsed::More => Err(ErrorKind::WouldBlock.into()),
            seen => Ok(seen),
        });
        match seen {
            Ok(Parsed::Header(header, length)) => {
                take(stream, &mut bytes[..length])?;
                return Ok(Some(header));
            }
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == ErrorKind::WouldBlock && !ready.is_read_closed() => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(ErrorKind::UnexpectedEof.into()),
            Err(error) => return Err(error),
        }
    }
}

fn parse_peeked(stream: &TcpStream, bytes: &mut [u8]) -> Result<Parsed> {
    use std::os::fd::AsRawFd as _;
    let count = nix::sys::socket::recv(stream.as_raw_fd(), bytes, nix::sys::socket::MsgFlags::MSG_PEEK)?;
    if count == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    parse(&bytes[..count]).map_err(|why| Error::new(ErrorKind::InvalidData, why))
}

/// Takes what was seen, which is there.
fn take(stream: &TcpStream, mut rest: &mut [u8]) -> Result<()> {
    while !rest.is_empty() {
        match stream.try_read(rest)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            count => rest = &mut rest[count..],
        }
    }
    Ok(())
}
