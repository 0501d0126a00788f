//! Budgets of memory in bytes. Each consumer (gateway, shard server, repair, Raft) has its own, so that a shard
//! server never waits for a gateway.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of one permit: budgets up to 4 TiB fit the semaphore's count.
const GRAIN: u64 = 1024;

/// A shared limit. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ByteBudget {
    grains: Arc<Semaphore>,
    limit: u64,
}

/// Bytes taken from a budget; given back when dropped.
#[derive(Debug)]
#[must_use = "dropping the reservation gives the bytes back"]
pub struct Reservation {
    _permit: OwnedSemaphorePermit,
    bytes: u64,
}

/// More was asked for than can be had: now (`try_reserve`) or ever (`reserve`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{asked} bytes do not fit the memory budget of {limit}")]
pub struct OverBudget {
    pub asked: u64,
    pub limit: u64,
}

impl ByteBudget {
    pub fn new(limit: u64) -> Self {
        let grains = usize::try_from(limit / GRAIN).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { grains: Arc::new(Semaphore::new(grains)), limit }
    }

    pub fn limit(&self) -> u64 {
        self.limit
    }

    pub fn available(&self) -> u64 {
        u64::try_from(self.grains.available_permits()).unwrap_or(u64::MAX).saturating_mul(GRAIN)
    }

    /// At once or not at all.
    pub fn try_reserve(&self, bytes: u64) -> Result<Reservation, OverBudget> {
        let refused = OverBudget { asked: bytes, limit: self.limit };
        let grains = u32::try_from(bytes.div_ceil(GRAIN)).map_err(|_| refused)?;
        let permit = Arc::clone(&self.grains).try_acquire_many_owned(grains).map_err(|_| refused)?;
        Ok(Reservation { _permit: permit, bytes })
    }

    /// Waits in line; fails only for what never fits. Cancel-safe.
    pub async fn reserve(&self, bytes: u64) -> Result<Reservation, OverBudget> {
        let refused = OverBudget { asked: bytes, limit: self.limit };
        if bytes > self.limit {
            return Err(refused);
        }
        let grains = u32::try_from(bytes.div_ceil(GRAIN)).map_err(|_| refused)?;
        let permit = Arc::clone(&self.grains).acquire_many_owned(grains).await.map_err(|_| refused)?;
        Ok(Reservation { _permit: permit, bytes })
    }
}

impl Reservation {
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_come_back_when_a_reservation_is_dropped() {
        let budget = ByteBudget::new(10 * GRAIN);
        let first = budget.try_reserve(8 * GRAIN).unwrap();
        assert!(budget.try_reserve(3 * GRAIN).is_err());
        drop(first);
        assert_eq!(budget.reserve(10 * GRAIN).await.unwrap().bytes(), 10 * GRAIN);
        assert_eq!(budget.available(), 10 * GRAIN);
        assert!(budget.reserve(11 * GRAIN).await.is_err());
    }
}
