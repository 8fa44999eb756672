//! Settings of HTTP/3.

/// HTTP/3 from clients: `ClientTrafficPolicy`'s `http3`. Its limits are those of HTTP/2.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHttp3 {
    /// The port that clients are told in `Alt-Svc`; none: the listener's own.
    pub advertised_port: Option<u16>,
}
