//! CreateBucket.

use crate::{
    answer::Answer,
    call::{Call, Digest},
    error::{ErrorCode, S3Error, S3Result},
    headers::plain,
};
use ashlar_types::ObjectError;
use http::{StatusCode, header};

/// No region of any provider has a longer name.
const LOCATION_LEN_MAX: usize = 64;

pub(super) async fn handle(mut call: Call<'_>) -> S3Result<Answer> {
    let document = call.optional_xml("CreateBucketConfiguration", Digest::Optional).await?;
    let location = document
        .as_ref()
        .and_then(|root| root.child("LocationConstraint"))
        .map_or("", |location| location.trimmed());
    if location.len() > LOCATION_LEN_MAX {
        return Err(
            S3Error::new(ErrorCode::InvalidLocationConstraint).element("LocationConstraint", location)
        );
    }
    let name = call.bucket_name();
    match call.service.backend.create_bucket(name, &call.identity.user.id, location).await {
        // Creating one's own bucket again succeeds and changes nothing, so a retry after a lost answer does too.
        Ok(_) | Err(ObjectError::BucketAlreadyOwnedByYou) => {
            let mut answer = Answer::empty(StatusCode::OK);
            answer.headers.insert(header::LOCATION, plain(format!("/{name}")));
            Ok(answer)
        }
        Err(error) => Err(S3Error::from(error).element("BucketName", name.as_str())),
    }
}
