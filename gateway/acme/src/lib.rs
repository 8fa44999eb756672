//! Orders certificates from ACME CAs (RFC 8555) for the names that listeners ask for, keeps them, and renews them.
//!
//! In the order of an order: control says which names listeners ask for (`sluicegate_control::acme`); the [`Orders`] know of each what is [`kept`] of it
//! and [when](schedule) the next order is due; an [`order`] asks the CA through a [`client`] and answers its challenges, which the data plane serves
//! (`sluicegate_model::tls::acme`); what goes wrong becomes a [`problem`], of which operators are told. The protocol itself is the library `instant-acme`.

mod client;
mod kept;
mod order;
mod orders;
mod problem;
mod schedule;

pub use orders::Orders;
pub use schedule::Timing;
