//! Coefficients that turn any k slots of a stripe into any other slot.
//!
//! The systematic Vandermonde code evaluates a polynomial: column by column, the k data bytes are the values at
//! the points 0..k of the one polynomial of degree below k through them, and slot t carries its value at point t.
//! So k slots, whichever they are, determine the polynomial, and Lagrange's formula gives every other slot:
//!
//! ```text
//! value(t) = sum over sources i of value(i) * product over the other sources j of (t - j) / (i - j)
//! ```
//!
//! This is the matrix that inverting the Vandermonde matrix gives, without inverting anything; it needs no pivot,
//! cannot be singular, and treats data and parity alike. Encoding is the case of sources 0..k.

use crate::{
    field::{GROUP_ORDER, exp, log},
    slots::{SLOTS_MAX, SlotSet},
};

/// One coefficient a source, in the order of the sources; the rest is zero.
pub(crate) type Row = [u8; SLOTS_MAX as usize];

/// One row a target, in the order of the targets; the rest is zero.
pub(crate) type Rows = [Row; SLOTS_MAX as usize];

/// The coefficients of `targets` over `sources`. A target that is itself a source is a copy of it.
pub(crate) fn coefficients(sources: SlotSet, targets: SlotSet) -> Rows {
    let mut rows = [[0; SLOTS_MAX as usize]; SLOTS_MAX as usize];
    let mut denominators = [0; SLOTS_MAX as usize];
    for (denominator, source) in denominators.iter_mut().zip(sources.iter()) {
        *denominator = distance_log(source, sources) % GROUP_ORDER;
    }
    for (row, target) in rows.iter_mut().zip(targets.iter()) {
        let numerator = distance_log(target, sources);
        for ((coefficient, denominator), source) in row.iter_mut().zip(denominators).zip(sources.iter()) {
            *coefficient = if sources.contains(target) {
                u8::from(source == target)
            } else {
                // The numerator's product leaves out this source; adding the group order twice keeps the
                // difference of logarithms positive.
                exp(numerator + 2 * GROUP_ORDER - log(target ^ source) - denominator)
            };
        }
    }
    rows
}

/// Logarithm of the product of the differences between `point` and every source but itself.
fn distance_log(point: u8, sources: SlotSet) -> u32 {
    sources.iter().filter(|&source| source != point).map(|source| log(point ^ source)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_of_4_2_are_frozen() {
        let rows = coefficients(SlotSet::first(4), SlotSet::of(&[4, 5]));
        assert_eq!(rows[0][..4], [27, 28, 18, 20]);
        assert_eq!(rows[1][..4], [28, 27, 20, 18]);
        assert!(rows[0][4..].iter().chain(rows[2..].iter().flatten()).all(|&c| c == 0));
    }

    #[test]
    fn a_target_among_the_sources_is_a_copy() {
        let rows = coefficients(SlotSet::of(&[1, 4, 7]), SlotSet::of(&[4]));
        assert_eq!(rows[0][..3], [0, 1, 0]);
    }
}
