//! Questions that a discovery plugin asks of the network without keeping other services waiting: the gateway takes the question, and the plugin is called again
//! when the answer has come.

use crate::discovery::PublishedEndpoint;
use crate::http;
use crate::names;

/// A question to the network.
#[derive(Clone, Debug)]
pub enum Ask {
    /// An HTTP request, whose response comes as a whole.
    Http(http::Request),
    /// Questions for DNS records.
    Names(names::Query),
}

/// The answer to an [`Ask`].
#[derive(Clone, Debug)]
pub enum Reply {
    /// The answer to [`Ask::Http`]: the response, or why there is none.
    Http(Result<http::Response, http::Error>),
    /// The answer to [`Ask::Names`]: for each question, in their order, the records, or why there are none.
    Names(Vec<Result<Vec<names::Record>, names::Failure>>),
}

/// What follows from a [`Reply`].
#[derive(Clone, Debug)]
pub enum Next {
    /// The endpoints of the service are known.
    Endpoints(Vec<PublishedEndpoint>),
    /// Another question must be asked.
    Ask(Ask),
}
