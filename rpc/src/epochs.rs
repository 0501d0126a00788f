//! Which cluster map a node knows, as calls tell each other.
//!
//! A caller that knows a newer map may ask for what this node cannot understand yet: the call waits for the map, which
//! is on its way, rather than being answered by the old one.

use ashlar_types::MapEpoch;
use std::{fmt, future::Future, pin::Pin, sync::Arc};
use tokio::sync::watch;

/// The caller's map, in decimal digits.
pub(crate) const EPOCH_HEADER: &str = "ashlar-map-epoch";

/// The newest map that this node knows. Cheap to clone.
#[derive(Clone)]
pub struct MapEpochs(Arc<dyn Source>);

trait Source: Send + Sync {
    fn current(&self) -> MapEpoch;
    fn reached(&self, epoch: MapEpoch) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

struct Watched<T> {
    map: watch::Receiver<T>,
    epoch_of: fn(&T) -> MapEpoch,
}

impl MapEpochs {
    pub fn of<T: Send + Sync + 'static>(map: watch::Receiver<T>, epoch_of: fn(&T) -> MapEpoch) -> Self {
        Self(Arc::new(Watched { map, epoch_of }))
    }

    pub fn current(&self) -> MapEpoch {
        self.0.current()
    }

    /// Waits until this node knows a map that is not older. The caller sets the deadline.
    pub(crate) async fn reached(&self, epoch: MapEpoch) {
        if self.0.current() < epoch {
            self.0.reached(epoch).await;
        }
    }
}

impl<T: Send + Sync + 'static> Source for Watched<T> {
    fn current(&self) -> MapEpoch {
        (self.epoch_of)(&self.map.borrow())
    }

    fn reached(&self, epoch: MapEpoch) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let (mut map, epoch_of) = (self.map.clone(), self.epoch_of);
        Box::pin(async move {
            // An error means that the node is being stopped: the call ends with it.
            let _ = map.wait_for(|map| epoch_of(map) >= epoch).await.map(|_| ());
        })
    }
}

impl fmt::Debug for MapEpochs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MapEpochs").field(&self.current()).finish()
    }
}
