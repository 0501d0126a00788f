//! A file system whose power can be cut.
//!
//! ```text
//! drive/         the file system under test
//!   loop         its device; a flush of it is an fsync of `device.img`
//!     outer/device.img   what the device was asked to write is in this file's page cache: the device's cache
//!       outer/           ext4, which keeps what was flushed when it is shut down
//!         loop
//!           outer.img
//! ```
//! The nesting is there because a shutdown of the file system under test alone would keep every write that reached the
//! device: with direct I/O that is every write, flushed or not.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// The file system under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileSystem {
    Ext4,
    Xfs,
}

/// What is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// What the kernel had not sent to the device. The device keeps what it got, flushed or not, so that less
    /// than a batch may be there.
    Kernel,
    /// That, and what the device had not been told to flush.
    Device,
}

/// `EXT4_IOC_SHUTDOWN` and `XFS_IOC_GOINGDOWN`, one number, with the flag that leaves the journal unwritten, one value too: from
/// this moment no write reaches the device (linux/fs/ext4/ext4.h, linux/fs/xfs/libxfs/xfs_fs.h).
const INTERPRETERS: [(&str, &str, &str); 2] = [
    (
        "perl",
        "-e",
        "open(F, '<', $ARGV[0]) or die $!; my $f = pack('L', 2); ioctl(F, 0x8004587d, $f) or die $!",
    ),
    (
        "python3",
        "-c",
        "import fcntl,os,struct,sys; fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))",
    ),
];

/// A little over the least that XFS can be made of.
const DEVICE_LEN: usize = 320 << 20;
const OUTER_LEN: u64 = 448 << 20;
/// A loop device lets go of its file a moment after its unmount. Each attempt runs a program, so this is a second
/// at least.
const UNMOUNT_ATTEMPTS: usize = 1000;

/// Unmounted and removed when dropped.
#[derive(Debug)]
pub(crate) struct Volume {
    dir: TempDir,
    interpreter: &'static (&'static str, &'static str, &'static str),
}

impl FileSystem {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }

    /// The device is in cache as it was written with zeros: discarding them would give its blocks back.
    fn make_on(self, device: &Path) -> io::Result<()> {
        match self {
            Self::Ext4 => {
                run("mkfs.ext4", &["-q".as_ref(), "-E".as_ref(), "nodiscard".as_ref(), device.as_ref()])
            }
            Self::Xfs => run("mkfs.xfs", &["-q".as_ref(), "-K".as_ref(), device.as_ref()]),
        }
    }
}

impl Volume {
    /// An error is a reason to skip: this machine cannot do it.
    pub(crate) fn make(file_system: FileSystem) -> io::Result<Self> {
        if Command::new("id").arg("-u").output()?.stdout.trim_ascii() != b"0" {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "not root"));
        }
        let works = |(program, ..): &&(&str, &str, &str)| {
            Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
        };
        let interpreter = INTERPRETERS
            .iter()
            .find(works)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "neither perl nor python3"))?;
        let volume = Self { dir: tempfile::Builder::new().prefix("ashlar-power-").tempdir()?, interpreter };
        fs::create_dir(volume.outer())?;
        fs::create_dir(volume.path())?;
        File::create(volume.outer_image())?.set_len(OUTER_LEN)?;
        run("mkfs.ext4", &["-q".as_ref(), volume.outer_image().as_ref()])?;
        attach(&volume.outer_image(), &volume.outer())?;
        // Written in full, so that a flush of the device never depends on the metadata of the file behind it.
        let mut device = File::create(volume.device_image())?;
        let zeros = vec![0; 1 << 20];
        for _ in 0..DEVICE_LEN / zeros.len() {
            device.write_all(&zeros)?;
        }
        device.sync_all()?;
        file_system.make_on(&volume.device_image())?;
        device.sync_all()?;
        drop(device);
        attach(&volume.device_image(), &volume.path())?;
        Ok(volume)
    }

    /// Where the file system under test is.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("drive")
    }

    fn outer(&self) -> PathBuf {
        self.dir.path().join("outer")
    }

    fn outer_image(&self) -> PathBuf {
        self.dir.path().join("outer.img")
    }

    fn device_image(&self) -> PathBuf {
        self.outer().join("device.img")
    }

    /// From now on nothing becomes durable.
    pub(crate) fn cut(&self, cut: Cut) -> io::Result<()> {
        match cut {
            Cut::Kernel => self.shut_down(&self.path()),
            Cut::Device => {
                self.shut_down(&self.outer())?;
                // So that nothing waits for the dead device; XFS may have found out and done so itself.
                let _ = self.shut_down(&self.path());
                Ok(())
            }
        }
    }

    fn shut_down(&self, mount: &Path) -> io::Result<()> {
        let (program, flag, script) = self.interpreter;
        run(program, &[flag.as_ref(), script.as_ref(), mount.as_ref()])
    }

    /// The power is back: caches are empty, and the kernel replays its journals. Nothing may be open in the volume.
    pub(crate) fn restore(&self) -> io::Result<()> {
        unmount(&self.path())?;
        unmount(&self.outer())?;
        attach(&self.outer_image(), &self.outer())?;
        attach(&self.device_image(), &self.path())
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // Lazily, so that a store that a panic left open does not keep the mounts in the tree.
        for mount in [self.path(), self.outer()] {
            let _ = Command::new("umount").arg("-l").arg(&mount).output();
        }
    }
}

fn attach(image: &Path, mount: &Path) -> io::Result<()> {
    run("mount", &["-o".as_ref(), "loop".as_ref(), image.as_ref(), mount.as_ref()])
}

fn unmount(mount: &Path) -> io::Result<()> {
    let mut attempts = 1..=UNMOUNT_ATTEMPTS;
    loop {
        match run("umount", &[mount.as_ref()]) {
            Err(_) if attempts.next().is_some() => {}
            outcome => return outcome,
        }
    }
}

fn run(program: &str, args: &[&OsStr]) -> io::Result<()> {
    let output = Command::new(program)
        .args(args)
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("cannot run {program}: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{program} failed ({}): {}", output.status, said.trim())))
}
