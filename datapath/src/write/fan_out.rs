//! One chunk on its way to k+m drives.
//!
//! Owns the chunk's slot streams: opens them (with handoff), gives each row's units to all of them, and ends them at
//! the quorum's word. Does not know bodies, digests or commits.
//!
//! A slot whose drive fails is replaced by another drive as long as all units sent so far are kept (the first
//! `replay_rows`), and is missing afterwards: its units are gone.

use super::{
    blob::ChunkContext,
    place::Placement,
    quorum::{Patience, SlotProgress, Verdict, judge},
    slot_stream::{SlotEnd, SlotStream},
};
use crate::{
    shard_io::{ShardError, ShardSink, Unit},
    store::Core,
};
use ashlar_runtime::ClockExt;
use ashlar_types::{Chunk, ChunkId, DriveId, ObjectError, ShardId, ShardMeta, SlotIndex};
use futures_util::{StreamExt, stream::FuturesUnordered};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// Placements tried while the map changes under a chunk.
const PLACEMENTS_MAX: u32 = 5;
/// Pause for a newer map to arrive after a drive said that ours is old.
const MAP_PAUSE: Duration = Duration::from_millis(100);
/// Drives tried for one slot, so that a sick cluster does not keep a request busy.
const HANDOFFS_MAX: u32 = 4;

/// A slot that goes on after its chunk was settled without it.
pub(crate) struct LateSlot {
    pub(crate) shard: ShardId,
    pub(crate) stream: SlotStream,
}

pub(crate) struct FanOut {
    core: Arc<Core>,
    meta: ShardMeta,
    placement: Placement,
    slots: Vec<Slot>,
    quorum: usize,
    /// Units of the rows sent so far, by row; `None` when there were too many to keep.
    kept: Option<Vec<Vec<Unit>>>,
    /// Where a shard may be, now or after a commit that is under way.
    touched: Vec<(DriveId, ShardId)>,
}

struct Slot {
    index: SlotIndex,
    stream: Option<SlotStream>,
    /// Time that rows waited for room here.
    blocked: Duration,
    handoffs: u32,
}

/// A drive said that the placement group has changed.
struct Superseded;

type Opened = (usize, DriveId, Result<Box<dyn ShardSink>, ShardError>);

impl FanOut {
    /// Opens as many of the k+m streams as there are drives for, at least a quorum of them.
    pub(crate) async fn open(
        core: &Arc<Core>,
        context: &ChunkContext,
        refused: &mut BTreeSet<DriveId>,
    ) -> Result<Self, ObjectError> {
        for _ in 0..PLACEMENTS_MAX {
            let placement = Placement::choose(core, context.profile_id, refused)?;
            let mut fan_out = Self::new(core, context, placement);
            let wanted =
                (0..fan_out.slots.len()).map(|slot| (slot, fan_out.placement.drives[slot])).collect();
            match fan_out.open_slots(wanted, refused).await {
                Ok(()) if fan_out.streaming() < fan_out.quorum => {
                    return Err(ObjectError::SlowDown("too few drives take a write"));
                }
                Ok(()) => return Ok(fan_out),
                Err(Superseded) if fan_out.placement.is_superseded(core) => {}
                Err(Superseded) => core.env.clock.sleep(MAP_PAUSE).await,
            }
        }
        Err(ObjectError::SlowDown("placement is changing"))
    }

    fn new(core: &Arc<Core>, context: &ChunkContext, placement: Placement) -> Self {
        let meta = context.shard_meta(placement.pg, placement.interval);
        let slots = (0..context.profile.slots())
            .map(|slot| Slot { index: SlotIndex(slot), stream: None, blocked: Duration::ZERO, handoffs: 0 })
            .collect();
        Self {
            core: Arc::clone(core),
            meta,
            placement,
            slots,
            quorum: usize::from(context.profile.ack_quorum()),
            kept: Some(Vec::new()),
            touched: Vec::new(),
        }
    }

    fn streaming(&self) -> usize {
        self.slots.iter().filter(|slot| slot.stream.is_some()).count()
    }

    fn chunk(&self) -> ChunkId {
        self.meta.id.chunk
    }

