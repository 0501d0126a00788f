//! Rows: the bytes of one stripe, from the body to its k+m units.
//!
//! Owns the buffer of a row and what is done to it while it is in cache: digests, parity, unit checksums. A row is
//! one allocation; its units are windows into it, so they reach the drives without a copy.
//! Lifecycle: filled by the intake -> coded on a worker -> units on their way -> freed with the last unit.

use crate::shard_io::Unit;
use ashlar_erasure::{Codec, CodecError, Geometry};
use ashlar_hashing::{ObjectHasher, crc64nvme};
use ashlar_runtime::AlignedBuf;
use ashlar_types::UnitSum;
use bytes::Bytes;
use metrics::Gauge;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Bytes of rows that are in memory, wherever they wait.
pub(crate) struct LiveBytes {
    bytes: AtomicU64,
    gauge: Gauge,
}

impl LiveBytes {
    pub(crate) fn new(gauge: Gauge) -> Arc<Self> {
        Arc::new(Self { bytes: AtomicU64::new(0), gauge })
    }

    pub(crate) fn now(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// A buffer that is counted from its making to its freeing.
struct Counted {
    buf: AlignedBuf,
    live: Arc<LiveBytes>,
}

impl Counted {
    fn new(len: usize, live: &Arc<LiveBytes>) -> Self {
        live.bytes.fetch_add(len as u64, Ordering::Relaxed);
        live.gauge.increment(gauge_value(len));
        Self { buf: AlignedBuf::zeroed(len), live: Arc::clone(live) }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.live.bytes.fetch_sub(self.buf.len() as u64, Ordering::Relaxed);
        self.live.gauge.decrement(gauge_value(self.buf.len()));
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.buf
    }
}

fn gauge_value(len: usize) -> f64 {
    f64::from(u32::try_from(len).unwrap_or(u32::MAX))
}

/// A stripe's worth of object bytes, contiguous, with room for padding and parity.
pub(crate) struct Row {
    buf: Counted,
    capacity: usize,
    len: usize,
}

impl Row {
    /// Room for `capacity` bytes, at most a full stripe of `geometry`.
    pub(crate) fn new(geometry: &Geometry, capacity: usize, live: &Arc<LiveBytes>) -> Self {
        let slots = usize::from(geometry.k()) + usize::from(geometry.m());
        let unit_len = if capacity == 0 { 0 } else { geometry.stripe(capacity as u64, 0).unit_len };
        let unit_len = usize::try_from(unit_len).expect("a unit fits the address space");
        Self { buf: Counted::new(unit_len * slots, live), capacity, len: 0 }
    }

    pub(crate) fn room(&mut self) -> &mut [u8] {
        &mut self.buf.buf[..self.capacity]
    }

    /// The first `len` bytes of the room are the row.
    pub(crate) fn filled(mut self, len: usize) -> Self {
        assert!(len <= self.capacity, "a row of {len} bytes in a room of {}", self.capacity);
        self.len = len;
        self
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Digests the row's bytes and makes its k+m units. For a worker: it takes up to a millisecond.
    ///
    /// The rest of the buffer is zero, which is the padding that coding wants: a short row was cut at the end of the
    /// body, so nothing was ever written behind it.
    pub(crate) fn code(
        mut self,
        codec: &Codec,
        geometry: &Geometry,
        hasher: &mut ObjectHasher,
    ) -> Result<Vec<Unit>, CodecError> {
        hasher.update(&self.buf.buf[..self.len]);
        let row_len = self.len as u64;
        // A short row is coded like a chunk of its own: only the last stripe of a chunk is short.
        let unit_len = usize::try_from(geometry.stripe(row_len, 0).unit_len).expect("a unit fits memory");
        let (k, m) = (usize::from(geometry.k()), usize::from(geometry.m()));
        let (data, rest) = self.buf.buf.split_at_mut(k * unit_len);
        let mut parity: Vec<&mut [u8]> = rest[..m * unit_len].chunks_exact_mut(unit_len).collect();
        let data: Vec<&[u8]> = data.chunks_exact(unit_len).collect();
        codec.encode(&data, &mut parity)?;

        let bytes = Bytes::from_owner(self.buf);
        let mut data_crcs = Vec::with_capacity(k);
        let mut units = Vec::with_capacity(k + m);
        for slot in 0..geometry.k() + geometry.m() {
            let len = geometry.unit_data_len(row_len, 0, slot);
            let start = usize::from(slot) * unit_len;
            let bytes = bytes.slice(start..start + usize::try_from(len).expect("a unit fits memory"));
            let crc64 = crc64nvme(&bytes);
            let data = if slot < geometry.k() {
                data_crcs.push(crc64);
                Vec::new()
            } else {
                data_crcs.clone()
            };
            units.push(Unit { bytes, sum: UnitSum { len, crc64, data } });
        }
        Ok(units)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_erasure::SlotSet;
    use proptest::prelude::*;

    fn live() -> Arc<LiveBytes> {
        LiveBytes::new(Gauge::noop())
    }

    fn coded(
        k: u8,
        m: u8,
        capacity: usize,
        bytes: &[u8],
        live: &Arc<LiveBytes>,
    ) -> (Vec<Unit>, ObjectHasher) {
        let (codec, geometry) = (Codec::new(k, m).unwrap(), Geometry::new(k, m, 256).unwrap());
        let mut row = Row::new(&geometry, capacity, live);
        row.room()[..bytes.len()].copy_from_slice(bytes);
        let mut hasher = ObjectHasher::new(None);
        let units = row.filled(bytes.len()).code(&codec, &geometry, &mut hasher).unwrap();
        (units, hasher)
    }

    proptest! {
        #[test]
        fn units_carry_the_row_and_survive_any_m_losses(
            k in 1u8..6, m in 0u8..4, len: prop::sample::Index, room: prop::sample::Index, lost: u32,
        ) {
            let full = usize::from(k) * 256;
            let len = 1 + len.index(full);
            let capacity = len + room.index(full - len + 1);
            let bytes: Vec<u8> = (0..len).map(|i| (i * 7 + i / 251).to_le_bytes()[0] | 1).collect();
            let live = live();
            let (units, hasher) = coded(k, m, capacity, &bytes, &live);

            let data: Vec<u8> = units[..usize::from(k)].iter().flat_map(|unit| unit.bytes.to_vec()).collect();
            prop_assert_eq!(&data, &bytes);
            prop_assert_eq!(hasher.finish().crc64, crc64nvme(&bytes));
            let crcs: Vec<u64> = units[..usize::from(k)].iter().map(|unit| crc64nvme(&unit.bytes)).collect();
            for unit in &units {
                prop_assert_eq!(unit.sum.crc64, crc64nvme(&unit.bytes));
                prop_assert_eq!(unit.sum.len as usize, unit.bytes.len());
            }
            for unit in &units[usize::from(k)..] {
                prop_assert_eq!(&unit.sum.data, &crcs);
            }

            let unit_len = Geometry::new(k, m, 256).unwrap().stripe(len as u64, 0).unit_len as usize;
            let mut present = SlotSet::first(k + m);
            let mut left = lost;
            while present.len() > usize::from(k) {
                present.remove(u8::try_from(left % u32::from(k + m)).unwrap());
                left = left.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            }
            let codec = Codec::new(k, m).unwrap();
            let plan = codec.plan(present, SlotSet::first(k)).unwrap();
            let padded: Vec<Vec<u8>> = plan.sources().map(|slot| {
                let mut unit = units[usize::from(slot)].bytes.to_vec();
                unit.resize(unit_len, 0);
                unit
            }).collect();
            let mut out = vec![vec![0; unit_len]; usize::from(k)];
            let sources: Vec<&[u8]> = padded.iter().map(Vec::as_slice).collect();
            let mut targets: Vec<&mut [u8]> = out.iter_mut().map(Vec::as_mut_slice).collect();
            codec.reconstruct(&plan, &sources, &mut targets).unwrap();
            prop_assert_eq!(&out.concat()[..len], &bytes[..]);
        }
    }

    #[test]
    fn a_row_is_counted_until_its_last_unit_is_gone() {
        let live = live();
        let (mut units, _) = coded(2, 1, 512, &[7; 512], &live);
        assert_eq!(live.now(), 768);
        units.truncate(1);
        assert_eq!(live.now(), 768);
        units.clear();
        assert_eq!(live.now(), 0);
    }
}
