//! How records, commands and messages become bytes: one byte of format version, then postcard.
//!
//! Rows are compared between replicas byte by byte, so encoding is a function of the value alone.
//!
//! A row may have fields after its postcard body that were added later: an extension block of
//! `{ tag LEB128 | length LEB128 | bytes }*` in ascending order of tags. A release that does not know a tag keeps the
//! field when it rewrites the row ([`Row::kept`]). Commands and messages have no such block: what a command means must not
//! depend on who reads it, so a command that says more than before is another command.

use ashlar_types::{Blob, BucketName, Sequence, service::AccessKey};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;

/// Raised by every change of a stored type that postcard would read differently.
pub const FORMAT_VERSION: u8 = 1;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("no format version")]
    Empty,
    /// Written by a newer release: nothing here may guess what it means.
    #[error("format version {0} is not known")]
    UnknownVersion(u8),
    #[error("malformed record")]
    Malformed(#[source] postcard::Error),
    #[error("{0} bytes after the record")]
    TrailingBytes(usize),
    #[error("malformed fields after the record")]
    Extensions,
}

/// Fields of a row that this release does not know, by tag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extensions(BTreeMap<u32, Vec<u8>>);

/// The value of a row of a table.
pub trait Row: Serialize + DeserializeOwned {
    /// Fields after the body. Rows that are only ever replaced as a whole keep none.
    fn kept(&self) -> &Extensions {
        const { &Extensions::NONE }
    }

    fn keep(&mut self, _: Extensions) {}
}

/// Rows with a field `kept`: those that an apply reads, changes and writes back.
macro_rules! kept {
    ($($row:ty),* $(,)?) => {$(
        impl $crate::encoding::Row for $row {
            fn kept(&self) -> &$crate::encoding::Extensions {
                &self.kept
            }

            fn keep(&mut self, extensions: $crate::encoding::Extensions) {
                self.kept = extensions;
            }
        }
    )*};
}
pub(crate) use kept;

// Written once, or replaced by what a command carries.
impl Row for Sequence {}
impl Row for BucketName {}
impl Row for AccessKey {}
impl Row for Vec<Blob> {}
impl Row for ashlar_placement::ClusterMap {}
impl Row for crate::command::Outcome {}

pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    encode_after(Vec::new(), value)
}

/// What [`encode`] gives, behind bytes that are there already.
pub fn encode_after<T: Serialize>(mut bytes: Vec<u8>, value: &T) -> Vec<u8> {
    bytes.push(FORMAT_VERSION);
    postcard::to_extend(value, bytes)
        .expect("our types have lengths known in advance, and a vector takes all bytes")
}

pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (value, rest) = decode_body(bytes)?;
    if rest.is_empty() { Ok(value) } else { Err(DecodeError::TrailingBytes(rest.len())) }
}

pub fn encode_row<R: Row>(row: &R) -> Vec<u8> {
    let mut bytes = encode(row);
    row.kept().write(&mut bytes);
    bytes
}

pub fn decode_row<R: Row>(bytes: &[u8]) -> Result<R, DecodeError> {
    let (mut row, rest) = decode_body::<R>(bytes)?;
    if !rest.is_empty() {
        row.keep(Extensions::read(rest).ok_or(DecodeError::Extensions)?);
    }
    Ok(row)
}

fn decode_body<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, &[u8]), DecodeError> {
    match bytes.split_first() {
        None => Err(DecodeError::Empty),
        Some((&FORMAT_VERSION, body)) => postcard::take_from_bytes(body).map_err(DecodeError::Malformed),
        Some((version, _)) => Err(DecodeError::UnknownVersion(*version)),
    }
}

impl Extensions {
    const NONE: Self = Self(BTreeMap::new());

    fn write(&self, out: &mut Vec<u8>) {
        for (tag, field) in &self.0 {
            leb128(out, u64::from(*tag));
            leb128(out, field.len() as u64);
            out.extend_from_slice(field);
        }
    }

