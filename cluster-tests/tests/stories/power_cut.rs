//! The file system under a node is shut down without flushing, as a power cut would, while clients write. Whatever
//! was acknowledged is there afterwards: this proves flushing.
//!
//! Needs root, a loop mount of ext4 and an interpreter for the one ioctl; skips loudly without them.

use anyhow::{Context, Result, bail, ensure};
use ashlar_cluster_tests::{
    client::{self, Answer, get, put},
    content::Content,
    dev::Dev,
    ledger::Ledger,
    process::Signal,
    random::Random,
    story::{Story, skip},
    until::{Probe, pause, until},
    workers,
};
use aws_sdk_s3::Client;
use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinSet;

const BUCKET: &str = "power-cut";
const CUTS: usize = 3;
const WRITERS: usize = 4;
const KEYS_PER_WRITER: u64 = 10;
const SIZES: [u64; 4] = [600, 9 << 10, 70 << 10, 600 << 10];
const UNFLUSHED: &[u8] = b"only in memory";
const ACKED_KEYS: usize = 25;
const PROGRESS_WITHIN: Duration = Duration::from_secs(60);
const IMAGE_LEN: u64 = 4 << 30;

/// `EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`: from this moment no write reaches the device, and what
/// was only in memory is gone at the next mount (linux/fs/ext4/ext4.h).
const SHUTDOWN: [(&str, &str); 2] = [
    ("perl", "open(F, '<', $ARGV[0]) or die $!; my $f = pack('L', 2); ioctl(F, 0x8004587d, $f) or die $!"),
    (
        "python3",
        "import fcntl,os,struct,sys; fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))",
    ),
];

/// A loop-mounted ext4, unmounted when dropped.
struct Volume {
    image: PathBuf,
    mount: PathBuf,
    interpreter: &'static (&'static str, &'static str),
}

pub(crate) async fn told(story: &Story) -> Result<()> {
    let volume = match Volume::make(story.dir()) {
        Ok(volume) => volume,
        Err(reason) => {
            skip(story.name(), &format!("{reason:#}"));
            return Ok(());
        }
    };
    let mut random = story.random();
    let dev = Dev::prepare(volume.mount.join("data"), &story.dir().join("dev"), 1, &[])?;
    let ledger = Arc::new(Ledger::default());
    for cut in 0..CUTS {
        let running = dev.start().await.with_context(|| format!("after {cut} cuts"))?;
        if cut == 0 {
            client::create_bucket(&running.client()?, BUCKET).await?;
        }
        check_ledger(&ledger, &running.client()?).await.with_context(|| format!("after {cut} cuts"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut writers = JoinSet::new();
        for n in 0..WRITERS {
            let client = running.exact_client()?;
            writers.spawn(write(cut, n, client, Arc::clone(&ledger), Arc::clone(&stop), random.fork()));
        }
        let goal = ACKED_KEYS * (cut + 1);
        until("acknowledged writes", PROGRESS_WITHIN, async || {
            let acked = ledger.acked_count();
            Ok(if acked >= goal { Probe::Done(()) } else { Probe::NotYet(format!("{acked} keys are")) })
        })
        .await?;
        // What nobody flushed must be gone, or the cut was none. Its name may survive: the writers' flushes commit the
        // journal they share. A name of its own for each cut, because ext4 flushes a file that replaces its contents.
        let unflushed = volume.mount.join(format!("unflushed-{cut}"));
        std::fs::write(&unflushed, UNFLUSHED)?;
        stop.store(true, Ordering::SeqCst);
        volume.shut_down()?;
        running.kill().await?;
        workers::join_all(writers).await?;
        volume.remount()?;
        let left = std::fs::read(&unflushed).unwrap_or_default();
        ensure!(left != UNFLUSHED, "unflushed bytes survived: this was no power cut");
    }
    let running = dev.start().await.context("after the last cut")?;
    check_ledger(&ledger, &running.client()?).await.context("after the last cut")?;
    running.stop(Signal::Term).await
}

/// Overwrites its own keys until it fails after the cut.
async fn write(
    cut: usize,
    writer: usize,
    client: Client,
    ledger: Arc<Ledger>,
    stop: Arc<AtomicBool>,
    mut random: Random,
) -> Result<()> {
    loop {
        let key = format!("{cut}/{writer}/{}", random.below(KEYS_PER_WRITER));
        let content = Content::new(random.next(), random.pick(&SIZES));
        match put(&client, BUCKET, &key, content).await? {
            Answer::Acked(()) => ledger.acked(BUCKET, &key, content),
            Answer::Unknown(_) => {
                ledger.unknown(BUCKET, &key, content);
                if stop.load(Ordering::SeqCst) {
                    return Ok(());
                }
                pause().await;
            }
            other @ (Answer::Refused | Answer::Absent) => bail!("putting {key}: {other:?}"),
        }
    }
}

async fn check_ledger(ledger: &Ledger, client: &Client) -> Result<()> {
    let client = client.clone();
    workers::for_each(ledger.records(), WRITERS, move |((bucket, key), record)| {
        let client = client.clone();
        async move {
            let sent = get(&client, &bucket, &key).await?.found().with_context(|| key.clone())?;
            record.check(sent.as_ref()).context(key)
        }
    })
    .await
}

fn run(program: &str, args: &[&std::ffi::OsStr]) -> Result<()> {
    let output =
        Command::new(program).args(args).output().with_context(|| format!("cannot run {program}"))?;
    ensure!(
        output.status.success(),
        "{program} failed ({}): {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

impl Volume {
    fn make(dir: &Path) -> Result<Self> {
        let user = Command::new("id").arg("-u").output().context("cannot run id")?;
        ensure!(user.stdout.trim_ascii() == b"0", "not root");
        let works = |(program, _): &&(&str, &str)| {
            Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
        };
        let interpreter = SHUTDOWN.iter().find(works).context("neither perl nor python3")?;
        let volume = Self { image: dir.join("image"), mount: dir.join("mount"), interpreter };
        std::fs::create_dir(&volume.mount)?;
        std::fs::File::create(&volume.image)?.set_len(IMAGE_LEN)?;
        run("mkfs.ext4", &["-q".as_ref(), volume.image.as_ref()])?;
        volume.attach()?;
        Ok(volume)
    }

    fn attach(&self) -> Result<()> {
        run("mount", &["-o".as_ref(), "loop".as_ref(), self.image.as_ref(), self.mount.as_ref()])
    }

    fn shut_down(&self) -> Result<()> {
        let (program, script) = self.interpreter;
        let flag = if *program == "perl" { "-e" } else { "-c" };
        run(program, &[flag.as_ref(), script.as_ref(), self.mount.as_ref()])
    }

    /// The kernel replays its journal at the mount, as after a power cut.
    fn remount(&self) -> Result<()> {
        run("umount", &[self.mount.as_ref()])?;
        self.attach()
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // Lazily, so that a process that still holds it does not keep the mount in the tree.
        let _ = Command::new("umount").arg("-l").arg(&self.mount).output();
    }
}
