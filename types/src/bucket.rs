//! Bucket names and the versioning state of a bucket.

use crate::limits::{BUCKET_NAME_MAX_LEN, BUCKET_NAME_MIN_LEN};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A bucket name that follows the rules for general purpose buckets
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html>).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BucketName(String);

/// Which rule a bucket name breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BucketNameError {
    #[error("a bucket name has {BUCKET_NAME_MIN_LEN} to {BUCKET_NAME_MAX_LEN} characters")]
    Length,
    #[error("a bucket name consists of lower-case letters, digits, dots and hyphens")]
    Character,
    #[error("a bucket name begins and ends with a letter or a digit")]
    Edge,
    #[error("a bucket name has no two adjacent dots and no dot beside a hyphen")]
    Dots,
    #[error("a bucket name is not formatted like an IP address")]
    IpAddress,
    #[error("a bucket name does not use a reserved prefix or suffix")]
    Reserved,
}

const RESERVED_PREFIXES: [&str; 3] = ["xn--", "sthree-", "amzn-s3-demo-"];
const RESERVED_SUFFIXES: [&str; 4] = ["-s3alias", "--ol-s3", ".mrap", "--x-s3"];

impl BucketName {
    pub fn parse(name: &str) -> Result<Self, BucketNameError> {
        if !(BUCKET_NAME_MIN_LEN..=BUCKET_NAME_MAX_LEN).contains(&name.len()) {
            return Err(BucketNameError::Length);
        }
        if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-') {
            return Err(BucketNameError::Character);
        }
        let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
        if !edge(name.bytes().next()) || !edge(name.bytes().last()) {
            return Err(BucketNameError::Edge);
        }
        if name.contains("..") || name.contains(".-") || name.contains("-.") {
            return Err(BucketNameError::Dots);
        }
        if name.parse::<std::net::Ipv4Addr>().is_ok() {
            return Err(BucketNameError::IpAddress);
        }
        if RESERVED_PREFIXES.iter().any(|p| name.starts_with(p))
            || RESERVED_SUFFIXES.iter().any(|s| name.ends_with(s))
        {
            return Err(BucketNameError::Reserved);
        }
        Ok(Self(name.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for BucketName {
    type Error = BucketNameError;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::parse(&name)
    }
}

impl From<BucketName> for String {
    fn from(name: BucketName) -> Self {
        name.0
    }
}

impl fmt::Display for BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a new version does to the ones before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Versioning {
    /// Never enabled: every write replaces the null version.
    #[default]
    Unversioned,
    Enabled,
    /// Enabled once; writes replace the null version and keep the others.
    Suspended,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_at_and_past_the_limits() {
        for good in ["abc", "a.b", "a-b-c", "123", &"a".repeat(63), "my.bucket.name-1"] {
            assert!(BucketName::parse(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("ab", BucketNameError::Length),
            (&"a".repeat(64), BucketNameError::Length),
            ("Abc", BucketNameError::Character),
            ("a_b", BucketNameError::Character),
            ("a/b", BucketNameError::Character),
            ("..", BucketNameError::Length),
            ("-ab", BucketNameError::Edge),
            ("ab.", BucketNameError::Edge),
            ("a..b", BucketNameError::Dots),
            ("a.-b", BucketNameError::Dots),
            ("192.168.5.4", BucketNameError::IpAddress),
            ("xn--abc", BucketNameError::Reserved),
            ("abc-s3alias", BucketNameError::Reserved),
        ] {
            assert_eq!(BucketName::parse(bad), Err(why), "{bad}");
        }
    }
}
