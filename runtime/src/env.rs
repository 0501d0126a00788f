//! Everything a node takes from outside, in one value.

use crate::{Clock, Disk, Net, RealClock, RealDisk, RealNet, RealRng, Rng, Tasks};
use std::sync::Arc;

/// Cheap to clone; handed to `Node::start` and from there to every part.
#[derive(Clone, Debug)]
pub struct Env {
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
    pub tasks: Tasks,
    pub disk: Arc<dyn Disk>,
    pub net: Arc<dyn Net>,
}

impl Env {
    /// The machine itself.
    pub fn real() -> Self {
        Self {
            clock: Arc::new(RealClock::new()),
            rng: Arc::new(RealRng),
            tasks: Tasks::real(),
            disk: Arc::new(RealDisk),
            net: Arc::new(RealNet),
        }
    }
}