    /// Opens these slots, each at the drive given or at another one.
    async fn open_slots(
        &mut self,
        wanted: Vec<(usize, Option<DriveId>)>,
        refused: &mut BTreeSet<DriveId>,
    ) -> Result<(), Superseded> {
        let mut opening = FuturesUnordered::new();
        for (slot, drive) in wanted {
            if let Some(drive) = drive.or_else(|| self.handoff(slot, refused)) {
                opening.push(self.open_slot(slot, drive));
            }
        }
        while let Some((slot, drive, result)) = opening.next().await {
            let own = self.placement.drives[slot] == Some(drive);
            match result {
                Ok(sink) => self.started(slot, drive, sink),
                Err(ShardError::StaleInterval { .. } | ShardError::NotMine) if own => return Err(Superseded),
                Err(error) => {
                    tracing::warn!(%drive, chunk = %self.chunk(), %error, "a drive took no shard");
                    refused.insert(drive);
                    if let Some(drive) = self.handoff(slot, refused) {
                        opening.push(self.open_slot(slot, drive));
                    }
                }
            }
        }
        Ok(())
    }

    fn handoff(&mut self, slot: usize, refused: &BTreeSet<DriveId>) -> Option<DriveId> {
        if self.slots[slot].handoffs == HANDOFFS_MAX {
            return None;
        }
        let drive = self.placement.handoff(&self.core, refused)?;
        self.slots[slot].handoffs += 1;
        self.core.metrics.handoffs.increment(1);
        Some(drive)
    }

    fn open_slot(&self, slot: usize, drive: DriveId) -> impl Future<Output = Opened> + Send + use<> {
        let core = Arc::clone(&self.core);
        let mut meta = self.meta.clone();
        meta.id.slot = self.slots[slot].index;
        async move {
            let put = core.shards.put(drive, meta);
            let opened = core.env.clock.timeout(core.settings.open_deadline, put).await;
            (slot, drive, opened.unwrap_or(Err(ShardError::Unreachable)))
        }
    }

    fn started(&mut self, slot: usize, drive: DriveId, sink: Box<dyn ShardSink>) {
        let settings = &self.core.settings;
        // The units of a replay are there at once, so the queue takes them all.
        let queue = settings.queue_units.max(settings.replay_rows);
        let index = self.slots[slot].index;
        self.touched.push((drive, ShardId { chunk: self.chunk(), slot: index }));
        self.slots[slot].stream = Some(SlotStream::start(&self.core.env.tasks, drive, sink, queue));
    }

    /// Gives each slot its unit of the next row, in order. Returns when all have taken theirs, but for those that
    /// failed or were left behind. An error ends the chunk: too few are left.
    pub(crate) async fn send(
        &mut self,
        units: Vec<Unit>,
        refused: &mut BTreeSet<DriveId>,
    ) -> Result<(), ObjectError> {
        match &mut self.kept {
            Some(rows) if rows.len() < self.core.settings.replay_rows => rows.push(units.clone()),
            Some(_) => self.let_go(refused).await?,
            None => {}
        }
        let lost = self.all_slots(Step::Send(units)).await?;
        self.replace(lost, refused).await;
        self.check_quorum()
    }

    /// Frees the rows that are kept, after every drive has shown that it takes units: one that cannot is replaced
    /// while that is possible.
    async fn let_go(&mut self, refused: &mut BTreeSet<DriveId>) -> Result<(), ObjectError> {
        loop {
            let lost = self.all_slots(Step::Prove).await?;
            if lost.is_empty() {
                break;
            }
            // Bounded, because a slot is handed off only so many times.
            self.replace(lost, refused).await;
            self.check_quorum()?;
        }
        self.kept = None;
        Ok(())
    }

    fn check_quorum(&self) -> Result<(), ObjectError> {
        if self.streaming() < self.quorum {
            return Err(ObjectError::SlowDown("too few drives take a write"));
        }
        Ok(())
    }

