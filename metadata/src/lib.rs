//! The replicated metadata store: state machine, Raft groups, log store and client.
