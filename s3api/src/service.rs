//! The S3 service: one request in, one response out.
//!
//! Owns the order of things: authenticate, route, look the bucket up, authorise, and only then read a byte of the
//! body and run the operation; and the headers that every answer has. Knows nothing of sockets (see `server`).

use crate::{
    access_log::AccessRecord,
    answer::{Answer, AnswerBody},
    auth::{self, AuthConfig, Verified},
    authorise::{authorise, check_expected_owner},
    backend::Backend,
    call::Call,
    error::{ErrorCode, S3Error, S3Result},
    headers::{copy_source, hoisted, plain, text, unsupported},
    http_date,
    incoming::{BoxError, Drained, Incoming},
    operation::{self, Operation},
    response_body::ResponseBody,
    target::Target,
};
use ashlar_runtime::{ClockExt, Env, RngExt};
use ashlar_types::service::BucketInfo;
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts,
};
use http_body::Body;
use std::{sync::Arc, time::Duration};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");
const HOST_ID: HeaderName = HeaderName::from_static("x-amz-id-2");
const SERVER: HeaderValue = HeaderValue::from_static("Ashlar");

/// Settings of the S3 front end of one node.
#[derive(Clone, Debug)]
pub struct S3Config {
    /// Label of metrics.
    pub node: Arc<str>,
    /// `x-amz-id-2` and `HostId`: which node answered. Visible ASCII.
    pub host_id: String,
    /// Shown for buckets that were created without a location.
    pub region: String,
    pub auth: AuthConfig,
    /// A request body of which no byte arrives for this long is given up.
    pub body_idle_max: Duration,
    /// From the head of a request to the head of its response.
    pub request_time_max: Duration,
    pub connections: ConnectionLimits,
    /// Answers as the ceph/s3-tests suite wants them where it differs from AWS: reading a part that an object does not
    /// have is 400 `InvalidPart`, not 416 `InvalidPartNumber`.
    pub conformance: bool,
}

/// Bounds of the accept loop.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    /// Further clients wait in the listener's queue.
    pub open_max: usize,
    /// From the start of a connection, or the end of the last response, to the end of the next request's head.
    pub head_time_max: Duration,
    /// A response of which the client takes no byte for this long is given up.
    pub write_idle_max: Duration,
    /// How long requests in flight may go on after the shutdown began.
    pub shutdown_time_max: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            open_max: 4096,
            head_time_max: Duration::from_secs(30),
            write_idle_max: Duration::from_secs(60),
            shutdown_time_max: Duration::from_secs(10),
        }
    }
}

impl Default for S3Config {
    fn default() -> Self {
        Self {
            node: Arc::from(""),
            host_id: String::new(),
            region: "us-east-1".to_owned(),
            auth: AuthConfig::default(),
            body_idle_max: Duration::from_secs(30),
            request_time_max: Duration::from_mins(15),
            connections: ConnectionLimits::default(),
            conformance: false,
        }
    }
}

/// The S3 protocol over an object service.
pub struct S3Service {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) env: Env,
    pub(crate) config: S3Config,
}

impl std::fmt::Debug for S3Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Service").field("config", &self.config).finish_non_exhaustive()
    }
}

/// What a request means, as far as that is known before anybody is asked.
struct Routed {
    operation: Operation,
    target: Target,
    headers: HeaderMap,
}

impl S3Service {
    pub fn new(backend: Arc<dyn Backend>, env: Env, config: S3Config) -> Self {
        Self { backend, env, config }
    }

    /// Where a bucket is, as clients see it.
    pub(crate) fn region_of<'a>(&'a self, bucket: &'a BucketInfo) -> &'a str {
        if bucket.location.is_empty() { &self.config.region } else { &bucket.location }
    }

    /// Answers one request. Dropping the future abandons it.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<ResponseBody>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (parts, body) = request.into_parts();
        let body = Incoming::new(body);
        let mut record = AccessRecord::new(
            Arc::clone(&self.env.clock),
            Arc::clone(&self.config.node),
            format!("{:016x}", self.env.rng.u64()),
            parts.method.clone(),
        );
        let routed = route(&parts);
        record.operation = routed.as_ref().ok().map(|routed| routed.operation);

