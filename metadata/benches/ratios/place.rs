//! Where files are made, and on what machine.

use crate::line::note;
use anyhow::{Context, Result, ensure};
use ashlar_runtime::{Disk, RealDisk};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// File systems that have no device.
const IN_MEMORY: [&str; 3] = ["tmpfs", "ramfs", "rootfs"];
/// More than any line needs.
const NEEDED_BYTES: u64 = 12 << 30;

/// A directory on a real file system; gone when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    dir: TempDir,
    file_system: String,
}

impl Place {
    pub(crate) fn find() -> Result<Self> {
        let parent = std::env::var_os("ASHLAR_BENCH_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
        fs::create_dir_all(&parent).with_context(|| parent.display().to_string())?;
        let file_system = file_system_of(&parent)?;
        ensure!(
            !IN_MEMORY.contains(&file_system.as_str()),
            "{} is on {file_system}, where nothing is ever durable; set ASHLAR_BENCH_DIR to a directory on a device",
            parent.display()
        );
        let free = RealDisk.usage(&parent)?.available_bytes;
        ensure!(
            free >= NEEDED_BYTES,
            "{} has {free} bytes free, {NEEDED_BYTES} are needed",
            parent.display()
        );
        let dir = tempfile::Builder::new().prefix("ashlar-metadata-ratios-").tempdir_in(&parent)?;
        Ok(Self { dir, file_system })
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn describe(&self) {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let cpu = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        let kernel = read("/proc/sys/kernel/osrelease");
        let load = read("/proc/loadavg");
        note(format_args!(
            "machine: {}, {cores} cores, Linux {}, {} at {}, load before {}",
            cpu.trim_start_matches([' ', '\t', ':']),
            kernel.trim(),
            self.file_system,
            self.path().display(),
            load.split(' ').next().unwrap_or_default(),
        ));
        if cfg!(debug_assertions) {
            note("built without optimisation: what is said about CPU and latency means little");
        }
    }
}

/// Type of the file system that holds a directory: of the deepest mount point above it, the last mounted there.
fn file_system_of(dir: &Path) -> Result<String> {
    let dir = dir.canonicalize()?;
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (mount, file_system) = (Path::new(fields.next()?), fields.next()?);
        dir.starts_with(mount).then(|| (mount.as_os_str().len(), file_system.to_owned()))
    });
    let (_, file_system) = mounts.max_by_key(|(depth, _)| *depth).context("no file system is mounted")?;
    Ok(file_system)
}
