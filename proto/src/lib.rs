//! Wire messages between nodes and their conversions.
