//! What clients called and what they were answered, in the order in which it happened.
//!
//! Names and values are those that clients see. Every value is written once in a history, so that a value that is
//! read tells which write it comes from.

use std::{collections::BTreeSet, fmt, time::Duration};

/// The place of an invocation or a return in the order of all of a history; no two are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Client(pub u32);

/// What is written: the bytes are made from it. Unique in a history, for each object and each upload of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(pub u64);

/// A key of a bucket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub bucket: String,
    pub key: String,
}

/// An S3 version id, `null` included.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionName(pub String);

/// An id of a multipart upload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UploadName(pub String);

/// The bytes of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Body {
    One(Value),
    /// Made by a Complete, of these parts in this order.
    Parts(Vec<Value>),
}

/// What must hold for a write to happen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Condition {
    #[default]
    Nothing,
    /// `If-None-Match: *`.
    Absent,
    /// `If-Match` with the tag of this body.
    Is(Body),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    Put {
        place: Place,
        value: Value,
        condition: Condition,
    },
    /// The latest version, or one by name.
    Get {
        place: Place,
        version: Option<VersionName>,
    },
    /// Without a name: of the key; it leaves a delete marker where the bucket is versioned.
    Delete {
        place: Place,
        version: Option<VersionName>,
        condition: Condition,
    },
    /// The condition is evaluated at the Complete as well.
    CreateUpload {
        place: Place,
        condition: Condition,
    },
    PutPart {
        place: Place,
        upload: UploadName,
        part: u16,
        value: Value,
    },
    /// Parts by number with the values whose tags the client names, of an upload whose creation was answered.
    Complete {
        place: Place,
        upload: UploadName,
        parts: Vec<(u16, Value)>,
        condition: Condition,
    },
    Abort {
        place: Place,
        upload: UploadName,
    },
    List(ListCall),
    /// The versions after a key, or after a version of it.
    ListVersions {
        bucket: String,
        prefix: String,
        key_after: String,
        version_after: Option<VersionName>,
        max_entries: u32,
    },
    /// The open uploads after a key, or after an upload of it.
    ListUploads {
        bucket: String,
        prefix: String,
        key_after: String,
        upload_after: Option<UploadName>,
        max_entries: u32,
    },
    CreateBucket {
        name: String,
    },
    DeleteBucket {
        name: String,
    },
    HeadBucket {
        name: String,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListCall {
    pub bucket: String,
    pub prefix: String,
    /// Empty: none.
    pub delimiter: String,
    /// Entries strictly after this text; empty for the first page.
    pub after: String,
    pub max_entries: u32,
}

/// What the client knows of what its call did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It takes effect at any time from its invocation on, or never: no answer, a time-out, a 5xx.
    Unknown,
    /// It surely has no effect, and tells nothing of what is stored: it was refused before it was proposed.
    NotDone,
    Done(Reply),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Put and Complete. The name where the bucket is or was versioned.
    Written {
        version: Option<VersionName>,
    },
    /// Get.
    Found {
        body: Body,
        version: Option<VersionName>,
    },
    /// Get of the latest version, or a condition that needs one: none is there, or a delete marker is the latest.
    NoSuchKey {
        marker: Option<VersionName>,
    },
    /// Get of a version by name.
    NoSuchVersion,
    /// The version named is a delete marker.
    IsMarker,
    /// A condition did not hold.
    PreconditionFailed,
    /// Delete. The marker that was made; where a version was named, it is gone now, and `marker` is its name if it was a
    /// marker.
    Deleted {
        marker: Option<VersionName>,
    },
    Upload(UploadName),
    PartWritten,
    NoSuchUpload,
    /// Complete: a part is not there or is another one.
    InvalidPart,
    Aborted,
    Objects(ObjectPage),
    Versions(VersionPage),
    Uploads(UploadPage),
    /// CreateBucket made or confirmed it, HeadBucket found it. Every bucket made has another number.
    Bucket {
        number: u64,
    },
    BucketDeleted,
    NoSuchBucket,
    BucketNotEmpty,
    /// Being created or deleted by somebody.
    BucketBusy,
}

