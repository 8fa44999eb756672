//! How a client hello is refused: by a fatal alert in plain text, since no keys are agreed upon yet (RFC 8446 §6).

use std::time::Duration;

use rustls::AlertDescription;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// So long a client may take to end a connection that it has been told is over. One that reads the alert does so at once.
const LINGER: Duration = Duration::from_secs(1);
/// So many bytes of what it had sent by then are read, and thrown away.
const MOST_THROWN_AWAY: usize = 256 << 10;

/// What a client is told whose server name nobody serves: so (RFC 6066 §3), or, where it sent none, that it must (RFC 8446 §9.2).
pub(crate) fn unserved(name: &str) -> AlertDescription {
    if name.is_empty() { AlertDescription::MissingExtension } else { AlertDescription::UnrecognisedName }
}

/// Sends the alert and closes.
pub(crate) async fn refuse(stream: &mut TcpStream, alert: AlertDescription) {
    // Type alert; version, as all records have it; 2 bytes: fatal, which.
    tell(stream, &[21, 3, 3, 0, 2, 2, alert.into()]).await;
}

/// Sends an alert's record and closes. What the client sends meanwhile is read on: a socket that is closed with bytes unread resets the connection, and the
/// alert might be lost with it.
pub(super) async fn tell(stream: &mut TcpStream, record: &[u8]) {
    let told = async {
        stream.write_all(record).await?;
        stream.shutdown().await?;
        let (mut left, mut rest) = (MOST_THROWN_AWAY, [0; 2 << 10]);
        while left > 0 {
            match stream.read(&mut rest).await? {
                0 => break,
                count => left = left.saturating_sub(count),
            }
        }
        std::io::Result::Ok(())
    };
    // Whether the client stays to hear it is its own affair.
    let _ = timeout(LINGER, told).await;
}
