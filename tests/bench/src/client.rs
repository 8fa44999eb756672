//! A minimal HTTP client: one kept connection, requests one after another, answers with a Content-Length.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer that takes longer than this counts as none.
const PATIENCE: Duration = Duration::from_secs(5);

/// A client with one connection, which is opened when it is needed.
pub(crate) struct Client {
    address: SocketAddr,
    open: Option<BufReader<TcpStream>>,
    /// How often a kept connection turned out to be closed, and the request went over a new one.
    pub(crate) again: u64,
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, open: None, again: 0 }
    }

    /// Sends a request. A kept connection that closes before an answer begins is no failure: clients send such a request again (RFC 9112 §9.3.1).
    pub(crate) fn get(&mut self, path: &str) -> std::io::Result<Answer> {
        if let Some(kept) = self.open.take() {
            match self.exchange(kept, path) {
                Err(error) if closed(error.kind()) => self.again += 1,
                other => return other,
            }
        }
        let stream = TcpStream::connect_timeout(&self.address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        self.exchange(BufReader::new(stream), path)
    }

    fn exchange(&mut self, mut stream: BufReader<TcpStream>, path: &str) -> std::io::Result<Answer> {
        stream.get_mut().write_all(format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").as_bytes())?;
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(ErrorKind::ConnectionAborted.into());
        }
        let broken = |what: &str| std::io::Error::new(ErrorKind::InvalidData, what.to_owned());
        let status = line.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(|| broken("no status"))?;
        let (mut length, mut closes) = (0, false);
        loop {
            line.clear();
            if stream.read_line(&mut line)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let field = line.trim_end().to_ascii_lowercase();
            match field.split_once(':') {
                None => break,
                Some(("content-length", value)) => length = value.trim().parse().map_err(|_| broken("no length"))?,
                Some(("transfer-encoding", _)) => return Err(broken("chunked")),
                Some(("connection", value)) => closes = value.trim() == "close",
                Some(_) => {}
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        if !closes {
            self.open = Some(stream);
        }
        Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned() })
    }
}

/// Whether an error says that the connection was closed before an answer began.
fn closed(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}