/// In the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectPage {
    pub entries: Vec<Listed>,
    /// Where the next page begins, if there may be more.
    pub next: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed {
    Object { key: String, body: Body },
    CommonPrefix(String),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionPage {
    pub entries: Vec<ListedVersion>,
    pub next: Option<(String, Option<VersionName>)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedVersion {
    pub key: String,
    pub version: VersionName,
    pub latest: bool,
    /// `None` for a delete marker.
    pub body: Option<Body>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadPage {
    pub entries: Vec<(String, UploadName)>,
    pub next: Option<(String, Option<UploadName>)>,
}

/// One call of one client. A client may have several at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub client: Client,
    pub operation: Operation,
    pub invoked: Moment,
    /// `None` if nothing was answered by the end.
    pub returned: Option<Moment>,
    pub outcome: Outcome,
    /// Simulated time since the beginning, of both: for the reader of a violation only.
    pub times: (Duration, Option<Duration>),
}

/// Calls by invocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    pub calls: Vec<Call>,
    /// Buckets that have versioning enabled from the beginning to the end; the others never have.
    pub versioned: BTreeSet<String>,
}

/// Something that no correct store can have answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What rule was broken.
    pub rule: &'static str,
    /// By what, with the calls that show it.
    pub what: String,
}

impl Violation {
    pub fn new(rule: &'static str, what: impl Into<String>) -> Self {
        Self { rule, what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.what)
    }
}

impl Place {
    pub fn new(bucket: impl Into<String>, key: impl Into<String>) -> Self {
        Self { bucket: bucket.into(), key: key.into() }
    }
}

impl Operation {
    /// The key that it is about; listings and buckets have none.
    pub fn place(&self) -> Option<&Place> {
        match self {
            Self::Put { place, .. }
            | Self::Get { place, .. }
            | Self::Delete { place, .. }
            | Self::CreateUpload { place, .. }
            | Self::PutPart { place, .. }
            | Self::Complete { place, .. }
            | Self::Abort { place, .. } => Some(place),
            Self::List(_)
            | Self::ListVersions { .. }
            | Self::ListUploads { .. }
            | Self::CreateBucket { .. }
            | Self::DeleteBucket { .. }
            | Self::HeadBucket { .. } => None,
        }
    }

    /// It changes nothing, whatever it is answered.
    pub fn only_reads(&self) -> bool {
        match self {
            Self::Get { .. }
            | Self::List(_)
            | Self::ListVersions { .. }
            | Self::ListUploads { .. }
            | Self::HeadBucket { .. } => true,
            Self::Put { .. }
            | Self::Delete { .. }
            | Self::CreateUpload { .. }
            | Self::PutPart { .. }
            | Self::Complete { .. }
            | Self::Abort { .. }
            | Self::CreateBucket { .. }
            | Self::DeleteBucket { .. } => false,
        }
    }
}

impl Call {
    /// The answer came before the other call began.
    pub fn precedes(&self, later: &Self) -> bool {
        self.returned.is_some_and(|returned| returned < later.invoked)
    }

    pub fn reply(&self) -> Option<&Reply> {
        match &self.outcome {
            Outcome::Done(reply) => Some(reply),
            Outcome::Unknown | Outcome::NotDone => None,
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (began, ended) = self.times;
        write!(f, "[{}..", self.invoked.0)?;
        if let Some(returned) = self.returned {
            write!(f, "{}", returned.0)?;
        }
        write!(f, "] {began:.3?}..")?;
        if let Some(ended) = ended {
            write!(f, "{ended:.3?}")?;
        }
        write!(f, " client {}: {:?} -> {:?}", self.client.0, self.operation, self.outcome)
    }
}
