//! The rows.

use crate::target::Level;
use http::Method;

/// What a client can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    ListBuckets,
    CreateBucket,
    HeadBucket,
    DeleteBucket,
    GetBucketLocation,
    GetBucketVersioning,
    PutBucketVersioning,
    ListObjects,
    ListObjectsV2,
    ListObjectVersions,
    ListMultipartUploads,
    DeleteObjects,
    GetObject,
    HeadObject,
    PutObject,
    CopyObject,
    DeleteObject,
    CreateMultipartUpload,
    UploadPart,
    UploadPartCopy,
    CompleteMultipartUpload,
    AbortMultipartUpload,
    ListParts,
}

/// What must be in a request for a row to be meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selector {
    /// A query parameter, with or without a value.
    Parameter(&'static str),
    /// A query parameter with exactly this value.
    Value(&'static str, &'static str),
    /// A header.
    Header(&'static str),
}

/// What becomes of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// Never read.
    None,
    /// Handed on as it arrives.
    Streaming,
    /// A document of at most so many bytes, collected.
    Xml { len_max: usize },
}

/// One operation.
#[derive(Clone, Debug)]
pub struct Row {
    pub operation: Operation,
    /// As in the names of the S3 API.
    pub name: &'static str,
    pub method: Method,
    pub level: Level,
    /// All of them have to be there.
    pub selectors: &'static [Selector],
    /// Parameters that it reads besides. Those that name subresources fit no row that does not list them.
    pub parameters: &'static [&'static str],
    /// The IAM action on the resource.
    pub action: &'static str,
    /// The IAM action where `versionId` names a version.
    pub version_action: Option<&'static str>,
    /// The IAM action on the source that `x-amz-copy-source` names.
    pub source_action: Option<&'static str>,
    pub body: BodyKind,
}

/// Configurations are small.
const CONFIG_LEN_MAX: usize = 64 << 10;
/// 1000 keys of 1024 bytes, or 10,000 parts.
const LIST_LEN_MAX: usize = 2 << 20;

const READ_PARAMETERS: &[&str] = &[
    "versionId",
    "partNumber",
    "response-content-type",
    "response-content-language",
    "response-expires",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
];

const fn row(
    operation: Operation,
    name: &'static str,
    method: Method,
    level: Level,
    selectors: &'static [Selector],
    action: &'static str,
) -> Row {
    Row {
        operation,
        name,
        method,
        level,
        selectors,
        parameters: &[],
        action,
        version_action: None,
        source_action: None,
        body: BodyKind::None,
    }
}

impl Row {
    const fn reads(mut self, parameters: &'static [&'static str]) -> Self {
        self.parameters = parameters;
        self
    }

    const fn of_version(mut self, action: &'static str) -> Self {
        self.version_action = Some(action);
        self
    }

    const fn copies(mut self) -> Self {
        self.source_action = Some("s3:GetObject");
        self
    }

    const fn takes(mut self, body: BodyKind) -> Self {
        self.body = body;
        self
    }
}

use Level::{Bucket, Object, Service};
use Selector::{Header, Parameter, Value};

const COPY_SOURCE: Selector = Header("x-amz-copy-source");
const UPLOAD_ID: Selector = Parameter("uploadId");
const PART_NUMBER: Selector = Parameter("partNumber");

