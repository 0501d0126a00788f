//! Connections between nodes: who calls, over which connection, until when.
//!
//! Owns the connector, the accept loop and the identity that every call carries. Does not know any service: callers
//! bring generated clients ([`Peers::service`] is what they are made from), servers ([`Routes`]), or the payloads and
//! handlers of small calls ([`Peers::call`], [`Routes::calls`]).
//! Invariants:
//!  - both ends announce the same frame size and windows, so that bulk bodies travel in large frames;
//!  - a call of another cluster is refused before it reaches a service;
//!  - node-to-node traffic is not encrypted yet, so [`bind`] takes loopback addresses only.

mod call;
mod connector;
mod deadline;
mod identity;
mod peers;
mod routes;
mod server;
mod tuning;

pub use call::{CallHandler, Method};
pub use connector::ConnectError;
pub use deadline::{call_timeout, never_sent, remaining, request};
pub use identity::{Caller, IdentityTaken, RpcIdentity};
pub use peers::{Class, PeerService, Peers, Stamp};
pub use routes::Routes;
pub use server::{BindError, bind, serve};
pub use tuning::MAX_MESSAGE_BYTES;
