//! Which digests of a body are computed, and whether they are what the client declared.

use ashlar_hashing::{ObjectDigests, ObjectHasher};
use ashlar_types::{
    Checksum, ChecksumAlgorithm, ChecksumKind, ObjectChecksum, ObjectError,
    service::{DeclaredChecksum, ExpectedChecksum},
};

/// What is promised about the bytes of a body.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    content_md5: Option<[u8; 16]>,
    algorithm: ChecksumAlgorithm,
    value: ExpectedChecksum,
}

impl Expected {
    /// `otherwise` is computed and kept if the client declares no checksum.
    pub(crate) fn new(
        content_md5: Option<[u8; 16]>,
        declared: Option<DeclaredChecksum>,
        otherwise: ChecksumAlgorithm,
    ) -> Self {
        match declared {
            Some(declared) => Self { content_md5, algorithm: declared.algorithm, value: declared.expected },
            None => Self { content_md5, algorithm: otherwise, value: ExpectedChecksum::Compute },
        }
    }

    pub(crate) fn hasher(&self) -> ObjectHasher {
        ObjectHasher::new(Some(self.algorithm))
    }

    /// The checksum to keep, after everything declared was found true.
    pub(crate) fn verify(
        &self,
        digests: &ObjectDigests,
        trailers: &[(String, String)],
    ) -> Result<Checksum, ObjectError> {
        if self.content_md5.is_some_and(|declared| declared != digests.md5) {
            return Err(ObjectError::BadContentMd5);
        }
        let computed = digests
            .declared
            .clone()
            .ok_or(ObjectError::Internal("the hasher did not compute the checksum it was made for"))?;
        let declared = match &self.value {
            ExpectedChecksum::Compute => None,
            ExpectedChecksum::Value(value) => Some(value.clone()),
            ExpectedChecksum::Trailer => Some(self.trailer_value(trailers)?),
        };
        match declared {
            Some(declared) if declared != computed => Err(ObjectError::BadChecksum(self.algorithm)),
            Some(_) | None => Ok(computed),
        }
    }

    fn trailer_value(&self, trailers: &[(String, String)]) -> Result<Checksum, ObjectError> {
        let (_, value) = trailers
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(self.algorithm.header()))
            .ok_or(ObjectError::InvalidChecksum("The trailer promised by x-amz-trailer is missing."))?;
        Checksum::from_base64(self.algorithm, value)
            .ok_or(ObjectError::InvalidChecksum("The value of the checksum trailer is malformed."))
    }
}

/// The checksum of an object that was written in one piece covers all its bytes, whatever the algorithm.
pub(crate) fn of_whole(checksum: Checksum) -> ObjectChecksum {
    ObjectChecksum { checksum, kind: ChecksumKind::FullObject, parts: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_hashing::checksum;

    fn verify(
        bytes: &[u8],
        content_md5: Option<[u8; 16]>,
        declared: Option<(ChecksumAlgorithm, ExpectedChecksum)>,
        trailers: &[(&str, String)],
    ) -> Result<Checksum, ObjectError> {
        let declared = declared.map(|(algorithm, expected)| DeclaredChecksum { algorithm, expected });
        let expected = Expected::new(content_md5, declared, ChecksumAlgorithm::Crc64Nvme);
        let mut hasher = expected.hasher();
        hasher.update(bytes);
        let trailers: Vec<_> =
            trailers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        expected.verify(&hasher.finish(), &trailers)
    }

    #[test]
    fn without_a_declaration_crc64nvme_is_kept() {
        let kept = verify(b"abc", None, None, &[]).unwrap();
        assert_eq!(kept, checksum(ChecksumAlgorithm::Crc64Nvme, b"abc"));
    }

    #[test]
    fn a_wrong_md5_is_told_apart_from_a_wrong_checksum() {
        let md5 = |bytes: &[u8]| {
            let mut hasher = ObjectHasher::new(None);
            hasher.update(bytes);
            hasher.finish().md5
        };
        assert!(verify(b"abc", Some(md5(b"abc")), None, &[]).is_ok());
        assert_eq!(verify(b"abc", Some(md5(b"abd")), None, &[]), Err(ObjectError::BadContentMd5));
    }

    #[test]
    fn every_algorithm_is_held_against_header_and_trailer() {
        for algorithm in ChecksumAlgorithm::ALL {
            let (good, bad) = (checksum(algorithm, b"abc"), checksum(algorithm, b"abd"));
            let by_header = |value: &Checksum| {
                verify(b"abc", None, Some((algorithm, ExpectedChecksum::Value(value.clone()))), &[])
            };
            let by_trailer = |trailers: &[(&str, String)]| {
                verify(b"abc", None, Some((algorithm, ExpectedChecksum::Trailer)), trailers)
            };
            assert_eq!(by_header(&good), Ok(good.clone()));
            assert_eq!(by_header(&bad), Err(ObjectError::BadChecksum(algorithm)));
            assert_eq!(by_trailer(&[(algorithm.header(), good.to_base64())]), Ok(good.clone()));
            assert_eq!(
                by_trailer(&[(algorithm.header(), bad.to_base64())]),
                Err(ObjectError::BadChecksum(algorithm))
            );
            for broken in
                [vec![], vec![(algorithm.header(), "!".to_owned())], vec![("x-other", good.to_base64())]]
            {
                assert!(matches!(by_trailer(&broken), Err(ObjectError::InvalidChecksum(_))), "{broken:?}");
            }
        }
    }
}