    /// Waits until all slots have done a step, but for those returned, which failed or were left behind.
    async fn all_slots(&mut self, step: Step) -> Result<Vec<(usize, Loss)>, ObjectError> {
        let started = self.core.now();
        let mut progress: Vec<SlotProgress> = self.slots.iter().map(SlotProgress::of).collect();
        let mut lost = Vec::new();
        let mut units = match step {
            Step::Send(units) => units.into_iter().map(Some).collect(),
            Step::Prove => vec![None; self.slots.len()],
        };
        {
            let mut stepping: FuturesUnordered<_> = self
                .slots
                .iter()
                .zip(units.drain(..))
                .enumerate()
                .filter_map(|(position, (slot, unit))| {
                    let stream = slot.stream.as_ref()?;
                    Some(async move {
                        let done = match unit {
                            Some(unit) => stream.send(unit).await,
                            None => stream.proven().await,
                        };
                        (position, done)
                    })
                })
                .collect();
            loop {
                let elapsed = self.core.now().saturating_sub(started);
                for (progress, slot) in progress.iter_mut().zip(&self.slots) {
                    progress.wait_for(slot.blocked + elapsed);
                }
                let deadline = self.core.settings.request_deadline.saturating_sub(elapsed);
                let limit = match judge(&progress, self.quorum, self.patience()) {
                    Verdict::Settled => break,
                    Verdict::TooFew if self.kept.is_none() => {
                        return Err(ObjectError::SlowDown("too few drives take a write"));
                    }
                    // Those that failed may be replaced, once the others are done.
                    Verdict::TooFew | Verdict::Wait(None) => deadline,
                    Verdict::Wait(Some(limit)) => limit,
                    Verdict::Leave(positions) => {
                        for position in positions {
                            progress[position] = SlotProgress::Lost;
                            self.core.metrics.stragglers.increment(1);
                            lost.push((position, Loss::Slow));
                        }
                        continue;
                    }
                };
                if deadline.is_zero() {
                    return Err(ObjectError::Unavailable("the drives take no bytes"));
                }
                match self.core.env.clock.timeout(limit, stepping.next()).await {
                    Ok(Some((position, true))) => {
                        let blocked = self.slots[position].blocked + self.core.now().saturating_sub(started);
                        progress[position] = SlotProgress::Done(blocked);
                    }
                    Ok(Some((position, false))) => {
                        progress[position] = SlotProgress::Lost;
                        lost.push((position, Loss::Failed));
                    }
                    Ok(None) => break,
                    Err(_) => {}
                }
            }
        }
        for (slot, progress) in self.slots.iter_mut().zip(&progress) {
            if let SlotProgress::Done(blocked) = progress {
                slot.blocked = *blocked;
            }
        }
        Ok(lost)
    }

    fn patience(&self) -> Patience {
        Patience { min: self.core.settings.straggler_min, factor: self.core.settings.straggler_factor }
    }

    /// Takes slots out, and opens them elsewhere if the units they got are still there.
    async fn replace(&mut self, lost: Vec<(usize, Loss)>, refused: &mut BTreeSet<DriveId>) {
        let mut again = Vec::new();
        for (position, loss) in lost {
            let Some(mut stream) = self.slots[position].stream.take() else { continue };
            refused.insert(stream.drive);
            stream.cancel();
            let error = match loss {
                Loss::Failed => match self.core.env.clock.timeout(MAP_PAUSE, stream.end()).await {
                    Ok(SlotEnd::Failed(error)) => error,
                    Ok(SlotEnd::Committed | SlotEnd::Cancelled) | Err(_) => ShardError::Unreachable,
                },
                Loss::Slow => ShardError::Overloaded,
            };
            tracing::warn!(drive = %stream.drive, chunk = %self.chunk(), %error, "a slot was lost while writing");
            again.push((position, None));
        }
        if self.kept.is_none() || again.is_empty() {
            return;
        }
        let positions: Vec<usize> = again.iter().map(|(position, _)| *position).collect();
        // Only own drives supersede a placement, and these are asked no more.
        let _ = self.open_slots(again, refused).await;
        for position in positions {
            self.replay(position).await;
        }
    }

    /// Sends the kept rows again. Does not wait: the queue of a new stream has room for them.
    async fn replay(&mut self, position: usize) {
        let Some(rows) = &self.kept else { return };
        let Some(stream) = &self.slots[position].stream else { return };
        for row in rows {
            if !stream.send(row[position].clone()).await {
                self.slots[position].stream = None;
                return;
            }
        }
    }

    /// Has all slots flushed and waits as long as the quorum's rules say. On success the chunk with the slots that are
    /// durable, and those that go on. Afterwards only `touched` may be asked.
    pub(crate) async fn finish(
        &mut self,
        refused: &mut BTreeSet<DriveId>,
    ) -> Result<(Chunk, Vec<LateSlot>), ObjectError> {
        let started = self.core.now();
        let mut progress: Vec<SlotProgress> = self.slots.iter().map(SlotProgress::of).collect();
        loop {
            self.flush(started, &mut progress).await?;
            // A drive that failed its flush is replaced like one that failed before, if its units are there.
            let failed: Vec<(usize, Loss)> = progress
                .iter()
                .enumerate()
                .filter(|(position, progress)| {
                    **progress == SlotProgress::Lost && self.slots[*position].stream.is_some()
                })
                .map(|(position, _)| (position, Loss::Failed))
                .collect();
            let replaceable = self.kept.is_some() && !failed.is_empty();
            let positions: Vec<usize> = failed.iter().map(|(position, _)| *position).collect();
            if !replaceable {
                break;
            }
            self.replace(failed, refused).await;
            for position in positions {
                if self.slots[position].stream.is_some() {
                    progress[position] = SlotProgress::Waiting(Duration::ZERO);
                }
            }
        }
        let done = progress.iter().filter(|progress| matches!(progress, SlotProgress::Done(_))).count();
        if done < self.quorum {
            return Err(ObjectError::SlowDown("too few drives have the bytes"));
        }
        Ok(self.settle(&progress))
    }

