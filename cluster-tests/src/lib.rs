//! Stories told by real processes, seen through sockets only.
