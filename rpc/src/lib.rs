//! Connections between nodes: who calls, over which connection, until when.
//!
//! Owns the connector, the accept loop and the identity that every call carries. Does not know any service: callers
//! bring generated clients ([`Peers::service`] is what they are made from), servers ([`Routes`]), or the payloads and
//! handlers of small calls ([`Peers::call`], [`Routes::calls`]).
//! Invariants:
//!  - both ends announce the same frame size and windows, so that bulk bodies travel in large frames;
//!  - a call of another cluster, of a node that cannot prove who it is, or of an incompatible version is refused before
//!    it reaches a service, and both sides say so;
//!  - what leaves the machine is encrypted: [`bind_for`] takes any address for a secured identity, and loopback
//!    addresses only for one in the clear.

mod call;
mod connector;
mod deadline;
mod epochs;
mod identity;
mod peers;
mod refusals;
mod routes;
mod server;
mod tls;
mod tuning;

pub use call::{CallHandler, Method};
pub use connector::ConnectError;
pub use deadline::{call_timeout, never_sent, remaining, request};
pub use epochs::MapEpochs;
pub use identity::{Caller, IdentityTaken, RpcIdentity};
pub use peers::{Class, PeerService, Peers, Stamp};
pub use routes::Routes;
pub use server::{BindError, bind, bind_for, serve};
pub use tls::{CredentialError, Credentials, Fingerprint, cluster_name, node_name};
pub use tuning::MAX_MESSAGE_BYTES;
