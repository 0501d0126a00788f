//! GF(2^8) with the polynomial x^8 + x^4 + x^3 + x^2 + 1 (0x11d) and the generator 2.
//!
//! Owns logarithms and powers, which is all that building coefficients needs; multiplying bulk bytes is the
//! kernels' business. Addition and subtraction are both XOR.

/// The polynomial without its x^8 term: what a carry out of bit 7 adds back.
pub(crate) const REDUCTION: u8 = 0x1d;

/// Order of the multiplicative group: logarithms are numbers modulo this.
pub(crate) const GROUP_ORDER: u32 = 255;

const TABLES: ([u8; 256], [u8; 255]) = tables();

const fn tables() -> ([u8; 256], [u8; 255]) {
    let (mut log, mut exp) = ([0; 256], [0; 255]);
    let mut value = 1u8;
    let mut power = 0u8;
    while power < 255 {
        log[value as usize] = power;
        exp[power as usize] = value;
        value = if value & 0x80 == 0 { value << 1 } else { (value << 1) ^ REDUCTION };
        power += 1;
    }
    (log, exp)
}

/// The power of the generator that is `value`. Zero has none: asking for it is a bug.
pub(crate) fn log(value: u8) -> u32 {
    assert_ne!(value, 0, "zero has no logarithm");
    u32::from(TABLES.0[usize::from(value)])
}

/// The generator to the power of `power`.
pub(crate) fn exp(power: u32) -> u8 {
    TABLES.1[(power % GROUP_ORDER) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Schoolbook multiplication, bit by bit.
    fn multiply(mut a: u8, b: u8) -> u8 {
        let mut product = 0;
        for bit in 0..8 {
            if b >> bit & 1 == 1 {
                product ^= a;
            }
            a = (a << 1) ^ if a & 0x80 == 0 { 0 } else { 0x1d };
        }
        product
    }

    #[test]
    fn logarithms_multiply_like_polynomials() {
        for a in 1..=255 {
            for b in 1..=255 {
                assert_eq!(exp(log(a) + log(b)), multiply(a, b), "{a} * {b}");
            }
        }
    }
}
