//! Waiting for a condition, never for a time.

use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// How often a condition is looked at. Short against anything that is waited for, long against a probe that
/// starts a process.
const INTERVAL: Duration = Duration::from_millis(25);

/// What a look at a condition found.
pub enum Probe<T> {
    Done(T),
    /// Why not; the last one is told when the deadline passes.
    NotYet(String),
}

/// Looks until the condition holds or `within` has passed. An error of the probe is final.
pub async fn until<T>(
    what: &str,
    within: Duration,
    mut probe: impl AsyncFnMut() -> Result<Probe<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        let reason = match probe().await? {
            Probe::Done(value) => return Ok(value),
            Probe::NotYet(reason) => reason,
        };
        if start.elapsed() >= within {
            bail!("waited {within:?} for {what}; it still says: {reason}");
        }
        pause().await;
    }
}

/// What a client leaves a cluster that did not answer before it tries again: without it, a few writers would take
/// the processor from an election.
pub async fn pause() {
    tokio::time::sleep(INTERVAL).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_condition_is_waited_for_and_a_deadline_tells_the_last_reason() {
        let mut looks = 0;
        let third = async || {
            looks += 1;
            Ok(if looks == 3 { Probe::Done(looks) } else { Probe::NotYet("early".into()) })
        };
        assert_eq!(until("the third look", Duration::from_secs(60), third).await.unwrap(), 3);

        let never = async || Ok(Probe::<()>::NotYet("the tide is out".into()));
        let error = until("the tide", Duration::from_millis(1), never).await.unwrap_err().to_string();
        assert!(error.contains("for the tide") && error.contains("the tide is out"), "{error}");
    }
}
