//! UploadPart.

use crate::{
    answer::Answer,
    call::Call,
    error::S3Result,
    headers::{checksum, plain},
};
use ashlar_types::service::UploadPart;
use http::{StatusCode, header};

pub(super) async fn handle(mut call: Call<'_>) -> S3Result<Answer> {
    let part = UploadPart {
        bucket: call.bucket_name().clone(),
        key: call.key().clone(),
        part_number: call.part_number()?,
        upload: call.upload()?,
        payload: call.object_payload()?,
    };
    let part = call.service.backend.upload_part(part).await.map_err(|error| call.about_upload(error))?;
    let mut answer = Answer::empty(StatusCode::OK);
    answer.headers.insert(header::ETAG, plain(part.etag.quoted()));
    if let Some(checksum) = &part.checksum {
        checksum::show_part(checksum, &mut answer.headers);
    }
    Ok(answer)
}
