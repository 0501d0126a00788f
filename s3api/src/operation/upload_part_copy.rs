//! UploadPartCopy: a part from bytes of another object.

use super::{
    copy_object::{SOURCE_VERSION_ID, source_refusal},
    page,
};
use crate::{
    answer::Answer,
    call::Call,
    error::S3Result,
    headers::{copy_source, plain},
    http_date,
    xml::XmlWriter,
};
use ashlar_types::{ObjectError, service::UploadPartCopy};

pub(super) async fn handle(mut call: Call<'_>) -> S3Result<Answer> {
    let source = call.take_source();
    let (source_key, source_version) = (source.key.clone(), source.version);
    let copy = UploadPartCopy {
        bucket: call.bucket_name().clone(),
        key: call.key().clone(),
        part_number: call.part_number()?,
        upload: call.upload()?,
        range: copy_source::range(&call.headers)?,
        source,
    };
    let part = call.service.backend.upload_part_copy(copy).await.map_err(|error| {
        if error == ObjectError::NoSuchUpload {
            call.about_upload(error)
        } else {
            source_refusal(error).element("Key", source_key.as_str())
        }
    })?;
    let mut xml = XmlWriter::new("CopyPartResult");
    xml.element("LastModified", http_date::format_iso(part.last_modified));
    page::etag(&mut xml, &part.etag);
    if let Some(checksum) = &part.checksum {
        xml.element(checksum.algorithm().element(), checksum.to_base64());
    }
    let mut answer = Answer::xml(xml);
    if let Some(id) = source_version {
        answer.headers.insert(SOURCE_VERSION_ID, plain(id.to_string()));
    }
    Ok(answer)
}
