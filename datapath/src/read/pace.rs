//! How long a drive may take before a read asks others.

use std::time::Duration;

/// Latest units that the median is taken of.
const WINDOW: usize = 32;

/// Latencies of the units that one read has fetched.
#[derive(Debug)]
pub(crate) struct Pace {
    min: Duration,
    factor: u32,
    recent: Vec<Duration>,
    next: usize,
}

impl Pace {
    pub(crate) fn new(min: Duration, factor: u32) -> Self {
        Self { min, factor, recent: Vec::with_capacity(WINDOW), next: 0 }
    }

    pub(crate) fn record(&mut self, latency: Duration) {
        match self.recent.get_mut(self.next) {
            Some(oldest) => *oldest = latency,
            None => self.recent.push(latency),
        }
        self.next = (self.next + 1) % WINDOW;
    }

    /// Waiting longer than this for one unit is worth reading others in its place.
    pub(crate) fn limit(&self) -> Duration {
        let mut sorted = self.recent.clone();
        sorted.sort_unstable();
        let median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
        self.min.max(median.saturating_mul(self.factor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_follows_the_latest_units_and_never_falls_below_the_minimum() {
        let ms = Duration::from_millis;
        let mut pace = Pace::new(ms(200), 5);
        assert_eq!(pace.limit(), ms(200));
        (0..WINDOW).for_each(|_| pace.record(ms(1)));
        assert_eq!(pace.limit(), ms(200));
        (0..WINDOW).for_each(|_| pace.record(ms(100)));
        assert_eq!(pace.limit(), ms(500));
        (0..WINDOW).for_each(|_| pace.record(ms(2)));
        assert_eq!(pace.limit(), ms(200));
    }
}
