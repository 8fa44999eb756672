//! What a discovery plugin asks of the network without keeping other services waiting: the gateway is told, and the plugin called again when the
//! answer has come.

use crate::discovery::PublishedEndpoint;
use crate::http;
use crate::names;

/// A question to the network.
#[derive(Clone, Debug)]
pub enum Ask {
    /// An HTTP request; the response comes as a whole.
    Http(http::Request),
    /// DNS records.
    Names(names::Query),
}

/// What came of an [`Ask`].
#[derive(Clone, Debug)]
pub enum Reply {
    /// What came of [`Ask::Http`].
    Http(Result<http::Response, http::Error>),
    /// Of [`Ask::Names`]: for each question, in their order.
    Names(Vec<Result<Vec<names::Record>, names::Failure>>),
}

/// What follows from a [`Reply`].
#[derive(Clone, Debug)]
pub enum Next {
    /// These are the service's endpoints.
    Endpoints(Vec<PublishedEndpoint>),
    /// One more question.
    Ask(Ask),
}