/// Every operation, once, in the order of [`Operation`].
pub static TABLE: &[Row] = &[
    row(Operation::ListBuckets, "ListBuckets", Method::GET, Service, &[], "s3:ListAllMyBuckets").reads(&[
        "max-buckets",
        "continuation-token",
        "prefix",
        "bucket-region",
    ]),
    row(Operation::CreateBucket, "CreateBucket", Method::PUT, Bucket, &[], "s3:CreateBucket")
        .takes(BodyKind::Xml { len_max: CONFIG_LEN_MAX }),
    row(Operation::HeadBucket, "HeadBucket", Method::HEAD, Bucket, &[], "s3:ListBucket"),
    row(Operation::DeleteBucket, "DeleteBucket", Method::DELETE, Bucket, &[], "s3:DeleteBucket"),
    row(
        Operation::GetBucketLocation,
        "GetBucketLocation",
        Method::GET,
        Bucket,
        &[Parameter("location")],
        "s3:GetBucketLocation",
    ),
    row(
        Operation::GetBucketVersioning,
        "GetBucketVersioning",
        Method::GET,
        Bucket,
        &[Parameter("versioning")],
        "s3:GetBucketVersioning",
    ),
    row(
        Operation::PutBucketVersioning,
        "PutBucketVersioning",
        Method::PUT,
        Bucket,
        &[Parameter("versioning")],
        "s3:PutBucketVersioning",
    )
    .takes(BodyKind::Xml { len_max: CONFIG_LEN_MAX }),
    row(Operation::ListObjects, "ListObjects", Method::GET, Bucket, &[], "s3:ListBucket").reads(&[
        "prefix",
        "delimiter",
        "marker",
        "max-keys",
        "encoding-type",
    ]),
    row(
        Operation::ListObjectsV2,
        "ListObjectsV2",
        Method::GET,
        Bucket,
        &[Value("list-type", "2")],
        "s3:ListBucket",
    )
    .reads(&[
        "prefix",
        "delimiter",
        "continuation-token",
        "start-after",
        "fetch-owner",
        "max-keys",
        "encoding-type",
    ]),
    row(
        Operation::ListObjectVersions,
        "ListObjectVersions",
        Method::GET,
        Bucket,
        &[Parameter("versions")],
        "s3:ListBucketVersions",
    )
    .reads(&["prefix", "delimiter", "key-marker", "version-id-marker", "max-keys", "encoding-type"]),
    row(
        Operation::ListMultipartUploads,
        "ListMultipartUploads",
        Method::GET,
        Bucket,
        &[Parameter("uploads")],
        "s3:ListBucketMultipartUploads",
    )
    .reads(&["prefix", "delimiter", "key-marker", "upload-id-marker", "max-uploads", "encoding-type"]),
    row(
        Operation::DeleteObjects,
        "DeleteObjects",
        Method::POST,
        Bucket,
        &[Parameter("delete")],
        "s3:DeleteObject",
    )
    .of_version("s3:DeleteObjectVersion")
    .takes(BodyKind::Xml { len_max: LIST_LEN_MAX }),
    row(Operation::GetObject, "GetObject", Method::GET, Object, &[], "s3:GetObject")
        .of_version("s3:GetObjectVersion")
        .reads(READ_PARAMETERS),
    row(Operation::HeadObject, "HeadObject", Method::HEAD, Object, &[], "s3:GetObject")
        .of_version("s3:GetObjectVersion")
        .reads(READ_PARAMETERS),
    row(Operation::PutObject, "PutObject", Method::PUT, Object, &[], "s3:PutObject")
        .takes(BodyKind::Streaming),
    row(Operation::CopyObject, "CopyObject", Method::PUT, Object, &[COPY_SOURCE], "s3:PutObject").copies(),
    row(Operation::DeleteObject, "DeleteObject", Method::DELETE, Object, &[], "s3:DeleteObject")
        .of_version("s3:DeleteObjectVersion")
        .reads(&["versionId"]),
    row(
        Operation::CreateMultipartUpload,
        "CreateMultipartUpload",
        Method::POST,
        Object,
        &[Parameter("uploads")],
        "s3:PutObject",
    ),
    row(Operation::UploadPart, "UploadPart", Method::PUT, Object, &[PART_NUMBER, UPLOAD_ID], "s3:PutObject")
        .takes(BodyKind::Streaming),
    row(
        Operation::UploadPartCopy,
        "UploadPartCopy",
        Method::PUT,
        Object,
        &[PART_NUMBER, UPLOAD_ID, COPY_SOURCE],
        "s3:PutObject",
    )
    .copies(),
    row(
        Operation::CompleteMultipartUpload,
        "CompleteMultipartUpload",
        Method::POST,
        Object,
        &[UPLOAD_ID],
        "s3:PutObject",
    )
    .takes(BodyKind::Xml { len_max: LIST_LEN_MAX }),
    row(
        Operation::AbortMultipartUpload,
        "AbortMultipartUpload",
        Method::DELETE,
        Object,
        &[UPLOAD_ID],
        "s3:AbortMultipartUpload",
    ),
    row(Operation::ListParts, "ListParts", Method::GET, Object, &[UPLOAD_ID], "s3:ListMultipartUploadParts")
        .reads(&["part-number-marker", "max-parts", "encoding-type"]),
];

impl Operation {
    pub fn row(self) -> &'static Row {
        TABLE.iter().find(|row| row.operation == self).expect("the table has a row for every operation")
    }

    pub fn name(self) -> &'static str {
        self.row().name
    }
}
