//! Refuses a client hello by a fatal alert in plain text, as no keys are agreed upon yet (RFC 8446 §6).

use std::time::Duration;

use rustls::AlertDescription;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a client may take to end a connection after it was told that it is over. A client that reads the alert does so at once.
const LINGER: Duration = Duration::from_secs(1);
/// How many bytes that it had sent by then are read and thrown away.
const MOST_THROWN_AWAY: usize = 256 << 10;

/// The alert for a client whose server name nobody serves (RFC 6066 §3); or, if it sent none, that it must send one (RFC 8446 §9.2).
pub(crate) fn unserved(name: &str) -> AlertDescription {
    if name.is_empty() { AlertDescription::MissingExtension } else { AlertDescription::UnrecognisedName }
}

/// Sends an alert and closes the connection.
pub(crate) async fn refuse(stream: &mut TcpStream, alert: AlertDescription) {
    // The record: type alert; the version that all records have; 2 bytes: fatal, and which alert.
    tell(stream, &[21, 3, 3, 0, 2, 2, alert.into()]).await;
}

/// Sends the record of an alert and closes the connection. What the client sends meanwhile is read, as a socket that is closed with bytes unread resets the
/// connection, by which the alert might be lost.
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
    // Whether the client stays to read it is its own affair.
    let _ = timeout(LINGER, told).await;
}
