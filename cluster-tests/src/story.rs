//! The frame around a story: its turn on the machine, its directory, its seed, and what is told when it fails.

use crate::{binary, process::tail, random::Random};
use anyhow::{Result, anyhow};
use std::{
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;
use tokio::sync::Semaphore;

/// A cluster of six fills a small machine: two at a time would only time each other out.
static TURN: Semaphore = Semaphore::const_new(1);

/// A story that takes longer hangs: the longest one takes a minute on two cores.
const STORY_WITHIN: Duration = Duration::from_secs(300);

/// Without `ASHLAR_SEED`.
const SEED_DEFAULT: u64 = 1;

pub struct Story {
    name: &'static str,
    seed: u64,
    /// Removed when the story ends well, kept when it fails.
    dir: Option<TempDir>,
}

/// Runs a story when its turn has come. Panics with all that is needed to look into a failure.
pub async fn tell(name: &'static str, plot: impl AsyncFnOnce(&Story) -> Result<()>) {
    let _turn = TURN.acquire().await.expect("the semaphore is never closed");
    // Outside of the story's time: the first one of a process waits for the compiler.
    if let Err(error) = binary::ashlar() {
        panic!("{name}: {error:#}");
    }
    let story = Story::new(name);
    let told = match Box::pin(tokio::time::timeout(STORY_WITHIN, plot(&story))).await {
        Ok(told) => told,
        Err(_) => Err(anyhow!("it did not end within {STORY_WITHIN:?}")),
    };
    if let Err(error) = told {
        // Dropping the story tells the rest.
        panic!("{name}: {error:#}");
    }
}

/// Tells that a story cannot be told here. Written past the test harness, which swallows what passing tests print.
pub fn skip(name: &str, reason: &str) {
    // Nothing is lost if standard error is closed: there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "SKIP {name}: {reason}");
}

impl Story {
    fn new(name: &'static str) -> Self {
        let seed = std::env::var("ASHLAR_SEED").map_or(SEED_DEFAULT, |text| {
            text.parse().expect("ASHLAR_SEED is a number without a sign, in decimal")
        });
        let dir =
            tempfile::Builder::new().prefix("ashlar-").tempdir().expect("a temporary directory can be made");
        Self { name, seed, dir: Some(dir) }
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    pub fn dir(&self) -> &Path {
        self.dir.as_ref().expect("there until the story is dropped").path()
    }

    /// The choices of this story.
    pub fn random(&self) -> Random {
        Random::new(self.seed)
    }
}

impl Drop for Story {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let Some(dir) = self.dir.take() else { return };
        let dir = dir.keep();
        let mut text = format!(
            "\nrepeat: ASHLAR_SEED={} cargo test -p ashlar-cluster-tests --test stories -- --exact {}\n\
             directories and logs of its nodes: {}\n",
            self.seed,
            self.name,
            dir.display()
        );
        for log in logs(&dir) {
            text.push_str(&format!("--- end of {}\n{}\n", log.display(), tail(&log)));
        }
        eprintln!("{text}");
    }
}

/// Every node writes its log at most one directory below the story's.
fn logs(dir: &Path) -> Vec<PathBuf> {
    let entries = |dir: &Path| {
        std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let mut logs: Vec<PathBuf> = entries(dir)
        .into_iter()
        .flat_map(|path| if path.is_dir() { entries(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    logs.sort();
    logs
}
