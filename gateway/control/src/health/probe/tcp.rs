//! A probe by a TCP connection: something is sent, and something is expected back.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{Failure, MOST_READ, contains, unreachable, wrong};

pub(super) async fn probe(mut stream: impl AsyncRead + AsyncWrite + Unpin, send: &[u8], receive: &[u8]) -> Result<(), Failure> {
    if !send.is_empty() {
        stream.write_all(send).await.map_err(|e| unreachable("send", e))?;
    }
    let mut came = Vec::new();
    while !contains(&came, receive) {
        let read = stream.read_buf(&mut came).await.map_err(|e| unreachable("receive", e))?;
        if read == 0 || came.len() > MOST_READ {
            return Err(wrong(format!("the expected bytes are not among the {} that came", came.len())));
        }
    }
    Ok(())
}
