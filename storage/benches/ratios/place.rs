//! Where files are made, and on what machine.

use crate::{Effort, row::note};
use anyhow::{Context, Result, bail, ensure};
use ashlar_runtime::{Disk, RealDisk};
use std::{
    ffi::OsStr,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// File systems that have no device.
const IN_MEMORY: [&str; 3] = ["tmpfs", "ramfs", "rootfs"];
/// Of what is written besides the loop device: bytes of a round, so many times.
const ROUNDS_KEPT: u64 = 8;

/// A directory on a real file system; gone when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    dir: TempDir,
    pub(crate) file_system: String,
}

impl Place {
    pub(crate) fn find(effort: &Effort) -> Result<Self> {
        let parent = std::env::var_os("ASHLAR_BENCH_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
        fs::create_dir_all(&parent).with_context(|| parent.display().to_string())?;
        let file_system = file_system_of(&parent)?;
        if IN_MEMORY.contains(&file_system.as_str()) {
            bail!(
                "{} is on {file_system}, where nothing is ever durable; set ASHLAR_BENCH_DIR to a directory on a device",
                parent.display()
            );
        }
        let (needed, free) =
            (effort.image_bytes + ROUNDS_KEPT * effort.round_bytes, RealDisk.usage(&parent)?.available_bytes);
        ensure!(free >= needed, "{} has {free} bytes free, {needed} are needed", parent.display());
        let dir = tempfile::Builder::new().prefix("ashlar-ratios-").tempdir_in(&parent)?;
        Ok(Self { dir, file_system })
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn describe(&self, effort: &Effort) {
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
        note(format_args!("{effort:?}"));
        if cfg!(debug_assertions) {
            note("built without optimisation: what is said about CPU means nothing");
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

/// XFS on a loop device over a file that was written in full, past the page cache.
#[derive(Debug)]
pub(crate) struct LoopXfs {
    device: String,
    mount: PathBuf,
    image: PathBuf,
}

impl LoopXfs {
    /// An error is a reason to skip.
    pub(crate) fn make(place: &Place, bytes: u64) -> Result<Self> {
        ensure!(run("id", &["-u".as_ref()])? == "0", "not root");
        run("mkfs.xfs", &["-V".as_ref()])?;
        let (image, mount) = (place.path().join("xfs.img"), place.path().join("xfs"));
        // Holes would be filled, through the file system below, by whoever writes there first.
        let (mut file, zeros) = (File::create(&image)?, vec![0; 4 << 20]);
        for _ in 0..bytes / zeros.len() as u64 {
            file.write_all(&zeros)?;
        }
        file.sync_all()?;
        drop(file);
        fs::create_dir(&mount)?;
        let losetup = ["--find", "--show", "--direct-io=on"].map(OsStr::new);
        let device = run("losetup", &[&losetup[..], &[image.as_ref()]].concat())?;
        let this = Self { device, mount, image };
        run("mkfs.xfs", &["-q".as_ref(), "-K".as_ref(), this.device.as_ref()])?;
        run("mount", &[this.device.as_ref(), this.mount.as_ref()])?;
        Ok(this)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.mount
    }
}

impl Drop for LoopXfs {
    fn drop(&mut self) {
        // Lazily, so that a file left open by a failure does not keep the mount in the tree.
        let _ = Command::new("umount").arg("-l").arg(&self.mount).output();
        let _ = Command::new("losetup").arg("-d").arg(&self.device).output();
        let _ = fs::remove_file(&self.image);
    }
}

/// What the program printed.
fn run(program: &str, args: &[&OsStr]) -> Result<String> {
    let output =
        Command::new(program).args(args).output().with_context(|| format!("cannot run {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} failed ({}): {}", output.status, said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
