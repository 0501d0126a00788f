//! An authenticated, routed and authorised request, as an operation sees it.

use crate::{
    auth::{Identity, PayloadMode},
    authorise::Permit,
    body,
    error::{ErrorCode, S3Error, S3Result},
    headers::checksum,
    incoming::Incoming,
    operation::{BodyKind, Operation},
    service::S3Service,
    target::{Query, Resource},
    xml::{self, Element},
};
use ashlar_hashing::EtagHasher;
use ashlar_types::{
    BodyStream, BucketName, ObjectError, ObjectKey, UploadId,
    limits::{PART_NUMBER_MAX, PUT_MAX_LEN},
    service::{BucketInfo, CopySource, ExpectedChecksum, Payload},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use http_body::Body;
use std::sync::Arc;

pub(crate) struct Call<'a> {
    pub(crate) service: &'a S3Service,
    pub(crate) operation: Operation,
    pub(crate) identity: Identity,
    pub(crate) headers: HeaderMap,
    pub(crate) query: Query,
    pub(crate) resource: Resource,
    /// The bucket of the resource, if the operation needs it to exist.
    pub(crate) bucket: Option<BucketInfo>,
    /// What `x-amz-copy-source` names, if the operation copies.
    pub(crate) source: Option<CopySource>,
    pub(crate) payload: PayloadMode,
    pub(crate) body: Incoming,
    pub(crate) _permit: Permit,
}

/// What digest a document comes with, besides the signed one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Digest {
    Optional,
    /// `Content-MD5` or a checksum.
    Required,
    /// The checksum headers are not about the document but about the object that it makes.
    OfObject,
}

