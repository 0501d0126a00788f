//! DeleteObject: a version by id, or the latest. Deleting what does not exist succeeds.

use crate::{
    answer::Answer,
    call::Call,
    error::S3Result,
    headers::{condition, version},
};
use ashlar_types::{
    ObjectError,
    service::{DeleteKey, Deleted},
};
use http::{HeaderMap, HeaderValue, StatusCode};

pub(super) async fn handle(call: Call<'_>) -> S3Result<Answer> {
    let key = DeleteKey {
        key: call.key().clone(),
        version: version::asked(&call.query)?,
        condition: condition::of_write(&call.headers)?,
    };
    let mut outcomes = call.service.backend.delete_objects(call.bucket_name(), vec![key]).await?;
    let deleted = outcomes
        .pop()
        .unwrap_or(Err(ObjectError::Internal("a delete without an outcome")))
        .map_err(|error| call.about_key(error))?;
    let mut answer = Answer::empty(StatusCode::NO_CONTENT);
    show(&deleted, &mut answer.headers);
    Ok(answer)
}

fn show(deleted: &Deleted, headers: &mut HeaderMap) {
    if deleted.delete_marker.is_some() {
        headers.insert(version::DELETE_MARKER, HeaderValue::from_static("true"));
    }
    version::show(deleted.delete_marker.or(deleted.version_id), headers);
}
