//! PutObject.

use super::written;
use crate::{
    answer::Answer,
    call::Call,
    error::S3Result,
    headers::{condition, metadata},
};
use ashlar_types::service::PutObject;
use http::StatusCode;

pub(super) async fn handle(mut call: Call<'_>) -> S3Result<Answer> {
    let put = PutObject {
        bucket: call.bucket_name().clone(),
        key: call.key().clone(),
        metadata: metadata::parse(&call.headers, &call.identity.user.id)?,
        condition: condition::of_write(&call.headers)?,
        payload: call.object_payload()?,
    };
    let done = call.service.backend.put_object(put).await.map_err(|error| call.about_key(error))?;
    let mut answer = Answer::empty(StatusCode::OK);
    written::show(&done.etag, done.version_id, done.checksum.as_ref(), &mut answer.headers);
    Ok(answer)
}
