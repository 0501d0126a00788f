//! How records and commands become bytes: one byte of format version, then postcard.
//!
//! Rows are compared between replicas byte by byte, so encoding is a function of the value alone.

use serde::{Serialize, de::DeserializeOwned};

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
}

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
    match bytes.split_first() {
        None => Err(DecodeError::Empty),
        Some((&FORMAT_VERSION, body)) => {
            let (value, rest) = postcard::take_from_bytes(body).map_err(DecodeError::Malformed)?;
            if rest.is_empty() { Ok(value) } else { Err(DecodeError::TrailingBytes(rest.len())) }
        }
        Some((version, _)) => Err(DecodeError::UnknownVersion(*version)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