    /// Waits for flushes until the quorum's rules say that it is enough.
    async fn flush(&mut self, started: Duration, progress: &mut [SlotProgress]) -> Result<(), ObjectError> {
        let (quorum, patience) = (self.quorum, self.patience());
        let mut ending: FuturesUnordered<_> = self
            .slots
            .iter_mut()
            .enumerate()
            .filter(|(position, _)| matches!(progress[*position], SlotProgress::Waiting(_)))
            .filter_map(|(position, slot)| {
                let stream = slot.stream.as_mut()?;
                stream.commit();
                Some(async move { (position, stream.end().await) })
            })
            .collect();
        loop {
            let elapsed = self.core.now().saturating_sub(started);
            progress.iter_mut().for_each(|progress| progress.wait_for(elapsed));
            let limit = match judge(progress, quorum, patience) {
                Verdict::Settled | Verdict::TooFew | Verdict::Leave(_) => return Ok(()),
                Verdict::Wait(Some(limit)) => limit,
                Verdict::Wait(None) => self.core.settings.request_deadline.saturating_sub(elapsed),
            };
            if limit.is_zero() {
                return Err(ObjectError::Unavailable("the drives do not flush"));
            }
            match self.core.env.clock.timeout(limit, ending.next()).await {
                Ok(Some((position, SlotEnd::Committed))) => {
                    progress[position] = SlotProgress::Done(self.core.now().saturating_sub(started));
                }
                Ok(Some((position, SlotEnd::Failed(_) | SlotEnd::Cancelled))) => {
                    progress[position] = SlotProgress::Lost;
                }
                Ok(None) => return Ok(()),
                Err(_) => {}
            }
        }
    }

    fn settle(&mut self, progress: &[SlotProgress]) -> (Chunk, Vec<LateSlot>) {
        let (mut slots, mut late) = (Vec::with_capacity(progress.len()), Vec::new());
        let chunk = self.chunk();
        for (slot, progress) in self.slots.iter_mut().zip(progress) {
            let stream = slot.stream.take();
            match (progress, stream) {
                (SlotProgress::Done(_), Some(stream)) => slots.push(Some(stream.drive)),
                (SlotProgress::Waiting(_), Some(stream)) => {
                    self.core.metrics.stragglers.increment(1);
                    late.push(LateSlot { shard: ShardId { chunk, slot: slot.index }, stream });
                    slots.push(None);
                }
                (SlotProgress::Done(_) | SlotProgress::Waiting(_) | SlotProgress::Lost, _) => {
                    slots.push(None)
                }
            }
        }
        self.kept = None;
        (Chunk { pg: self.placement.pg, interval: self.placement.interval, slots }, late)
    }

    /// The chunk as far as it was written, for what has to clean up after it.
    pub(crate) fn unfinished(&self) -> Chunk {
        Chunk {
            pg: self.placement.pg,
            interval: self.placement.interval,
            slots: vec![None; self.slots.len()],
        }
    }

    /// Drives that may hold a shard of this chunk.
    pub(crate) fn touched(&self) -> &[(DriveId, ShardId)] {
        &self.touched
    }

    /// The streams that are still open.
    pub(crate) fn streams(&mut self) -> impl Iterator<Item = SlotStream> + '_ {
        self.slots.iter_mut().filter_map(|slot| slot.stream.take())
    }
}

/// What all slots do together.
enum Step {
    /// Each takes its unit of a row.
    Send(Vec<Unit>),
    /// Each has its drive take the first unit.
    Prove,
}

#[derive(Clone, Copy)]
enum Loss {
    Failed,
    Slow,
}

impl SlotProgress {
    fn of(slot: &Slot) -> Self {
        if slot.stream.is_some() { Self::Waiting(Duration::ZERO) } else { Self::Lost }
    }

    fn wait_for(&mut self, time: Duration) {
        if let Self::Waiting(so_far) = self {
            *so_far = time;
        }
    }
}
