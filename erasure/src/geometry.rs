//! Where the bytes of a chunk lie in its stripes and shards. Pure arithmetic.
//!
//! ```text
//! chunk     |------------ stripe 0 ------------|------------ stripe 1 ------------|-- last, short --|
//! stripe s  | slot 0: unit | slot 1: unit | .. | slot k-1: unit |      parity: m units of the same length
//! shard i   | unit of stripe 0 | unit of stripe 1 | .. | short unit |
//! ```
//!
//! A full stripe has units of `stripe_unit` bytes. The last stripe may be short: its unit is a k-th of what is
//! left, rounded up to [`UNIT_ALIGN`], so that a small chunk uses all its drives; its trailing data units may then
//! be cut or empty. Coding pads them with zeros to the unit's length; padding is never stored or checksummed.
//! Parity units are whole.
//!
//! Invariants (property tests hold them against a byte-by-byte model):
//!  - every byte of the chunk is in exactly one data unit, in order;
//!  - all stripes but the last are full, so a unit's offset in its shard does not depend on the chunk's length.

use crate::slots::SLOTS_MAX;

/// Short units are rounded up to a cache line.
pub const UNIT_ALIGN: u32 = 64;

/// Longest chunk that the arithmetic accepts, far above any profile's. A length from outside is checked against
/// its profile before it comes here; a longer one is a bug and panics.
pub const CHUNK_LEN_MAX: u64 = 1 << 32;

/// The shape of a profile's stripes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    k: u8,
    m: u8,
    stripe_unit: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GeometryError {
    #[error("{k}+{m}: a stripe has at least one data slot and at most {SLOTS_MAX} slots in all")]
    Slots { k: u8, m: u8 },
    #[error("a stripe unit of {stripe_unit} bytes is not a positive multiple of {UNIT_ALIGN}")]
    StripeUnit { stripe_unit: u32 },
}

/// One stripe of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stripe {
    pub index: u32,
    /// Where its data begins in the chunk.
    pub data_start: u64,
    /// Bytes of the chunk in it.
    pub data_len: u64,
    /// Bytes of each slot's unit as it is coded, padding included.
    pub unit_len: u32,
}

/// Consecutive bytes of a chunk within one data unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub stripe: u32,
    pub slot: u8,
    /// First byte within the unit.
    pub unit_start: u32,
    pub len: u32,
}

impl Geometry {
    /// `stripe_unit` is in bytes and a multiple of [`UNIT_ALIGN`].
    pub fn new(k: u8, m: u8, stripe_unit: u32) -> Result<Self, GeometryError> {
        if k == 0 || k.checked_add(m).is_none_or(|slots| slots > SLOTS_MAX) {
            return Err(GeometryError::Slots { k, m });
        }
        if stripe_unit == 0 || !stripe_unit.is_multiple_of(UNIT_ALIGN) {
            return Err(GeometryError::StripeUnit { stripe_unit });
        }
        Ok(Self { k, m, stripe_unit })
    }

    pub fn k(&self) -> u8 {
        self.k
    }

    pub fn m(&self) -> u8 {
        self.m
    }

    pub fn stripe_unit(&self) -> u32 {
        self.stripe_unit
    }

    /// Data bytes of a full stripe.
    pub fn row_len(&self) -> u64 {
        u64::from(self.k) * u64::from(self.stripe_unit)
    }

    /// An empty chunk has none.
    ///
    /// # Panics
    /// Here and below, if `chunk_len` is above [`CHUNK_LEN_MAX`].
    pub fn stripe_count(&self, chunk_len: u64) -> u32 {
        assert!(chunk_len <= CHUNK_LEN_MAX, "a chunk of {chunk_len} bytes");
        u32::try_from(chunk_len.div_ceil(self.row_len())).expect("2^32 bytes in rows of 64 or more")
    }

