//! CreateMultipartUpload.

use crate::{
    answer::Answer,
    call::Call,
    error::S3Result,
    headers::{checksum, condition, metadata, plain},
    xml::XmlWriter,
};
use ashlar_types::service::CreateUpload;

pub(super) async fn handle(call: Call<'_>) -> S3Result<Answer> {
    let checksum = checksum::of_upload(&call.headers)?;
    let create = CreateUpload {
        bucket: call.bucket_name().clone(),
        key: call.key().clone(),
        metadata: metadata::parse(&call.headers, &call.identity.user.id)?,
        checksum,
        condition: condition::of_write(&call.headers)?,
    };
    let upload = call.service.backend.create_upload(create).await.map_err(|error| call.about_key(error))?;
    let mut xml = XmlWriter::new("InitiateMultipartUploadResult");
    xml.element("Bucket", call.bucket_name()).element("Key", call.key()).element("UploadId", upload.upload);
    let mut answer = Answer::xml(xml);
    if let Some((algorithm, kind)) = checksum {
        answer.headers.insert("x-amz-checksum-algorithm", plain(algorithm.name()));
        answer.headers.insert("x-amz-checksum-type", plain(kind.name()));
    }
    Ok(answer)
}
