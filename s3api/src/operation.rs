//! The operation table: what each S3 operation is selected by, which action it needs and what body it takes.
//!
//! One static table generates routing, authorisation and the test matrix. A request that fits no row is refused; it
//! never falls through to a neighbouring operation, because `DELETE /bucket?policy` must not delete the bucket.

mod route;
mod table;

mod abort_multipart_upload;
mod complete_multipart_upload;
mod copy_object;
mod create_bucket;
mod create_multipart_upload;
mod delete_bucket;
mod delete_object;
mod delete_objects;
mod get_bucket_location;
mod get_bucket_versioning;
mod get_object;
mod head_bucket;
mod list_buckets;
mod list_multipart_uploads;
mod list_object_versions;
mod list_objects;
mod list_objects_v2;
mod list_parts;
mod page;
mod put_bucket_versioning;
mod put_object;
mod upload_part;
mod upload_part_copy;
mod written;

pub use route::{is_known_parameter, route};
pub use table::{BodyKind, Operation, Row, Selector, TABLE};

use crate::{answer::Answer, call::Call, error::S3Result};

/// Runs an authorised call.
pub(crate) async fn dispatch(call: Call<'_>) -> S3Result<Answer> {
    match call.operation {
        Operation::ListBuckets => list_buckets::handle(call).await,
        Operation::CreateBucket => create_bucket::handle(call).await,
        Operation::HeadBucket => head_bucket::handle(call).await,
        Operation::DeleteBucket => delete_bucket::handle(call).await,
        Operation::GetBucketLocation => get_bucket_location::handle(call).await,
        Operation::GetBucketVersioning => get_bucket_versioning::handle(call).await,
        Operation::PutBucketVersioning => put_bucket_versioning::handle(call).await,
        Operation::ListObjects => list_objects::handle(call).await,
        Operation::ListObjectsV2 => list_objects_v2::handle(call).await,
        Operation::ListObjectVersions => list_object_versions::handle(call).await,
        Operation::ListMultipartUploads => list_multipart_uploads::handle(call).await,
        Operation::DeleteObjects => delete_objects::handle(call).await,
        Operation::GetObject => get_object::handle(call, get_object::Want::Body).await,
        Operation::HeadObject => get_object::handle(call, get_object::Want::HeadersOnly).await,
        Operation::PutObject => put_object::handle(call).await,
        Operation::CopyObject => copy_object::handle(call).await,
        Operation::DeleteObject => delete_object::handle(call).await,
        Operation::CreateMultipartUpload => create_multipart_upload::handle(call).await,
        Operation::UploadPart => upload_part::handle(call).await,
        Operation::UploadPartCopy => upload_part_copy::handle(call).await,
        Operation::CompleteMultipartUpload => complete_multipart_upload::handle(call).await,
        Operation::AbortMultipartUpload => abort_multipart_upload::handle(call).await,
        Operation::ListParts => list_parts::handle(call).await,
    }
}