impl Call<'_> {
    pub(crate) fn bucket_name(&self) -> &BucketName {
        self.resource.bucket().expect("the table gives the operation the level of buckets or objects")
    }

    pub(crate) fn bucket(&self) -> &BucketInfo {
        self.bucket.as_ref().expect("the service looks the bucket up for all operations that need it")
    }

    pub(crate) fn key(&self) -> &ObjectKey {
        self.resource.key().expect("the table gives the operation the level of objects")
    }

    pub(crate) fn take_source(&mut self) -> CopySource {
        self.source.take().expect("the service reads the source of operations that the table lets copy")
    }

    /// A refusal that concerns the resource's key.
    pub(crate) fn about_key(&self, error: ObjectError) -> S3Error {
        let names_key = matches!(error, ObjectError::NoSuchKey { .. } | ObjectError::NoSuchVersion);
        let error = S3Error::from(error);
        if names_key { error.element("Key", self.key().as_str()) } else { error }
    }

    /// A refusal that concerns the upload of the request.
    pub(crate) fn about_upload(&self, error: ObjectError) -> S3Error {
        if error == ObjectError::NoSuchUpload {
            let id = self.query.get("uploadId").unwrap_or_default();
            return S3Error::from(error).element("UploadId", id);
        }
        self.about_key(error)
    }

    /// `uploadId`. What does not parse is the id of no upload.
    pub(crate) fn upload(&self) -> S3Result<UploadId> {
        let id = self.query.get("uploadId").unwrap_or_default();
        id.parse().map_err(|_| S3Error::new(ErrorCode::NoSuchUpload).element("UploadId", id))
    }

    pub(crate) fn part_number(&self) -> S3Result<u16> {
        let number = self.query.get("partNumber").unwrap_or_default();
        number.parse().ok().filter(|n| (1..=PART_NUMBER_MAX).contains(n)).ok_or_else(|| {
            S3Error::invalid_argument(
                "partNumber",
                number,
                format!("Part number must be an integer between 1 and {PART_NUMBER_MAX}, inclusive"),
            )
        })
    }

    /// The body as a stream of its decoded bytes, and their count where the client declared it.
    fn stream(&mut self) -> S3Result<(BodyStream, Option<u64>)> {
        let payload = std::mem::replace(&mut self.payload, PayloadMode::Unsigned);
        body::decode(
            self.body.clone(),
            &self.headers,
            payload,
            Arc::clone(&self.service.env.clock),
            self.service.config.body_idle_max,
        )
    }

    /// The bytes of an object or part, unread.
    pub(crate) fn object_payload(&mut self) -> S3Result<Payload> {
        debug_assert_eq!(self.operation.row().body, BodyKind::Streaming);
        let content_md5 = checksum::content_md5(&self.headers)?;
        let checksum = checksum::declared(&self.headers)?;
        let (body, len) = self.stream()?;
        match len {
            Some(len) if len > PUT_MAX_LEN => Err(S3Error::new(ErrorCode::EntityTooLarge)
                .element("ProposedSize", len.to_string())
                .element("MaxSizeAllowed", PUT_MAX_LEN.to_string())),
            _ => Ok(Payload { body, len, content_md5, checksum }),
        }
    }

    /// The whole body of an operation that takes a document, verified against the digests that came with it.
    async fn document(&mut self, digest: Digest) -> S3Result<Bytes> {
        let BodyKind::Xml { len_max } = self.operation.row().body else {
            panic!("only operations with documents ask for one");
        };
        let md5 = checksum::content_md5(&self.headers)?;
        let declared = match digest {
            Digest::Optional | Digest::Required => checksum::declared(&self.headers)?,
            Digest::OfObject => None,
        };
        // Naming an algorithm alone proves nothing about the bytes.
        let proven =
            md5.is_some() || declared.as_ref().is_some_and(|d| d.expected != ExpectedChecksum::Compute);
        if digest == Digest::Required && !proven {
            return Err(checksum::invalid("Missing required header for this request: Content-MD5"));
        }
        let framed = |name| self.headers.contains_key(name);
        if !framed(header::CONTENT_LENGTH) && !framed(header::TRANSFER_ENCODING) && self.body.is_end_stream()
        {
            // Clients may leave the length of an empty body out. It is still held against the signed digest.
            self.headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        let (stream, len) = self.stream()?;
        if len.is_some_and(|len| len > len_max as u64) {
            return Err(S3Error::new(ErrorCode::MaxMessageLengthExceeded)
                .element("MaxMessageLengthBytes", len_max.to_string()));
        }
        let (bytes, trailers) = body::collect_with_trailers(stream, len_max).await?;
        if let Some(md5) = md5 {
            let mut hasher = EtagHasher::new();
            hasher.update(&bytes);
            if hasher.finish() != md5 {
                return Err(ObjectError::BadContentMd5.into());
            }
        }
        if let Some(declared) = declared {
            let actual = ashlar_hashing::checksum(declared.algorithm, &bytes);
            let matches = match declared.expected {
                ExpectedChecksum::Compute => true,
                ExpectedChecksum::Value(value) => value == actual,
                ExpectedChecksum::Trailer => {
                    let name = declared.algorithm.header();
                    let value = trailers.iter().find(|(known, _)| known == name);
                    let (_, value) =
                        value.ok_or_else(|| checksum::invalid(format!("The trailer {name} is missing.")))?;
                    *value.trim_ascii() == *actual.to_base64()
                }
            };
            if !matches {
                return Err(ObjectError::BadChecksum(declared.algorithm).into());
            }
        }
        Ok(bytes)
    }

    /// The document's root, which has to have this name. `None` for an empty body.
    pub(crate) async fn optional_xml(&mut self, root: &str, digest: Digest) -> S3Result<Option<Element>> {
        let document = self.document(digest).await?;
        if document.is_empty() {
            return Ok(None);
        }
        let element = xml::parse(&document, &xml::Limits::default())?;
        if element.name() == root { Ok(Some(element)) } else { Err(S3Error::new(ErrorCode::MalformedXML)) }
    }

    pub(crate) async fn xml(&mut self, root: &str, digest: Digest) -> S3Result<Element> {
        self.optional_xml(root, digest).await?.ok_or_else(|| S3Error::new(ErrorCode::MalformedXML))
    }
}
