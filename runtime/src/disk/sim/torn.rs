//! What arrives of a write when the power fails: whole sectors, and in place of the others old bytes, zeros or
//! garbage. Bytes beside the write are never touched.

use super::random::Random;
use bytes::Bytes;

/// What is in the sectors that did not arrive.
#[derive(Clone, Copy)]
enum Rest {
    Old,
    Zeros,
    Garbage,
}

/// Which sectors arrive.
#[derive(Clone, Copy)]
enum Cut {
    Front,
    Back,
    /// Runs of sectors, in and out in turn.
    Runs,
}

/// Calls `arrive` with the offset and the bytes of each piece that reaches the device.
pub(super) fn write(offset: u64, bytes: &Bytes, random: &mut Random, mut arrive: impl FnMut(u64, &Bytes)) {
    let sector = [512, 4096][random.index(2)];
    let cut = [Cut::Front, Cut::Back, Cut::Runs][random.index(3)];
    let rest = [Rest::Old, Rest::Zeros, Rest::Garbage][random.index(3)];
    let skew = usize::try_from(offset % sector as u64).expect("less than a sector");
    let sectors = (skew + bytes.len()).div_ceil(sector);
    // Where sector `n` begins and the one before ends, within the write.
    let border = |n: usize| (n * sector).saturating_sub(skew).min(bytes.len());

    let mut arrived = match cut {
        Cut::Front => true,
        Cut::Back => false,
        Cut::Runs => random.index(2) == 0,
    };
    let mut from = 0;
    let mut run = match cut {
        Cut::Front | Cut::Back => random.index(sectors + 1),
        Cut::Runs => 1 + random.index(sectors),
    };
    while from < sectors {
        let to = (from + run).min(sectors);
        let piece = bytes.slice(border(from)..border(to));
        let at = offset + border(from) as u64;
        match (arrived, rest) {
            (true, _) => arrive(at, &piece),
            (false, Rest::Old) => {}
            (false, Rest::Zeros) => arrive(at, &Bytes::from(vec![0; piece.len()])),
            (false, Rest::Garbage) => arrive(at, &Bytes::from(random.bytes(piece.len()))),
        }
        arrived = !arrived;
        from = to;
        run = match cut {
            Cut::Front | Cut::Back => sectors,
            Cut::Runs => 1 + random.index(sectors),
        };
    }
}
