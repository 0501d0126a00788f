//! A loop that blocks on disks, on a thread of its own, which runs only while the task that stands for it waits.
//!
//! In production such a loop has a thread. Here a task has to take its place, yet a flush must take time, in which the
//! other tasks go on and a crash may happen. So the loop keeps a thread, and a baton goes to and fro: the task hands it
//! over to let the loop run on, the loop hands it back when it waits, ends, or passes time in a disk call. One
//! of the two runs at a time, so the order of everything follows from the seed.
//!
//! Lifecycle: made with the future -> polled until the future ends, or dropped: then the loop's thread unwinds from
//! wherever it is.

use ashlar_runtime::BoxedTask;
use std::{
    any::Any,
    cell::{Cell, RefCell},
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    sync::{Arc, Condvar, Mutex, PoisonError},
    task::{Context, Poll, Waker},
    thread::JoinHandle,
    time::Duration,
};
use tokio::time::Instant;

type Panic = Box<dyn Any + Send>;

/// Who has the baton, and what came with it.
enum Baton {
    Loop(Order),
    Task(Stop),
    /// Taken by whoever runs.
    Held,
}

enum Order {
    /// At this time.
    Run(Waker, Instant),
    /// The host is gone.
    Die,
}

enum Stop {
    Waiting,
    Passing(Duration),
    Ended,
    Panicked(Panic),
}

struct Shared {
    baton: Mutex<Baton>,
    passed: Condvar,
}

/// What the loop's thread unwinds with.
struct Died;

thread_local! {
    static CURRENT: RefCell<Option<Arc<Shared>>> = const { RefCell::new(None) };
    static NOW: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Lets simulated time pass in a loop; does nothing elsewhere.
pub(crate) fn pass(duration: Duration) {
    let Some(shared) = CURRENT.with(|current| current.borrow().clone()) else { return };
    if duration.is_zero() || std::thread::panicking() {
        return;
    }
    shared.give(Baton::Task(Stop::Passing(duration)));
    match shared.await_order() {
        Order::Run(_, now) => NOW.with(|present| present.set(Some(now))),
        Order::Die => resume_unwind(Box::new(Died)),
    }
}

/// The present of the loop that runs on this thread; its thread has no runtime to ask. `None` elsewhere.
pub(crate) fn now() -> Option<Instant> {
    NOW.with(Cell::get)
}

impl Shared {
    fn give(&self, baton: Baton) {
        *self.baton.lock().unwrap_or_else(PoisonError::into_inner) = baton;
        self.passed.notify_all();
    }

    fn await_order(&self) -> Order {
        let mut baton = self.baton.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match std::mem::replace(&mut *baton, Baton::Held) {
                Baton::Loop(order) => return order,
                other @ (Baton::Task(_) | Baton::Held) => *baton = other,
            }
            baton = self.passed.wait(baton).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn await_stop(&self) -> Stop {
        let mut baton = self.baton.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match std::mem::replace(&mut *baton, Baton::Held) {
                Baton::Task(stop) => return stop,
                other @ (Baton::Loop(_) | Baton::Held) => *baton = other,
            }
            baton = self.passed.wait(baton).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The loop's thread.
    fn run(self: &Arc<Self>, future: BoxedTask) {
        CURRENT.with(|current| *current.borrow_mut() = Some(Arc::clone(self)));
        let mut future = Some(future);
        loop {
            let Order::Run(waker, now) = self.await_order() else { break };
            NOW.with(|present| present.set(Some(now)));
            let polled = catch_unwind(AssertUnwindSafe(|| {
                let future = future.as_mut().expect("it is there until the loop ends");
                future.as_mut().poll(&mut Context::from_waker(&waker))
            }));
            match polled {
                Ok(Poll::Pending) => self.give(Baton::Task(Stop::Waiting)),
                Ok(Poll::Ready(())) => break,
                Err(panic) if panic.is::<Died>() => break,
                Err(panic) => {
                    self.give(Baton::Task(Stop::Panicked(panic)));
                    return;
                }
            }
        }
        // What the future drops may want to pass time too; nobody is there to let it.
        CURRENT.with(|current| *current.borrow_mut() = None);
        drop(catch_unwind(AssertUnwindSafe(|| drop(future.take()))));
        self.give(Baton::Task(Stop::Ended));
    }
}

/// The task that stands for a loop.
pub(crate) struct Coroutine {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    passing: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Coroutine {
    pub(crate) fn new(name: String, future: BoxedTask) -> Self {
        let shared = Arc::new(Shared { baton: Mutex::new(Baton::Held), passed: Condvar::new() });
        let running = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name(name).spawn(move || running.run(future));
        let thread = Some(thread.expect("the system can start a thread"));
        Self { shared, thread, passing: None }
    }

    fn ended(&mut self) {
        if let Some(thread) = self.thread.take() {
            // It has handed the baton back as its last act; a panic came with it.
            drop(thread.join());
        }
    }
}

impl Future for Coroutine {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // While time passed, what the loop waits for may have happened: it is asked once more before it waits.
        let mut time_passed = false;
        loop {
            if let Some(passing) = &mut self.passing {
                if passing.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                self.passing = None;
                time_passed = true;
            }
            self.shared.give(Baton::Loop(Order::Run(context.waker().clone(), present())));
            match self.shared.await_stop() {
                Stop::Waiting if time_passed => time_passed = false,
                Stop::Waiting => return Poll::Pending,
                Stop::Passing(duration) => self.passing = Some(Box::pin(tokio::time::sleep(duration))),
                Stop::Ended => {
                    self.ended();
                    return Poll::Ready(());
                }
                Stop::Panicked(panic) => {
                    self.ended();
                    resume_unwind(panic);
                }
            }
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "the simulated clock is made from tokio's")]
fn present() -> Instant {
    Instant::now()
}

impl Drop for Coroutine {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.shared.give(Baton::Loop(Order::Die));
            drop(self.shared.await_stop());
            self.ended();
        }
    }
}
