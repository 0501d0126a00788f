//! A tree of files out of a seed: the sizes at which something changes, the keys that clients get wrong, and a mass
//! of small files around them.

use crate::{content::Content, random::Random};
use ashlar_types::limits::{INLINE_MAX, KEY_MAX_LEN, KIB, MIB};
use std::collections::BTreeSet;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub key: String,
    pub content: Content,
}

/// Files besides those with a reason of their own.
const MASS: usize = 2000;
/// Of the default profile for six nodes, 4+2.
const UNIT: u64 = 64 * KIB;
const STRIPE: u64 = 4 * UNIT;
const CHUNK: u64 = 64 * MIB;

/// One below, at and one above each of these.
const EDGES: [u64; 4] = [INLINE_MAX, UNIT, STRIPE, CHUNK];

/// Keys are bytes to the store: none of these means anything to it, and most mean something to some client, proxy
/// or file system.
const ODD_KEYS: [&str; 22] = [
    "with spaces in it",
    " leading and trailing ",
    "plus+and+plus",
    "percent%20not%2Fdecoded",
    "a//b",
    "a/b",
    "a/b/c",
    "/leading/slash",
    "//",
    "trailing/slash/",
    "..",
    "../escape",
    "x/../y",
    "x/./y",
    ".",
    "naïve/日本語/ключ/🗿",
    "e\u{301}-decomposed",
    "\u{e9}-composed",
    "quote\"apostrophe'",
    "amp&lt<gt>",
    "query?uploads&x=1#fragment",
    "tilde~!*'();:@$,[]{}|^`\\",
];

/// All keys differ; the order means nothing.
pub fn grow(random: &mut Random) -> Vec<File> {
    let mut files = Vec::new();
    let mut add = |random: &mut Random, key: String, len: u64| {
        files.push(File { key, content: Content::new(random.next(), len) });
    };
    for len in [0, 1].into_iter().chain(EDGES.iter().flat_map(|edge| [edge - 1, *edge, edge + 1])) {
        add(random, format!("edges/{len:09}"), len);
    }
    for key in ODD_KEYS {
        let len = random.pick(&[0, 3, 5 * KIB, 100 * KIB]);
        add(random, key.to_owned(), len);
    }
    // The longest keys: one of them differs from the other in its last byte alone, one has no single-byte character.
    let long = format!("long/{}", "k".repeat(KEY_MAX_LEN - 6));
    add(random, format!("{long}a"), 10);
    add(random, format!("{long}b"), 20 * KIB);
    add(random, "é".repeat(KEY_MAX_LEN / 2), 30);
    for n in 0..MASS {
        let len = match random.below(100) {
            0..55 => random.below(4 * KIB),
            55..85 => random.below(INLINE_MAX + 1),
            85..96 => random.below(2 * UNIT),
            96..99 => random.below(3 * STRIPE),
            _ => random.below(4 * MIB),
        };
        let (top, sub) = (random.below(12), random.below(9));
        add(random, format!("mass/{top:02}/{sub}/file {n:05}.bin"), len);
    }
    let keys: BTreeSet<&str> = files.iter().map(|file| file.key.as_str()).collect();
    assert_eq!(keys.len(), files.len(), "keys differ");
    files
}

/// Ranges of a file worth reading: its ends, and random ones across units and stripes.
pub fn ranges(random: &mut Random, len: u64, count: usize) -> Vec<(u64, u64)> {
    if len == 0 {
        return Vec::new();
    }
    let mut ranges = vec![(0, 1), (len - 1, len)];
    for edge in EDGES {
        if edge + 1 < len {
            ranges.push((edge - 1, edge + 1));
        }
    }
    for _ in 0..count {
        let start = random.below(len);
        let longest = (len - start).min(2 * STRIPE);
        ranges.push((start, start + 1 + random.below(longest)));
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_grows_the_same_tree() {
        let tree = grow(&mut Random::new(3));
        assert_eq!(tree, grow(&mut Random::new(3)));
        assert_ne!(tree, grow(&mut Random::new(4)));
        assert!(tree.len() >= 2000);
        let contents: BTreeSet<u64> = tree.iter().map(|file| file.content.seed).collect();
        assert_eq!(contents.len(), tree.len(), "contents differ");
        assert!(tree.iter().all(|file| (1..=KEY_MAX_LEN).contains(&file.key.len())));
        assert_eq!(tree.iter().filter(|file| file.key.len() == KEY_MAX_LEN).count(), 3);
    }

    #[test]
    fn ranges_name_bytes_of_the_file() {
        let mut random = Random::new(1);
        for len in [0, 1, 2, UNIT + 1, CHUNK + 1] {
            let ranges = ranges(&mut random, len, 20);
            assert!(ranges.iter().all(|(start, end)| start < end && *end <= len), "{len}: {ranges:?}");
        }
    }
}
