//! The only door to the outside world: time, randomness, tasks, disks and sockets, as traits with a real
//! implementation here and a simulated one in `sim`.
//!
//! Nothing is process-global: an [`Env`] is handed to whoever needs it, so several nodes fit in one process.

pub mod budget;
pub mod buf;
pub mod clock;
pub mod disk;
pub mod env;
pub mod net;
pub mod rng;
pub mod sync;
pub mod task;

pub use budget::{ByteBudget, Reservation};
pub use buf::AlignedBuf;
pub use clock::{Clock, ClockExt, Elapsed, RealClock};
pub use disk::{Disk, DiskFile, DiskUsage, OpenMode, RealDisk, SimDisk};
pub use env::Env;
pub use net::{Connection, Listener, Net, RealNet};
pub use rng::{RealRng, Rng, RngExt};
pub use task::{BoxedTask, Pool, Spawner, TaskHandle, TaskSet, Tasks, WorkerHandle};
