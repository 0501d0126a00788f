//! S3 clients, and what an answer of the server proves.
//!
//! Time-outs, broken connections and 5xx prove nothing: the write may have happened or may happen yet. Treating
//! them as failures would hide exactly the bugs that the stories look for.

use crate::content::Content;
use anyhow::{Context, Result, anyhow, bail, ensure};
use aws_sdk_s3::{
    Client,
    config::{
        BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
        SharedHttpClient, StalledStreamProtectionConfig, retry::RetryConfig, timeout::TimeoutConfig,
    },
    error::{DisplayErrorContext, ProvideErrorMetadata, SdkError},
    primitives::ByteStream,
};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::time::Duration;

/// Attempts of a patient client: elections are over long before the last.
const PATIENT_ATTEMPTS: u32 = 8;
/// A loopback connection is refused or made at once, unless the process is stopped.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// Large parts through a build without optimisation, with fifteen others at it.
const PATIENT_ATTEMPT_WITHIN: Duration = Duration::from_secs(90);
/// What an exact client waits before it calls the outcome unknown.
const EXACT_ATTEMPT_WITHIN: Duration = Duration::from_secs(10);

/// A key pair, and the sockets that its clients share.
#[derive(Clone, Debug)]
pub struct Access {
    credentials: Credentials,
    http: SharedHttpClient,
}

impl Access {
    pub fn new(access_key: &str, secret_key: &str) -> Self {
        Self {
            credentials: Credentials::new(access_key, secret_key, None, None, "cluster-tests"),
            http: aws_smithy_http_client::Builder::new().build_http(),
        }
    }

    pub fn patient(&self, url: &str) -> Client {
        let retries = RetryConfig::standard()
            .with_max_attempts(PATIENT_ATTEMPTS)
            .with_initial_backoff(Duration::from_millis(200));
        self.client(url, retries, PATIENT_ATTEMPT_WITHIN)
    }

    /// Never repeats a request.
    pub fn exact(&self, url: &str) -> Client {
        self.client(url, RetryConfig::disabled(), EXACT_ATTEMPT_WITHIN)
    }

    fn client(&self, url: &str, retries: RetryConfig, attempt_within: Duration) -> Client {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_WITHIN)
            .operation_attempt_timeout(attempt_within)
            .build();
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(self.credentials.clone())
            .http_client(self.http.clone())
            .endpoint_url(url)
            .force_path_style(true)
            .retry_config(retries)
            .timeout_config(timeouts)
            // A slow machine is not a stalled stream; the timeouts above bound every call.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .request_checksum_calculation(RequestChecksumCalculation::WhenSupported)
            // Bytes are judged by the stories: a client that refuses wrong ones would hide who sent them.
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .build();
        Client::from_conf(config)
    }
}

/// What is known after one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<T> {
    Acked(T),
    /// 412: a condition did not hold. This is a read as well.
    Refused,
    /// 404.
    Absent,
    /// It may have happened or may happen yet.
    Unknown(String),
}

impl<T> Answer<T> {
    /// For calls that have to succeed.
    pub fn acked(self) -> Result<T> {
        match self {
            Self::Acked(value) => Ok(value),
            Self::Refused => bail!("412"),
            Self::Absent => bail!("404"),
            Self::Unknown(why) => bail!("{why}"),
        }
    }

    /// For reads that have to say whether something is there.
    pub fn found(self) -> Result<Option<T>> {
        match self {
            Self::Absent => Ok(None),
            other @ (Self::Acked(_) | Self::Refused | Self::Unknown(_)) => other.acked().map(Some),
        }
    }
}

/// An error is an answer that no correct server gives here: it ends the story.
pub fn judge<T, E>(result: Result<T, SdkError<E>>) -> Result<Answer<T>>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let error = match result {
        Ok(value) => return Ok(Answer::Acked(value)),
        Err(error) => error,
    };
    let text = format!("{}", DisplayErrorContext(&error));
    if matches!(error, SdkError::ConstructionFailure(_)) {
        bail!("the request could not be made: {text}");
    }
    let status = error.raw_response().map(|response| response.status().as_u16());
    match status {
        Some(412) => Ok(Answer::Refused),
        Some(404) => Ok(Answer::Absent),
        // 408: a body that stopped; 409: a conflicting operation is under way. Both may be tried again. A success
        // that the client could not understand was cut off.
        None | Some(200..300 | 408 | 409 | 500..600) => Ok(Answer::Unknown(text)),
        Some(status) => bail!("unexpected answer {status}: {text}"),
    }
}

pub async fn create_bucket(client: &Client, bucket: &str) -> Result<()> {
    client.create_bucket().bucket(bucket).send().await.map_err(told).context("creating a bucket")?;
    Ok(())
}

pub async fn put(client: &Client, bucket: &str, key: &str, content: Content) -> Result<Answer<()>> {
    let put = client.put_object().bucket(bucket).key(key).body(ByteStream::from(content.bytes()));
    Ok(match judge(put.send().await).with_context(|| format!("putting {key:?}"))? {
        Answer::Acked(_) => Answer::Acked(()),
        Answer::Refused => bail!("an unconditional put of {key:?} was refused"),
        Answer::Absent => bail!("putting {key:?}: 404"),
        Answer::Unknown(why) => Answer::Unknown(why),
    })
}

/// A put that has to succeed.
pub async fn put_now(client: &Client, bucket: &str, key: &str, content: Content) -> Result<()> {
    put(client, bucket, key, content).await?.acked().with_context(|| format!("putting {key:?}"))
}

/// What a read sent, without judging it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    pub len: u64,
    pub sha256: [u8; 32],
}