    /// `None` unless the bytes are exactly what `write` makes of the fields in them.
    fn read(bytes: &[u8]) -> Option<Self> {
        let (mut fields, mut rest) = (BTreeMap::new(), bytes);
        while !rest.is_empty() {
            let (tag, after) = postcard::take_from_bytes::<u32>(rest).ok()?;
            let (len, after) = postcard::take_from_bytes::<u32>(after).ok()?;
            let (field, after) = after.split_at_checked(usize::try_from(len).ok()?)?;
            fields.insert(tag, field.to_vec());
            rest = after;
        }
        let fields = Self(fields);
        let mut again = Vec::with_capacity(bytes.len());
        fields.write(&mut again);
        (again == bytes).then_some(fields)
    }

    #[cfg(test)]
    pub(crate) fn of(fields: &[(u32, &[u8])]) -> Self {
        Self(fields.iter().map(|(tag, field)| (*tag, field.to_vec())).collect())
    }
}

fn leb128(out: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        out.push(0x80 | u8::try_from(number & 0x7f).expect("7 bits"));
        number >>= 7;
    }
    out.push(u8::try_from(number).expect("7 bits"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};
    use serde::Deserialize;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Known {
        number: u64,
        #[serde(skip)]
        kept: Extensions,
    }
    kept!(Known);

    /// The same row for a release that only replaces it.
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Replaced(u64);
    impl Row for Replaced {}

    #[test]
    fn records_carry_their_version_and_nothing_after_them() {
        let bytes = encode(&(7u64, "seven"));
        assert_eq!(bytes, b"\x01\x07\x05seven");
        assert_eq!(decode(&bytes), Ok((7u64, "seven".to_owned())));
        assert_eq!(decode::<u64>(b""), Err(DecodeError::Empty));
        assert_eq!(decode::<u64>(b"\x02\x07"), Err(DecodeError::UnknownVersion(2)));
        assert_eq!(decode::<u64>(b"\x01\x07\x00"), Err(DecodeError::TrailingBytes(1)));
        assert!(matches!(decode::<u64>(b"\x01"), Err(DecodeError::Malformed(_))));
    }

    #[test]
    fn a_row_that_is_rewritten_keeps_the_fields_it_does_not_know() {
        let newer = b"\x01\x07\x03\x02ab\x81\x01\x00";
        let mut row: Known = decode_row(newer).unwrap();
        assert_eq!(row.kept, Extensions::of(&[(3, b"ab"), (129, b"")]));
        row.number = 8;
        assert_eq!(encode_row(&row), b"\x01\x08\x03\x02ab\x81\x01\x00");
        assert_eq!(decode_row(newer), Ok(Replaced(7)));
        assert_eq!(encode_row(&Replaced(7)), b"\x01\x07");
    }

    #[test]
    fn fields_that_are_not_written_like_that_are_refused() {
        for bad in [
            &b"\x01\x07\x03"[..],        // no length
            b"\x01\x07\x03\x02a",        // cut
            b"\x01\x07\x03\x00\x03\x00", // twice
            b"\x01\x07\x04\x00\x03\x00", // out of order
            b"\x01\x07\x83\x00\x00",     // a number longer than it must be
        ] {
            assert_eq!(decode_row::<Known>(bad), Err(DecodeError::Extensions), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_fields_come_back(number: u64, fields in vec((any::<u32>(), vec(any::<u8>(), 0..200)), 0..5)) {
            let row = Known { number, kept: Extensions(fields.into_iter().collect()) };
            prop_assert_eq!(decode_row(&encode_row(&row)), Ok(row));
        }

        #[test]
        fn rows_of_any_bytes_are_refused_or_written_back_as_they_are(bytes in vec(any::<u8>(), 0..20)) {
            let bytes = [&[FORMAT_VERSION, 7], bytes.as_slice()].concat();
            if let Ok(row) = decode_row::<Known>(&bytes) {
                prop_assert_eq!(encode_row(&row), bytes);
            }
        }
    }
}
