//! Header values as stored text, byte for byte.
//!
//! A header's value is bytes, a stored one is text. Values that are UTF-8 are stored as they are; others (clients send
//! ISO 8859-1) as a mark and one character for each byte, so that exactly the bytes that came in go out again. Values
//! that begin with the mark themselves are stored in the second form too, which makes the two forms disjoint.

use http::HeaderValue;

/// A noncharacter: no text that is meant to be read begins with it.
const BYTES_FOLLOW: char = '\u{FFFF}';

pub(crate) fn from_header(value: &[u8]) -> String {
    match std::str::from_utf8(value) {
        Ok(text) if !text.starts_with(BYTES_FOLLOW) => text.to_owned(),
        _ => std::iter::once(BYTES_FOLLOW).chain(value.iter().copied().map(char::from)).collect(),
    }
}

/// `None` for text that no header can carry; the border that stored it cannot have made it.
pub(crate) fn to_header(stored: &str) -> Option<HeaderValue> {
    match stored.strip_prefix(BYTES_FOLLOW) {
        Some(bytes) => {
            let bytes: Option<Vec<u8>> = bytes.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
            HeaderValue::from_bytes(&bytes?).ok()
        }
        None => HeaderValue::from_bytes(stored.as_bytes()).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn readable_text_is_stored_as_it_is() {
        assert_eq!(from_header("Grüße".as_bytes()), "Grüße");
        assert_eq!(from_header(b"Hello World\xE9").chars().count(), 13);
    }

    proptest! {
        #[test]
        fn every_header_value_comes_back_exactly(
            bytes in prop_oneof![
                proptest::collection::vec(0x20_u8..=0x7E, 0..20),
                proptest::collection::vec(any::<u8>(), 0..20),
                "[\u{FFFF}\u{FFFE}é]{0,4}".prop_map(String::into_bytes),
            ]
        ) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                prop_assert_eq!(to_header(&from_header(&bytes)), Some(value));
            }
        }
    }
}
