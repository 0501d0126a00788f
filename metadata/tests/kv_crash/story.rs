//! Crash after crash of one store, and what must be there after each.

use super::{
    child::{self, DURABLE, FAILED, Honesty, OPTIONS, PROCESS, TRYING},
    history::{Life, Random, Rows, apply, dump, position},
};
use ashlar_metadata::kv::FjallKv;
use ashlar_runtime::{Env, RngExt};
use std::{
    ffi::OsString,
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
};

const CRASHES: u64 = 6;

/// How many crashes a story has: `usual`, unless the environment says otherwise.
pub(crate) fn crashes(usual: Option<u64>) -> u64 {
    std::env::var("ASHLAR_KV_CRASHES").map_or(usual.unwrap_or(CRASHES), |text| {
        text.parse().expect("ASHLAR_KV_CRASHES is a number of crashes")
    })
}

/// One directory over many lives of the process.
pub(crate) struct Story {
    dir: PathBuf,
    pub(crate) random: Random,
    seed: u64,
    rows: Rows,
    /// The step that `rows` stand at.
    position: u64,
    life: Life,
    /// The last step that the process said was durable.
    durable: u64,
    tried: u64,
    /// Crashes, steps that they left, steps that they took.
    counts: (u64, u64, u64),
}

/// What a life of the process said, once it is over.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) failed: Option<String>,
    /// It ended by itself.
    pub(crate) ended: bool,
}

impl Story {
    pub(crate) fn begin(dir: PathBuf) -> Self {
        let seed = std::env::var("ASHLAR_KV_CRASH_STORY")
            .map_or_else(|_| Env::real().rng.u64(), |text| text.parse().expect("a seed"));
        Self {
            dir,
            random: Random(seed),
            seed,
            rows: Rows::new(),
            position: 0,
            life: Life { seed },
            durable: 0,
            tried: 0,
            counts: (0, 0, 0),
        }
    }

    /// Starts the process, perhaps as an argument of another program.
    pub(crate) fn start(&mut self, honesty: Honesty, under: &[OsString]) -> Running {
        self.life = Life { seed: self.random.next() };
        (self.durable, self.tried) = (self.position, self.position);
        let (arguments, environment) = child::command(&self.dir, self.life, honesty);
        let line: Vec<OsString> = under.iter().cloned().chain(arguments).collect();
        let mut process = Command::new(&line[0])
            .args(&line[1..])
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap());
        Running { process, lines, writer: None }
    }

    /// Hears the process until it has said so many times that steps are durable, or it ends.
    pub(crate) fn hear(&mut self, running: &mut Running, durable: u64) -> Said {
        let (mut heard, mut said) = (0, Said::default());
        let mut line = String::new();
        while heard < durable {
            line.clear();
            running.lines.read_line(&mut line).unwrap();
            // A line that the kill cut short says nothing.
            let Some(text) = line.strip_suffix('\n') else {
                said.ended = true;
                break;
            };
            if let Some(number) = text.strip_prefix(DURABLE) {
                self.durable = number.parse().unwrap();
                heard += 1;
            } else if let Some(number) = text.strip_prefix(TRYING) {
                self.tried = number.parse().unwrap();
            } else if let Some(number) = text.strip_prefix(PROCESS) {
                running.writer = Some(number.to_owned());
            } else if let Some(error) = text.strip_prefix(FAILED) {
                said.failed = Some(error.to_owned());
            }
        }
        said
    }

    /// Opens the store and holds it against the history. `Err` says what is wrong.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        let kv = FjallKv::open(&self.dir, OPTIONS).map_err(|error| format!("does not open: {error:?}"))?;
        let position = position(&kv);
        if position < self.durable {
            return Err(format!("stands at {position}, but {} was flushed", self.durable));
        }
        if position > self.tried {
            return Err(format!("stands at {position}, but only {} was tried", self.tried));
        }
        for number in self.position + 1..=position {
            apply(&mut self.rows, self.life.step(number));
        }
        let found = dump(&kv);
        let differs = |(key, value): &(&(_, Vec<u8>), &Vec<u8>)| found.get(*key) != Some(*value);
        if let Some((key, _)) = self.rows.iter().find(differs) {
            let number = |rows: &Rows| {
                rows.get(key).and_then(|value| value.first_chunk().copied()).map(u64::from_be_bytes)
            };
            let (is, should) = (number(&found), number(&self.rows));
            return Err(format!("at {position}: row {key:?} is of step {is:?}, not {should:?}"));
        }
        if let Some(key) = found.keys().find(|key| !self.rows.contains_key(*key)) {
            return Err(format!("at {position}: row {key:?} is back"));
        }
        self.counts.0 += 1;
        self.counts.1 += position - self.position;
        self.counts.2 += self.tried - position;
        self.position = position;
        Ok(())
    }

    pub(crate) fn must_be_whole(&mut self, context: &str) {
        if let Err(wrong) = self.check() {
            let (seed, crash) = (self.seed, self.counts.0 + 1);
            panic!("{context}, crash {crash} of ASHLAR_KV_CRASH_STORY={seed}: {wrong}");
        }
    }

    pub(crate) fn report(&self, name: &str) {
        let (crashes, kept, lost) = self.counts;
        say(&format!(
            "{name}: {crashes} crashes, {kept} batches were there, {lost} were not and had not been flushed"
        ));
    }
}

/// A life of the process.
pub(crate) struct Running {
    process: Child,
    lines: BufReader<ChildStdout>,
    /// Number of the process that writes, once it has said so: not `process` if that one traces it.
    writer: Option<String>,
}

impl Running {
    /// A process whose tracer is killed would go on, and one that is killed ends its tracer.
    pub(crate) fn kill(&mut self) {
        if let Some(writer) = self.writer.take()
            && self.process.try_wait().is_ok_and(|ended| ended.is_none())
        {
            // It may have ended meanwhile.
            let _ = Command::new("kill").args(["-KILL", &writer]).output();
        } else {
            let _ = self.process.kill();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
        // Nothing can be done about one that cannot be waited for.
        let _ = self.process.wait();
    }
}

/// Past the capture of libtest. Nothing is lost if nobody listens.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
