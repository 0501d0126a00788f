//! Choices of a story, all from one seed.

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014): small, and any number
/// of independent streams come out of one seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finalizer of SplitMix64: a bijection whose output looks random for counting inputs.
pub fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Word `index` of the stream that `seed` names.
pub fn word_at(seed: u64, index: u64) -> u64 {
    mix(seed.wrapping_add(GAMMA.wrapping_mul(index.wrapping_add(1))))
}

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A stream of its own for a task, so that tasks do not disturb each other's choices.
    pub fn fork(&mut self) -> Self {
        Self(mix(self.next()))
    }

    #[allow(clippy::should_implement_trait, reason = "an endless source is no iterator here")]
    pub fn next(&mut self) -> u64 {
        let word = word_at(self.0, 0);
        self.0 = self.0.wrapping_add(GAMMA);
        word
    }

    /// In `0..bound`; the bias of the remainder is far below what a test can see.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("below a usize")
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())].clone()
    }

    /// `count` different items, in random order.
    pub fn sample<T: Clone>(&mut self, from: &[T], count: usize) -> Vec<T> {
        assert!(count <= from.len(), "a sample is not larger than what it is taken from");
        let mut rest = from.to_vec();
        (0..count).map(|_| rest.swap_remove(self.index(rest.len()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_sequence_and_forks_differ() {
        let draw = |mut random: Random| (0..8).map(|_| random.next()).collect::<Vec<_>>();
        assert_eq!(draw(Random::new(7)), draw(Random::new(7)));
        assert_ne!(draw(Random::new(7)), draw(Random::new(8)));
        let mut parent = Random::new(7);
        assert_ne!(draw(parent.fork()), draw(parent.fork()));
        // First outputs of the reference implementation for seed 0.
        assert_eq!(word_at(0, 0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(word_at(0, 1), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn a_sample_has_no_item_twice() {
        let mut sample = Random::new(1).sample(&[1, 2, 3, 4], 4);
        sample.sort_unstable();
        assert_eq!(sample, [1, 2, 3, 4]);
    }
}
