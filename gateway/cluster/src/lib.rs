//! A Kubernetes API server: as a source of objects, and what is written to it. [`connection`] says where it is and who asks; [`client`] asks, and `reach` says whether there is an answer; [`kinds`] are those that
//! are asked for, and [`source`] follows them. [`seen`] has what the server said last; [`leader`] decides which one of many processes writes, [`lead`] asks for it; [`status`]
//! writes statuses, and `events` of what they say; [`infrastructure`] makes Services that stand for Gateways, [`nodes`] tells and gathers what each node runs ([`fleet`]), and [`turn`] is what the two have in common; [`counts`] counts it. [`anyip`] has to do with the kernel alone: it makes virtual IPs local.

pub mod anyip;
pub mod client;
pub mod connection;
pub mod counts;
mod events;
pub mod fleet;
pub mod infrastructure;
pub mod kinds;
pub mod lead;
pub mod leader;
pub mod nodes;
mod reach;
pub mod seen;
pub mod source;
pub mod status;
pub mod turn;
