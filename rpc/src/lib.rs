//! Connections between nodes: classes, identity, deadlines, keep-alive.