        let work = Box::pin(self.answer(&parts, routed, body.clone()));
        let outcome = match self.env.clock.timeout(self.config.request_time_max, work).await {
            Ok(outcome) => outcome,
            Err(_) => Err(S3Error::new(ErrorCode::RequestTimeout).closing()),
        };
        let close = outcome.as_ref().is_err_and(|error| error.close);
        let mut answer = outcome.unwrap_or_else(|error| {
            tracing::debug!(request_id = record.request_id(), code = error.code.name(), "refused");
            self.refusal(&error, &parts, record.request_id())
        });
        let expects_continue = parts.headers.contains_key(header::EXPECT);
        if close || body.drain(&*self.env.clock, expects_continue).await == Drained::Rest {
            answer.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        record.answer(answer.status, body.read_bytes());
        self.finish(answer, &parts.method, record)
    }

    async fn answer(&self, parts: &Parts, routed: S3Result<Routed>, body: Incoming) -> S3Result<Answer> {
        // Before anything else: who asks for nonsense is not told about it before it is known who asks.
        let verified =
            auth::verify(parts, routed, &*self.backend, &*self.env.clock, &self.config.auth).await?;
        operation::dispatch(self.admit(verified, body).await?).await
    }

    /// From an authenticated request to one that may be run.
    async fn admit(&self, verified: Verified<S3Result<Routed>>, body: Incoming) -> S3Result<Call<'_>> {
        let (routed, identity, payload) = verified.into_parts();
        let Routed { operation, target, headers } = routed?;
        unsupported::refuse(operation, &headers)?;
        let bucket = match target.resource.bucket() {
            Some(name) if operation != Operation::CreateBucket => {
                let bucket = self.backend.bucket(name).await;
                let bucket =
                    bucket.map_err(|error| S3Error::from(error).element("BucketName", name.as_str()))?;
                check_expected_owner(text(&headers, "x-amz-expected-bucket-owner")?, &bucket)?;
                Some(bucket)
            }
            _ => None,
        };
        let permit = authorise(&identity, operation, bucket.as_ref())?;
        let source = if operation.row().source_action.is_some() {
            let source = copy_source::parse(&headers)?;
            let name = &source.bucket;
            let bucket = self.backend.bucket(name).await;
            let bucket = bucket.map_err(|error| S3Error::from(error).element("BucketName", name.as_str()))?;
            check_expected_owner(text(&headers, "x-amz-source-expected-bucket-owner")?, &bucket)?;
            authorise(&identity, Operation::GetObject, Some(&bucket))?;
            Some(source)
        } else {
            None
        };
        let Target { resource, query } = target;
        Ok(Call {
            service: self,
            operation,
            identity,
            headers,
            query,
            resource,
            bucket,
            source,
            payload,
            body,
            _permit: permit,
        })
    }

    fn refusal(&self, error: &S3Error, parts: &Parts, request_id: &str) -> Answer {
        let document = error.to_xml(parts.uri.path(), request_id, &self.config.host_id);
        let mut answer = Answer::document(document);
        answer.status = error.status();
        answer.headers.extend(error.headers.iter().cloned());
        if parts.method == Method::HEAD {
            // What the body would have said is lost: RFC 9110 allows no body here, and S3 has no other place for it.
            answer.headers.remove(header::CONTENT_TYPE);
            answer.body = AnswerBody::Bytes(Bytes::new());
        }
        answer
    }

    fn finish(&self, answer: Answer, method: &Method, record: AccessRecord) -> Response<ResponseBody> {
        let Answer { status, mut headers, body } = answer;
        let len = match &body {
            AnswerBody::Bytes(bytes) => bytes.len() as u64,
            AnswerBody::Stream { len, .. } | AnswerBody::Withheld { len } => *len,
        };
        // RFC 9110 section 8.6: these two have no body, and say nothing of its length. Refused HEADs have none either.
        let bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
            || (*method == Method::HEAD && !matches!(body, AnswerBody::Withheld { .. }));
        if !bodiless {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(len));
        }
        headers.insert(header::DATE, plain(http_date::format_http(self.env.clock.wall())));
        headers.insert(header::SERVER, SERVER);
        headers.insert(REQUEST_ID, plain(record.request_id()));
        headers.insert(HOST_ID, plain(&self.config.host_id));
        let mut response = Response::new(ResponseBody::new(body, record));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

fn route(parts: &Parts) -> S3Result<Routed> {
    let target = Target::parse(&parts.uri)?;
    let mut headers = parts.headers.clone();
    hoisted::hoist(&mut headers, &target.query)?;
    let operation = operation::route(&parts.method, target.resource.level(), &target.query, &headers)?;
    Ok(Routed { operation, target, headers })
}
