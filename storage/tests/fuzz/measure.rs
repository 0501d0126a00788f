//! What a call takes: memory and time.
#![allow(unsafe_code, reason = "an allocator that counts is an unsafe trait over the system's")]

use ashlar_runtime::{Clock, RealClock};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::LazyLock,
    time::Duration,
};

/// Memory that one call may hold at once.
pub(crate) const BYTES_MAX: usize = 64 << 20;
pub(crate) const TIME_MAX: Duration = Duration::from_secs(1);

static CLOCK: LazyLock<RealClock> = LazyLock::new(RealClock::new);

thread_local! {
    /// Bytes that this thread took and did not give back since the call began; what others gave it counts below zero.
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
    /// The case that runs.
    static CASE: Cell<u64> = const { Cell::new(0) };
}

/// Beyond this an allocation is refused, which ends the process: it says which case it was before.
const REFUSED: usize = 4 << 30;

/// Counts what each thread takes.
#[derive(Debug)]
pub(crate) struct Counting;

fn count(change: isize) {
    // A thread that ends allocates after its cells are gone; that is nobody's call.
    let held = HELD.try_with(|held| {
        held.set(held.get().saturating_add(change));
        held.get()
    });
    if let Ok(held) = held {
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held)));
    }
}

/// Which case runs on this thread from now on.
pub(crate) fn mark(case: u64) {
    CASE.set(case);
}

/// Null stands for memory that is not there.
fn is_refused(size: usize) -> bool {
    if size > REFUSED {
        let case = CASE.try_with(Cell::get).unwrap_or(0);
        eprintln!("case {case} asked for {size} bytes of memory at once");
    }
    size > REFUSED
}

fn signed(size: usize) -> isize {
    isize::try_from(size).unwrap_or(isize::MAX)
}

// SAFETY: every call is handed on as it came; the counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_refused(layout.size()) {
            return std::ptr::null_mut();
        }
        count(signed(layout.size()));
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_refused(layout.size()) {
            return std::ptr::null_mut();
        }
        count(signed(layout.size()));
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if is_refused(size) {
            return std::ptr::null_mut();
        }
        // Both pieces may exist at once.
        count(signed(size));
        // SAFETY: the caller's promise.
        let moved = unsafe { System.realloc(pointer, layout, size) };
        count(-signed(layout.size()));
        moved
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-signed(layout.size()));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

pub(crate) fn now() -> Duration {
    CLOCK.monotonic()
}

/// Makes a call twice if it was slow, so that another process's load is not taken for its own slowness.
pub(crate) fn bounded<T>(what: &str, call: impl Fn() -> T) -> Result<T, String> {
    let mut took = Duration::MAX;
    for _ in 0..3 {
        let before = HELD.get();
        PEAK.set(before);
        let began = now();
        let outcome = call();
        took = now().saturating_sub(began);
        let peak = PEAK.get().saturating_sub(before);
        if peak > signed(BYTES_MAX) {
            return Err(format!("{what} held {peak} bytes of memory at once"));
        }
        if took <= TIME_MAX {
            return Ok(outcome);
        }
    }
    Err(format!("{what} took {took:?}"))
}
