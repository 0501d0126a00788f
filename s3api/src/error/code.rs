//! The table of error codes: name, HTTP status and default message
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>).

use http::StatusCode;

macro_rules! error_codes {
    ($($code:ident $status:ident $message:literal;)*) => {
        /// What went wrong, by the name that clients match on.
        #[allow(clippy::upper_case_acronyms, reason = "variants are spelled as S3 spells the codes")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $($code,)*
        }

        impl ErrorCode {
            pub const ALL: &[Self] = &[$(Self::$code,)*];

            /// As in the `Code` element.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$code => stringify!($code),)*
                }
            }

            pub fn status(self) -> StatusCode {
                match self {
                    $(Self::$code => StatusCode::$status,)*
                }
            }

            pub fn default_message(self) -> &'static str {
                match self {
                    $(Self::$code => $message,)*
                }
            }
        }
    };
}

error_codes! {
    AccessControlListNotSupported BAD_REQUEST "The bucket does not allow ACLs";
    AccessDenied FORBIDDEN "Access Denied";
    AccountProblem FORBIDDEN
        "There is a problem with your account that prevents the operation from completing successfully.";
    AmbiguousGrantByEmailAddress BAD_REQUEST
        "The email address you provided is associated with more than one account.";
    AuthorizationHeaderMalformed BAD_REQUEST "The authorization header that you provided is not valid.";
    AuthorizationQueryParametersError BAD_REQUEST
        "The authorization query parameters that you provided are not valid.";
    BadDigest BAD_REQUEST
        "The Content-MD5 or checksum value that you specified did not match what the server received.";
    BucketAlreadyExists CONFLICT
        "The requested bucket name is not available. The bucket namespace is shared by all users of the system. Select a different name and try again.";
    BucketAlreadyOwnedByYou CONFLICT
        "Your previous request to create the named bucket succeeded and you already own it.";
    BucketNotEmpty CONFLICT "The bucket you tried to delete is not empty.";
    ConditionalRequestConflict CONFLICT
        "A conflicting conditional operation is currently in progress against this resource. Try again.";
    CredentialsNotSupported BAD_REQUEST "This request does not support credentials.";
    CrossLocationLoggingProhibited FORBIDDEN "Cross-location logging is not allowed.";
    EntityTooLarge BAD_REQUEST "Your proposed upload exceeds the maximum allowed size.";
    EntityTooSmall BAD_REQUEST "Your proposed upload is smaller than the minimum allowed size.";
    ExpiredToken BAD_REQUEST "The provided token has expired.";
    IncompleteBody BAD_REQUEST
        "You did not provide the number of bytes specified by the Content-Length HTTP header.";
    InternalError INTERNAL_SERVER_ERROR "We encountered an internal error. Please try again.";
    InvalidAccessKeyId FORBIDDEN "The AWS Access Key Id you provided does not exist in our records.";
    InvalidArgument BAD_REQUEST "Invalid Argument";
    InvalidBucketAclWithObjectOwnership BAD_REQUEST
        "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting";
    InvalidBucketName BAD_REQUEST "The specified bucket is not valid.";
    InvalidBucketState CONFLICT "The request is not valid with the current state of the bucket.";
    InvalidDigest BAD_REQUEST "The Content-MD5 or checksum value that you specified is not valid.";
    InvalidEncryptionAlgorithmError BAD_REQUEST
        "The encryption request that you specified is not valid. The valid value is AES256.";
    InvalidLocationConstraint BAD_REQUEST "The specified location constraint is not valid.";
    InvalidObjectState FORBIDDEN "The operation is not valid for the current state of the object.";
    InvalidPart BAD_REQUEST
        "One or more of the specified parts could not be found. The part may not have been uploaded, or the specified entity tag may not match the part's entity tag.";
    InvalidPartNumber RANGE_NOT_SATISFIABLE "The requested partnumber is not satisfiable";
    InvalidPartOrder BAD_REQUEST
        "The list of parts was not in ascending order. The parts list must be specified in order by part number.";
    InvalidPayer FORBIDDEN "All access to this object has been disabled.";
    InvalidPolicyDocument BAD_REQUEST
        "The content of the form does not meet the conditions specified in the policy document.";
    InvalidRange RANGE_NOT_SATISFIABLE "The requested range is not satisfiable";
    InvalidRequest BAD_REQUEST "Invalid Request";
    InvalidRetentionPeriod BAD_REQUEST "The retention period is not valid.";
    InvalidSecurity FORBIDDEN "The provided security credentials are not valid.";
    InvalidStorageClass BAD_REQUEST "The storage class you specified is not valid.";
    InvalidTag BAD_REQUEST "The tag provided was not a valid tag.";
    InvalidTargetBucketForLogging BAD_REQUEST
        "The target bucket for logging does not exist, is not owned by you, or does not have the appropriate grants for the log-delivery group.";
    InvalidToken BAD_REQUEST "The provided token is malformed or otherwise not valid.";
    InvalidURI BAD_REQUEST "The specified URI couldn't be parsed.";
    InvalidWriteOffset BAD_REQUEST
        "The write offset value that you specified does not match the current object size.";
    KeyTooLongError BAD_REQUEST "Your key is too long.";
    LambdaFunctionStatusError BAD_REQUEST "The function answered with an error status.";
    MalformedACLError BAD_REQUEST
        "The XML you provided was not well-formed or did not validate against our published schema.";
    MalformedPOSTRequest BAD_REQUEST "The body of your POST request is not well-formed multipart/form-data.";
    MalformedPolicy BAD_REQUEST "Policy has invalid resource.";
    MalformedXML BAD_REQUEST
        "The XML you provided was not well-formed or did not validate against our published schema.";
    MaxMessageLengthExceeded BAD_REQUEST "Your request was too big.";
    MaxPostPreDataLengthExceededError BAD_REQUEST
        "Your POST request fields preceding the upload file were too large.";
    MetadataTooLarge BAD_REQUEST "Your metadata headers exceed the maximum allowed metadata size.";
    MethodNotAllowed METHOD_NOT_ALLOWED "The specified method is not allowed against this resource.";
    MissingContentLength LENGTH_REQUIRED "You must provide the Content-Length HTTP header.";
    MissingRequestBodyError BAD_REQUEST "Request body is empty.";
    MissingSecurityHeader BAD_REQUEST "Your request is missing a required header.";
    NoLoggingStatusForKey BAD_REQUEST "There is no such thing as a logging status subresource for a key.";
    NoSuchBucket NOT_FOUND "The specified bucket does not exist";
    NoSuchBucketPolicy NOT_FOUND "The bucket policy does not exist";
    NoSuchCORSConfiguration NOT_FOUND "The CORS configuration does not exist";
    NoSuchKey NOT_FOUND "The specified key does not exist.";
    NoSuchLifecycleConfiguration NOT_FOUND "The lifecycle configuration does not exist";
    NoSuchObjectLockConfiguration NOT_FOUND "The specified object does not have an ObjectLock configuration";
    NoSuchPublicAccessBlockConfiguration NOT_FOUND "The public access block configuration was not found";
    NoSuchTagSet NOT_FOUND "The TagSet does not exist";
    NoSuchUpload NOT_FOUND
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.";
    NoSuchVersion NOT_FOUND "The specified version does not exist.";
    NoSuchWebsiteConfiguration NOT_FOUND "The specified bucket does not have a website configuration";
    NotImplemented NOT_IMPLEMENTED
        "A header or query you provided implies functionality that is not implemented.";
    NotSignedUp FORBIDDEN "Your account is not signed up for the service.";
    NotSupported NOT_IMPLEMENTED "The operation is not supported.";
    ObjectLockConfigurationNotFoundError NOT_FOUND "Object Lock configuration does not exist for this bucket";
    OperationAborted CONFLICT
        "A conflicting conditional operation is currently in progress against this resource. Try again.";
    OwnershipControlsNotFoundError NOT_FOUND "The bucket ownership controls were not found";
    PermanentRedirect MOVED_PERMANENTLY
        "The bucket you are attempting to access must be addressed using the specified endpoint. Send all future requests to this endpoint.";
    PreconditionFailed PRECONDITION_FAILED "At least one of the pre-conditions you specified did not hold";
    QuotaExceeded FORBIDDEN "The bucket's quota does not allow the write.";
    Redirect TEMPORARY_REDIRECT "Temporary redirect.";
    ReplicationConfigurationNotFoundError NOT_FOUND "The replication configuration was not found";
    RequestIsNotMultiPartContent BAD_REQUEST
        "A bucket POST request must be of the enclosure type multipart/form-data.";
    RequestTimeTooSkewed FORBIDDEN
        "The difference between the request time and the current time is too large.";
    RequestTimeout BAD_REQUEST
        "Your socket connection to the server was not read from or written to within the timeout period.";
    RestoreAlreadyInProgress CONFLICT "Object restore is already in progress.";
    ServerSideEncryptionConfigurationNotFoundError NOT_FOUND
        "The server side encryption configuration was not found";
    ServiceUnavailable SERVICE_UNAVAILABLE "Service is unable to handle request.";
    SignatureDoesNotMatch FORBIDDEN
        "The request signature we calculated does not match the signature you provided. Check your key and signing method.";
    SlowDown SERVICE_UNAVAILABLE "Please reduce your request rate.";
    TemporaryRedirect TEMPORARY_REDIRECT "You are being redirected to the bucket while DNS updates.";
    TokenRefreshRequired BAD_REQUEST "The provided token must be refreshed.";
    TooManyBuckets BAD_REQUEST "You have attempted to create more buckets than are allowed for your account.";
    UnexpectedContent BAD_REQUEST "This request contains unsupported content.";
    UnresolvableGrantByEmailAddress BAD_REQUEST
        "The email address you provided does not match any account on record.";
    UserKeyMustBeSpecified BAD_REQUEST
        "The bucket POST request must contain the specified field name. If it is specified, check the order of the fields.";
    XAmzContentSHA256Mismatch BAD_REQUEST
        "The provided 'x-amz-content-sha256' header does not match what was computed.";
    XMinioHealNotImplemented BAD_REQUEST "Healing by request is not implemented.";
    XMinioLDAPNotEnabled NOT_IMPLEMENTED "LDAP is not enabled.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sorted_and_so_each_is_there_once() {
        assert!(ErrorCode::ALL.is_sorted_by_key(|code| code.name()));
    }

    #[test]
    fn statuses_that_clients_rely_on() {
        for (code, status) in [
            (ErrorCode::MissingContentLength, 411),
            (ErrorCode::PreconditionFailed, 412),
            (ErrorCode::InvalidRange, 416),
            (ErrorCode::InvalidPartNumber, 416),
            (ErrorCode::RequestTimeout, 400),
            (ErrorCode::SlowDown, 503),
            (ErrorCode::InvalidObjectState, 403),
        ] {
            assert_eq!(code.status().as_u16(), status, "{}", code.name());
        }
    }
}
