//! HeadBucket.

use crate::{answer::Answer, call::Call, error::S3Result, headers::plain};
use http::StatusCode;

pub(super) async fn handle(call: Call<'_>) -> S3Result<Answer> {
    // The bucket the call was authorised for may have come from a cache; its group knows whether it is still there.
    call.service.backend.versioning(call.bucket_name()).await?;
    let mut answer = Answer::empty(StatusCode::OK);
    answer.headers.insert("x-amz-bucket-region", plain(call.service.region_of(call.bucket())));
    Ok(answer)
}
