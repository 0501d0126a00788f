//! HeadBucket.

use crate::{answer::Answer, call::Call, error::S3Result, headers::plain};
use http::StatusCode;

pub(super) fn handle(call: &Call<'_>) -> S3Result<Answer> {
    let mut answer = Answer::empty(StatusCode::OK);
    answer.headers.insert("x-amz-bucket-region", plain(call.service.region_of(call.bucket())));
    Ok(answer)
}
