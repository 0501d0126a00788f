//! The S3 protocol: operation table, authentication, XML and errors.
