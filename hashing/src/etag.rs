//! MD5 and the entity tags that S3 makes of it.

use ashlar_types::ETag;
use md5::{Digest, Md5};

/// Incremental MD5 of the bytes of an object or a part. A tag and a transport check (`Content-MD5`), not a
/// protection against anyone.
#[derive(Clone, Debug, Default)]
pub struct EtagHasher(Md5);

impl EtagHasher {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn finish(self) -> [u8; 16] {
        self.0.finalize().into()
    }
}

/// The tag of a multipart object from the MD5s of its parts in order: the MD5 of the binary MD5s, and how many.
pub fn multipart_etag(parts: impl Iterator<Item = [u8; 16]>) -> ETag {
    let mut hasher = EtagHasher::new();
    let count = parts.inspect(|part| hasher.update(part)).count();
    ETag::from_parts_md5(hasher.finish(), count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn md5(bytes: &[u8]) -> [u8; 16] {
        let mut hasher = EtagHasher::new();
        hasher.update(bytes);
        hasher.finish()
    }

    #[test]
    fn tags_of_known_bytes() {
        // RFC 1321, A.5
        assert_eq!(ETag::from_md5(md5(b"")).as_str(), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(ETag::from_md5(md5(b"message digest")).as_str(), "f96b697d7cb7938d525a2f31aaf161d0");
    }

    #[test]
    fn a_multipart_tag_covers_binary_digests_in_order_and_counts_them() {
        let parts = [md5(b"a"), md5(b"b")];
        assert_eq!(multipart_etag(parts.into_iter()), ETag::from_parts_md5(md5(&parts.concat()), 2));
        assert_eq!(multipart_etag(parts.into_iter()).as_str(), "96e024ba2074fe77e8e965ba43a704be-2");
        assert_ne!(multipart_etag(parts.into_iter().rev()), multipart_etag(parts.into_iter()));
    }
}