impl Sent {
    pub fn is(&self, content: Content) -> bool {
        self.len == content.len && self.sha256 == content.sha256()
    }
}

/// Reads a whole object. Unknown includes a body that ended early.
pub async fn get(client: &Client, bucket: &str, key: &str) -> Result<Answer<Sent>> {
    let answer = judge(client.get_object().bucket(bucket).key(key).send().await)?;
    let mut output = match answer {
        Answer::Acked(output) => output,
        Answer::Refused => bail!("an unconditional get of {key:?} was refused"),
        Answer::Absent => return Ok(Answer::Absent),
        Answer::Unknown(why) => return Ok(Answer::Unknown(why)),
    };
    let declared = output.content_length();
    let mut hash = Sha256::new();
    let mut len = 0;
    while let Some(bytes) = output.body.next().await {
        match bytes {
            Ok(bytes) => {
                len += bytes.len() as u64;
                hash.update(&bytes);
            }
            Err(error) => return Ok(Answer::Unknown(error.to_string())),
        }
    }
    ensure!(
        declared.is_some_and(|declared| u64::try_from(declared) == Ok(len)),
        "{key:?}: a body of {len} bytes was declared as {declared:?}"
    );
    Ok(Answer::Acked(Sent { len, sha256: hash.finalize().into() }))
}

/// A read of the whole that has to give exactly `content`.
pub async fn check_whole(client: &Client, bucket: &str, key: &str, content: Content) -> Result<()> {
    let sent = get(client, bucket, key).await?.acked().with_context(|| format!("{key:?} cannot be read"))?;
    ensure!(sent.is(content), "{key:?}: wrong bytes: {} of them instead of {}", sent.len, content.len);
    Ok(())
}

/// What a read came to whose bytes were compared as they arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compared {
    /// All of them, all right.
    Right,
    /// An error instead of bytes, or after right ones.
    Failed(String),
}

/// Reads `start..end` (or the whole) and compares every byte as it comes, also those before an error: wrong ones
/// are an error of the story whatever follows them.
pub async fn compare(
    client: &Client,
    bucket: &str,
    key: &str,
    content: Content,
    range: Option<(u64, u64)>,
) -> Result<Compared> {
    let (start, end) = range.unwrap_or((0, content.len));
    let header = range.map(|(start, end)| format!("bytes={start}-{}", end - 1));
    let get = client.get_object().bucket(bucket).key(key).set_range(header);
    let mut output = match judge(get.send().await)? {
        Answer::Acked(output) => output,
        Answer::Unknown(why) => return Ok(Compared::Failed(why)),
        other @ (Answer::Refused | Answer::Absent) => bail!("{key:?} {range:?}: {other:?}"),
    };
    let mut at = start;
    while let Some(bytes) = output.body.next().await {
        let bytes: Bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) => return Ok(Compared::Failed(error.to_string())),
        };
        let next = at + bytes.len() as u64;
        ensure!(next <= end && content.matches_at(at, &bytes), "{key:?}: wrong bytes in {at}..{next}");
        at = next;
    }
    ensure!(at == end, "{key:?}: a body of {start}..{end} ended at {at} without an error");
    Ok(Compared::Right)
}

/// A ranged read that has to give exactly these bytes of `content`.
pub async fn check_range(
    client: &Client,
    bucket: &str,
    key: &str,
    content: Content,
    (start, end): (u64, u64),
) -> Result<()> {
    match compare(client, bucket, key, content, Some((start, end))).await? {
        Compared::Right => Ok(()),
        Compared::Failed(why) => bail!("{key:?} {start}..{end} cannot be read: {why}"),
    }
}

/// An error of the SDK with its causes, which its own text leaves out.
pub fn told<E>(error: SdkError<E>) -> anyhow::Error
where
    E: std::error::Error + Send + Sync + 'static,
{
    anyhow!("{}", DisplayErrorContext(&error))
}

/// The bytes of a small object with its ETag, as one moment had them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub bytes: Bytes,
    pub etag: String,
}

/// Reads a small object.
pub async fn get_held(client: &Client, bucket: &str, key: &str) -> Result<Answer<Held>> {
    let output = match judge(client.get_object().bucket(bucket).key(key).send().await)? {
        Answer::Acked(output) => output,
        Answer::Refused => bail!("an unconditional get of {key:?} was refused"),
        Answer::Absent => return Ok(Answer::Absent),
        Answer::Unknown(why) => return Ok(Answer::Unknown(why)),
    };
    let etag = output.e_tag().context("an object has an ETag")?.to_owned();
    Ok(match output.body.collect().await {
        Ok(body) => Answer::Acked(Held { bytes: body.into_bytes(), etag }),
        Err(error) => Answer::Unknown(error.to_string()),
    })
}

/// The precondition of a write.
#[derive(Clone, Debug)]
pub enum Condition {
    IfMatch(String),
    IfNoneMatchAny,
}

/// A conditional write of a small object.
pub async fn put_if(
    client: &Client,
    bucket: &str,
    key: &str,
    bytes: Bytes,
    condition: &Condition,
) -> Result<Answer<()>> {
    let put = client.put_object().bucket(bucket).key(key).body(ByteStream::from(bytes));
    let put = match condition {
        Condition::IfMatch(etag) => put.if_match(etag),
        Condition::IfNoneMatchAny => put.if_none_match("*"),
    };
    Ok(match judge(put.send().await).with_context(|| format!("putting {key:?}"))? {
        Answer::Acked(_) => Answer::Acked(()),
        Answer::Refused => Answer::Refused,
        Answer::Absent => Answer::Absent,
        Answer::Unknown(why) => Answer::Unknown(why),
    })
}