    /// # Panics
    /// Here and below, if the chunk has no such stripe.
    pub fn stripe(&self, chunk_len: u64, index: u32) -> Stripe {
        let count = self.stripe_count(chunk_len);
        assert!(index < count, "stripe {index} of a chunk of {count}");
        let data_start = u64::from(index) * self.row_len();
        let data_len = self.row_len().min(chunk_len - data_start);
        let share =
            u32::try_from(data_len.div_ceil(u64::from(self.k))).expect("at most the stripe unit, a u32");
        Stripe { index, data_start, data_len, unit_len: share.next_multiple_of(UNIT_ALIGN) }
    }

    /// All stripes of a chunk in order.
    pub fn stripes(&self, chunk_len: u64) -> impl Iterator<Item = Stripe> + use<> {
        let geometry = *self;
        (0..self.stripe_count(chunk_len)).map(move |index| geometry.stripe(chunk_len, index))
    }

    /// Stored bytes of one unit: a data unit's share of the chunk, 0 if a short last stripe does not reach it; a
    /// parity unit's coded length.
    ///
    /// # Panics
    /// Here and below, if the stripe has no such slot.
    pub fn unit_data_len(&self, chunk_len: u64, stripe: u32, slot: u8) -> u32 {
        self.stored_len(self.stripe(chunk_len, stripe), slot)
    }

    /// Stored bytes of one slot of a chunk: the sum of its units.
    pub fn shard_len(&self, chunk_len: u64, slot: u8) -> u64 {
        self.check_slot(slot);
        match self.stripe_count(chunk_len).checked_sub(1) {
            None => 0,
            Some(last) => {
                let last_len = self.unit_data_len(chunk_len, last, slot);
                self.unit_offset(chunk_len, slot, last) + u64::from(last_len)
            }
        }
    }

    /// Where the unit of a stripe begins in its shard.
    pub fn unit_offset(&self, chunk_len: u64, slot: u8, stripe: u32) -> u64 {
        self.check_slot(slot);
        let count = self.stripe_count(chunk_len);
        assert!(stripe < count, "stripe {stripe} of a chunk of {count}");
        u64::from(stripe) * u64::from(self.stripe_unit)
    }

    /// The pieces that hold bytes `range_start..range_end` of the chunk, in order.
    ///
    /// # Panics
    /// If the range is not within the chunk.
    pub fn locate(&self, chunk_len: u64, range_start: u64, range_end: u64) -> Pieces {
        assert!(
            range_start <= range_end && range_end <= chunk_len && chunk_len <= CHUNK_LEN_MAX,
            "bytes {range_start}..{range_end} of a chunk of {chunk_len}"
        );
        Pieces { geometry: *self, chunk_len, next: range_start, end: range_end }
    }

    fn stored_len(&self, stripe: Stripe, slot: u8) -> u32 {
        self.check_slot(slot);
        if slot >= self.k {
            return stripe.unit_len;
        }
        let unit_len = u64::from(stripe.unit_len);
        let len = stripe.data_len.saturating_sub(u64::from(slot) * unit_len).min(unit_len);
        u32::try_from(len).expect("at most the unit's length, a u32")
    }

    fn check_slot(&self, slot: u8) {
        assert!(slot < self.k + self.m, "slot {slot} of {}+{}", self.k, self.m);
    }
}

/// What [`Geometry::locate`] returns.
#[derive(Clone, Debug)]
pub struct Pieces {
    geometry: Geometry,
    chunk_len: u64,
    next: u64,
    end: u64,
}

impl Iterator for Pieces {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        if self.next == self.end {
            return None;
        }
        let index =
            u32::try_from(self.next / self.geometry.row_len()).expect("no more than the stripe count");
        let stripe = self.geometry.stripe(self.chunk_len, index);
        let (within, unit_len) = (self.next - stripe.data_start, u64::from(stripe.unit_len));
        let unit_start = within % unit_len;
        let len = (unit_len - unit_start).min(self.end - self.next);
        self.next += len;
        Some(Piece {
            stripe: index,
            slot: u8::try_from(within / unit_len).expect("below k, because k units hold the stripe"),
            unit_start: u32::try_from(unit_start).expect("below the unit's length, a u32"),
            len: u32::try_from(len).expect("at most the unit's length, a u32"),
        })
    }
}
