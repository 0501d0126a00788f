//! The trailer of an `aws-chunked` body: fields after the last chunk, announced in `x-amz-trailer`.

use crate::{
    auth::decode_signature,
    error::{ErrorCode, S3Error, S3Result},
};
use ashlar_types::BodyError;
use http::{HeaderMap, HeaderName};
use sha2::{Digest, Sha256};

const TRAILER: HeaderName = HeaderName::from_static("x-amz-trailer");
const SIGNATURE: &str = "x-amz-trailer-signature";

/// More than one checksum is never needed; SDKs announce one.
const FIELDS_MAX: usize = 8;
/// Without its line end. The longest checksum has 44 characters.
pub(super) const LINE_LEN_MAX: usize = 1024;

/// Names in lower case.
pub(super) type Announced = Vec<String>;

/// The names in `x-amz-trailer`.
pub(super) fn announced(headers: &HeaderMap) -> S3Result<Announced> {
    let refuse = |why: &str| S3Error::new(ErrorCode::InvalidRequest).message(why);
    let mut names: Announced = Vec::new();
    for value in headers.get_all(TRAILER) {
        let value = value.to_str().map_err(|_| refuse("x-amz-trailer is not text."))?;
        for name in value.split(',') {
            let name = HeaderName::from_bytes(name.trim_ascii().as_bytes())
                .map_err(|_| refuse("x-amz-trailer is not a list of header names."))?;
            if name == SIGNATURE || names.iter().any(|known| name == known.as_str()) {
                return Err(refuse("x-amz-trailer names a header twice, or the signature."));
            }
            if names.len() == FIELDS_MAX {
                return Err(refuse("x-amz-trailer names too many headers."));
            }
            names.push(name.as_str().to_owned());
        }
    }
    Ok(names)
}

/// A trailer as far as it was read.
#[derive(Debug)]
pub(super) struct TrailerReader {
    missing: Announced,
    fields: Vec<(String, String)>,
    canonical: Sha256,
    signature: Option<[u8; 32]>,
}

impl TrailerReader {
    pub(super) fn new(announced: Announced) -> Self {
        Self { missing: announced, fields: Vec::new(), canonical: Sha256::new(), signature: None }
    }

    /// One line, without its end. Each announced name once, then the signature.
    pub(super) fn line(&mut self, line: &[u8]) -> Result<(), BodyError> {
        let line = std::str::from_utf8(line).map_err(|_| BodyError::Malformed)?;
        let (name, value) = line.split_once(':').ok_or(BodyError::Malformed)?;
        let value = value.trim_ascii();
        if self.signature.is_some() || !value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
            return Err(BodyError::Malformed);
        }
        let name = name.to_ascii_lowercase();
        if name == SIGNATURE {
            self.signature = Some(decode_signature(value.as_bytes()).ok_or(BodyError::Signature)?);
            return Ok(());
        }
        let index = self.missing.iter().position(|known| *known == name).ok_or(BodyError::Malformed)?;
        self.missing.swap_remove(index);
        self.canonical.update(format!("{name}:{value}\n"));
        self.fields.push((name, value.to_owned()));
        Ok(())
    }

    /// All lines were read: the fields, the digest that is signed, and the signature.
    pub(super) fn finish(self) -> Result<FinishedTrailer, BodyError> {
        if !self.missing.is_empty() {
            return Err(BodyError::Malformed);
        }
        Ok(FinishedTrailer {
            fields: self.fields,
            digest: self.canonical.finalize().into(),
            signature: self.signature,
        })
    }
}

#[derive(Debug)]
pub(super) struct FinishedTrailer {
    pub(super) fields: Vec<(String, String)>,
    pub(super) digest: [u8; 32],
    pub(super) signature: Option<[u8; 32]>,
}
