//! How one process's `memory_limit` is divided.
//!
//! Each role has a share of its own, so that a shard server never waits for a gateway. A share is taken before the
//! bytes it stands for are read; without it the answer is `503 SlowDown`.

use ashlar_metadata::kv::{FjallMemory, FjallOptions};
use ashlar_runtime::ByteBudget;
use ashlar_types::limits::{KIB, MIB};

/// Code, stacks, Raft and the least that tables take: what a node has before the first request, measured with three
/// metadata groups, and a quarter more; and what six drives hold of shards while they write them.
const BASE_BYTES: u64 = 160 * MIB;
/// What one client connection may hold in hyper's buffers, both ways.
const CONNECTION_BYTES: u64 = 512 * KIB;
const CONNECTIONS_MAX: u64 = 4096;
/// Of the tables of all metadata groups: with less they only write small files, and past the most they gain little, because
/// what is not here is in the page cache.
const TABLES_MIN: u64 = 24 * MIB;
const TABLES_MAX: u64 = 256 * MIB;

/// Shared by all nodes of the process.
#[derive(Clone, Debug)]
pub struct Budgets {
    /// Rows of requests.
    pub gateway: ByteBudget,
    /// Streams of shards for other nodes.
    pub shards: ByteBudget,
    /// Client connections; more wait in the listener's queue.
    pub connections: usize,
    /// Caches and write buffers of metadata tables.
    pub tables: FjallMemory,
}

impl Budgets {
    /// Of what is left, a third for requests, a quarter for shards, a third for connections, a twelfth for tables.
    pub fn of(memory_limit: u64) -> Self {
        let payload = memory_limit.saturating_sub(BASE_BYTES);
        let connections = (payload / 3 / CONNECTION_BYTES).clamp(1, CONNECTIONS_MAX);
        Self {
            gateway: ByteBudget::new(payload / 3),
            shards: ByteBudget::new(payload / 4),
            connections: usize::try_from(connections).expect("at most CONNECTIONS_MAX"),
            tables: FjallMemory::new(FjallOptions::within(tables_bytes(payload))),
        }
    }
}

fn tables_bytes(payload: u64) -> u64 {
    (payload / 12).clamp(TABLES_MIN, TABLES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MEMORY_LIMIT_MIN;

    #[test]
    fn the_shares_never_exceed_the_limit() {
        for limit in [MEMORY_LIMIT_MIN, 1 << 30, 4 << 30, 64 << 30] {
            let budgets = Budgets::of(limit);
            let connections = u64::try_from(budgets.connections).unwrap() * CONNECTION_BYTES;
            // The least of them is in the base.
            let tables = tables_bytes(limit - BASE_BYTES) - TABLES_MIN;
            let sum = BASE_BYTES + tables + budgets.gateway.limit() + budgets.shards.limit() + connections;
            assert!(sum <= limit, "{sum} of {limit}");
            assert!(budgets.connections >= 64);
        }
    }
}
