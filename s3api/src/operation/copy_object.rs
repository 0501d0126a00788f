//! CopyObject.

use super::page;
use crate::{
    answer::Answer,
    call::Call,
    error::{ErrorCode, S3Error, S3Result},
    headers::{checksum, condition, metadata, plain, text, version},
    http_date,
    xml::XmlWriter,
};
use ashlar_types::{
    EtagCondition, ObjectError, ObjectMetadata, VersionId, VersionInfo,
    service::{CopyObject, CopySource, GetObject, Selection},
};
use http::HeaderName;

pub(super) const SOURCE_VERSION_ID: HeaderName = HeaderName::from_static("x-amz-copy-source-version-id");

/// Whether metadata or tags come from the source or from the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Directive {
    Copy,
    Replace,
}

impl Directive {
    fn parse(call: &Call<'_>, header: &'static str) -> S3Result<Self> {
        match text(&call.headers, header)? {
            None | Some("COPY") => Ok(Self::Copy),
            Some("REPLACE") => Ok(Self::Replace),
            Some(other) => Err(S3Error::invalid_argument(header, other, format!("Unknown {header}."))),
        }
    }
}

pub(super) async fn handle(mut call: Call<'_>) -> S3Result<Answer> {
    let mut source = call.take_source();
    let replace_metadata = new_metadata(&call, &mut source).await?;
    let copy = CopyObject {
        bucket: call.bucket_name().clone(),
        key: call.key().clone(),
        replace_metadata,
        owner: call.identity.user.id.clone(),
        condition: condition::of_write(&call.headers)?,
        checksum: checksum::algorithm(&call.headers)?,
        source,
    };
    let source_key = copy.source.key.clone();
    let copied = call
        .service
        .backend
        .copy_object(copy)
        .await
        .map_err(|error| source_refusal(error).element("Key", source_key.as_str()))?;

    let mut xml = XmlWriter::new("CopyObjectResult");
    xml.element("LastModified", http_date::format_iso(copied.written.last_modified));
    page::etag(&mut xml, &copied.written.etag);
    page::checksum(&mut xml, copied.written.checksum.as_ref());
    let mut answer = Answer::xml(xml);
    version::show(copied.written.version_id, &mut answer.headers);
    if let Some(id) = copied.source_version_id {
        answer.headers.insert(SOURCE_VERSION_ID, plain(id.to_string()));
    }
    Ok(answer)
}

/// The metadata of the copy where it is not simply the source's. If some of it is, the source is read first and
/// then pinned, so that bytes and metadata are of one version.
async fn new_metadata(call: &Call<'_>, source: &mut CopySource) -> S3Result<Option<ObjectMetadata>> {
    let directive = Directive::parse(call, "x-amz-metadata-directive")?;
    let tagging = Directive::parse(call, "x-amz-tagging-directive")?;
    let given = metadata::parse(&call.headers, &call.identity.user.id)?;
    let changes_class = call.headers.contains_key("x-amz-storage-class");
    let redirects = given.headers.website_redirect.is_some();
    if (directive, tagging, changes_class || redirects) == (Directive::Copy, Directive::Copy, false) {
        let onto_itself =
            source.version.is_none() && source.bucket == *call.bucket_name() && source.key == *call.key();
        return if onto_itself {
            Err(S3Error::new(ErrorCode::InvalidRequest).message(
                "This copy request is illegal because it is trying to copy an object to itself without changing the \
                 object's metadata, storage class, website redirect location or encryption attributes.",
            ))
        } else {
            Ok(None)
        };
    }
    if (directive, tagging) == (Directive::Replace, Directive::Replace) {
        return Ok(Some(given));
    }
    let kept = pin(call, source).await?.metadata;
    let mut metadata = match directive {
        Directive::Copy => ObjectMetadata { storage_class: given.storage_class, ..kept.clone() },
        Directive::Replace => ObjectMetadata { tags: Vec::new(), ..given.clone() },
    };
    if redirects {
        metadata.headers.website_redirect = given.headers.website_redirect;
    }
    metadata.tags = match tagging {
        Directive::Copy => kept.tags,
        Directive::Replace => given.tags,
    };
    metadata.owner = given.owner;
    Ok(Some(metadata))
}

/// Reads the source's head under the client's conditions and makes sure that the copy is of the same version. The copy
/// evaluates `If-None-Match` and `If-Modified-Since` itself, which a head only answers with "not modified".
async fn pin(call: &Call<'_>, source: &mut CopySource) -> S3Result<VersionInfo> {
    let head = GetObject {
        bucket: source.bucket.clone(),
        key: source.key.clone(),
        version: source.version,
        selection: Selection::Whole,
        condition: source.condition.clone(),
        head: true,
    };
    let head = call
        .service
        .backend
        .get_object(head)
        .await
        .map_err(|error| source_refusal(error).element("Key", source.key.as_str()))?;
    match head.info.version_id {
        id @ VersionId::Id { .. } => source.version = Some(id),
        // A null version may be replaced by another one; its tag then differs.
        VersionId::Null => {
            source.condition.if_match = Some(EtagCondition::OneOf(vec![head.info.etag.clone()]));
        }
    }
    Ok(head.info)
}

/// What is refused about a source is not about the resource of the request.
pub(super) fn source_refusal(error: ObjectError) -> S3Error {
    let message = if matches!(error, ObjectError::IsDeleteMarker { .. }) {
        "The source of a copy request may not specifically refer to a delete marker by version id."
    } else if error == ObjectError::EntityTooLarge {
        "The specified copy source is larger than the maximum allowable size for a copy source: 5368709120"
    } else {
        return error.into();
    };
    S3Error::new(ErrorCode::InvalidRequest).message(message)
}
