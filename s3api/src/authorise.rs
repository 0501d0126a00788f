//! Who may do what. Deny by default.
//!
//! A bucket belongs to the user that made it, and only that user may use it. Decided before a byte of the body is
//! read and before any condition is looked at, so that a refusal says nothing about what exists inside.

use crate::{
    auth::Identity,
    error::{ErrorCode, S3Error, S3Result},
    operation::Operation,
};
use ashlar_types::service::BucketInfo;

/// Proof that [`authorise`] said yes; nothing else makes one.
#[derive(Debug)]
pub(crate) struct Permit(());

/// Decides whether `identity` may run `operation` on `bucket`: the bucket of the resource, or that of a copy's
/// source. `None` for the operations that need none.
pub(crate) fn authorise(
    identity: &Identity,
    operation: Operation,
    bucket: Option<&BucketInfo>,
) -> S3Result<Permit> {
    let allowed = match bucket {
        Some(bucket) => bucket.owner == identity.user.id,
        // One's own list, and a name that is still free; the directory refuses names that are taken.
        None => matches!(operation, Operation::ListBuckets | Operation::CreateBucket),
    };
    if allowed { Ok(Permit(())) } else { Err(S3Error::new(ErrorCode::AccessDenied)) }
}

/// Checks `x-amz-expected-bucket-owner` and its counterpart for copy sources.
pub(crate) fn check_expected_owner(expected: Option<&str>, bucket: &BucketInfo) -> S3Result<()> {
    match expected {
        Some(expected) if expected != bucket.owner => Err(S3Error::new(ErrorCode::AccessDenied)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{auth::AuthMode, operation::TABLE};
    use ashlar_types::{BucketId, BucketName, GroupId, Timestamp, service::User};

    #[test]
    fn only_the_owner_uses_a_bucket_and_only_two_operations_need_none() {
        let identity = |id: &str| Identity {
            user: User { id: id.into(), display_name: String::new(), email: String::new() },
            access_key_id: "AK".into(),
            mode: AuthMode::Header,
        };
        let bucket = BucketInfo {
            id: BucketId(1),
            name: BucketName::parse("bucket").unwrap(),
            owner: "owner".into(),
            created: Timestamp(0),
            location: String::new(),
            group: GroupId(1),
        };
        let mut without_bucket = 0;
        for row in TABLE {
            assert!(authorise(&identity("owner"), row.operation, Some(&bucket)).is_ok(), "{}", row.name);
            for stranger in ["other", "", "Owner"] {
                assert!(
                    authorise(&identity(stranger), row.operation, Some(&bucket)).is_err(),
                    "{}",
                    row.name
                );
            }
            without_bucket += usize::from(authorise(&identity("owner"), row.operation, None).is_ok());
        }
        assert_eq!(without_bucket, 2);
    }
}
