//! SIGKILL: at any moment, and at the nth system call of a kind.

use super::{
    child::Honesty,
    story::{Story, crashes, say},
};
use std::{ffi::OsString, process::Command};

/// Kinds of system calls, and about how many of each a short life makes on one thread.
const CALLS: [(&str, u64); 6] = [
    ("write", 900),
    ("fsync,fdatasync", 30),
    ("openat", 120),
    ("rename,renameat,renameat2", 12),
    ("unlink,unlinkat", 12),
    ("ftruncate", 4),
];
/// A life that the call does not end is ended after so many flushes.
const FLUSHES: u64 = 60;

#[test]
fn a_process_killed_at_any_moment_leaves_a_prefix_of_its_batches() {
    let dir = tempfile::tempdir().unwrap();
    let mut story = Story::begin(dir.path().join("kv"));
    for _ in 0..crashes(None) {
        let flushes = 1 + story.random.below(FLUSHES);
        let mut running = story.start(Honesty::Flushes, &[]);
        let said = story.hear(&mut running, flushes);
        assert_eq!(said.failed, None);
        running.kill();
        story.hear(&mut running, u64::MAX);
        drop(running);
        story.must_be_whole("killed");
    }
    story.report("a_process_killed_at_any_moment_leaves_a_prefix_of_its_batches");
}

#[test]
fn a_process_killed_at_a_system_call_leaves_a_prefix_of_its_batches() {
    let name = "a_process_killed_at_a_system_call_leaves_a_prefix_of_its_batches";
    let works = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).output();
    if !works.is_ok_and(|output| output.status.success()) {
        say(&format!("SKIP {name}: strace cannot trace here"));
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut story = Story::begin(dir.path().join("kv"));
    let mut by_call = 0;
    let crashes = crashes(Some(12));
    for crash in 0..crashes {
        let (calls, most) = CALLS[usize::try_from(crash % CALLS.len() as u64).unwrap()];
        let nth = 1 + story.random.below(most);
        let under = ["strace", "-f", "-q", "-o", "/dev/null", "-e", &format!("trace={calls}"), "-e"]
            .into_iter()
            .map(OsString::from)
            .chain([format!("inject={calls}:signal=KILL:when={nth}").into()])
            .collect::<Vec<_>>();
        let mut running = story.start(Honesty::Flushes, &under);
        let said = story.hear(&mut running, FLUSHES);
        assert_eq!(said.failed, None, "{calls} {nth}");
        by_call += u64::from(said.ended);
        running.kill();
        story.hear(&mut running, u64::MAX);
        drop(running);
        story.must_be_whole(&format!("killed at {calls} {nth}"));
    }
    story.report(name);
    assert!(by_call * 3 >= crashes, "only {by_call} of {crashes} were killed by a call");
    say(&format!("{name}: {by_call} of {crashes} were killed by a call"));
}
