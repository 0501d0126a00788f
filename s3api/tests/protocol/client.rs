//! A client that signs requests and hands them to the service.

use crate::{
    clock::TestClock,
    memory::{Memory, START, USERS},
};
use ashlar_runtime::{Env, Rng};
use ashlar_s3api::{
    Backend, ResponseBody, S3Config, S3Service,
    auth::sign::{SigV4Signer, SignedPayload},
    xml::{self, Element},
};
use ashlar_types::Timestamp;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Counts, so that request ids differ and repeat from run to run.
#[derive(Debug, Default)]
struct Counting(AtomicU64);

impl Rng for Counting {
    fn fill(&self, out: &mut [u8]) {
        let next = self.0.fetch_add(1, Ordering::Relaxed).to_le_bytes();
        for (byte, value) in out.iter_mut().zip(next.into_iter().cycle()) {
            *byte = value;
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signer {
    Main,
    Other,
    Nobody,
}

pub(crate) struct Client {
    pub(crate) service: Arc<S3Service>,
    pub(crate) backend: Arc<Memory>,
    pub(crate) clock: TestClock,
}

/// A request under construction.
pub(crate) struct Ask<'a> {
    client: &'a Client,
    method: Method,
    target: String,
    headers: HeaderMap,
    body: Bytes,
    signer: Signer,
    at: Timestamp,
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Client {
    pub(crate) fn new() -> Self {
        Self::with(S3Config { host_id: "host-1".to_owned(), ..S3Config::default() })
    }

    pub(crate) fn with(config: S3Config) -> Self {
        let backend = Arc::new(Memory::default());
        let clock = TestClock::default();
        let env = Env { clock: Arc::new(clock.clone()), rng: Arc::new(Counting::default()), ..Env::real() };
        let service = Arc::new(S3Service::new(Arc::clone(&backend) as Arc<dyn Backend>, env, config));
        Self { service, backend, clock }
    }

    /// With a bucket named `bucket`.
    pub(crate) async fn with_bucket() -> Self {
        let client = Self::new();
        client.put("/bucket").ok().await;
        client
    }

    pub(crate) fn ask(&self, method: Method, target: impl Into<String>) -> Ask<'_> {
        let (client, target) = (self, target.into());
        let (headers, body) = (HeaderMap::new(), Bytes::new());
        Ask { client, method, target, headers, body, signer: Signer::Main, at: START }
    }

    pub(crate) fn get(&self, target: impl Into<String>) -> Ask<'_> {
        self.ask(Method::GET, target)
    }

    pub(crate) fn head(&self, target: impl Into<String>) -> Ask<'_> {
        self.ask(Method::HEAD, target)
    }

    pub(crate) fn put(&self, target: impl Into<String>) -> Ask<'_> {
        self.ask(Method::PUT, target)
    }

    pub(crate) fn post(&self, target: impl Into<String>) -> Ask<'_> {
        self.ask(Method::POST, target)
    }

    pub(crate) fn delete(&self, target: impl Into<String>) -> Ask<'_> {
        self.ask(Method::DELETE, target)
    }

    pub(crate) async fn put_object(&self, target: &str, body: &'static str) -> Reply {
        self.put(target).body(body).ok().await
    }

    pub(crate) async fn enable_versioning(&self, status: &str) {
        let document =
            format!("<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>");
        self.put("/bucket?versioning").body(document).ok().await;
    }
}

pub(crate) fn signer(who: Signer) -> Option<SigV4Signer> {
    let user = match who {
        Signer::Main => USERS[0],
        Signer::Other => USERS[1],
        Signer::Nobody => return None,
    };
    Some(SigV4Signer::new(user.0, user.1, "us-east-1"))
}

impl<'a> Ask<'a> {
    pub(crate) fn header(mut self, name: &'static str, value: impl AsRef<[u8]>) -> Self {
        let value = HeaderValue::from_bytes(value.as_ref()).unwrap();
        self.headers.append(HeaderName::from_static(name), value);
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// A document with its digest.
    pub(crate) fn document(self, body: impl Into<String>) -> Self {
        let body = body.into();
        let mut md5 = ashlar_hashing::EtagHasher::new();
        md5.update(body.as_bytes());
        self.header("content-md5", STANDARD.encode(md5.finish())).body(body)
    }

    pub(crate) fn signed_by(mut self, signer: Signer) -> Self {
        self.signer = signer;
        self
    }

    pub(crate) fn at(mut self, time: Timestamp) -> Self {
        self.at = time;
        self
    }

    /// The signed request, as it would arrive.
    pub(crate) fn request(mut self) -> (&'a Client, Request<Full<Bytes>>) {
        let carries = matches!(self.method, Method::PUT | Method::POST) || !self.body.is_empty();
        if carries && !self.headers.contains_key("content-length") {
            self.headers.insert("content-length", HeaderValue::from(self.body.len()));
        }
        self.headers.insert("host", HeaderValue::from_static("s3.test"));
        let payload = SignedPayload::of(&self.body);
        let mut request = Request::new(Full::new(self.body));
        *request.method_mut() = self.method;
        *request.uri_mut() = self.target.parse().unwrap();
        *request.headers_mut() = self.headers;
        if let Some(signer) = signer(self.signer) {
            signer.sign(&mut request, self.at, &payload).unwrap();
        }
        (self.client, request)
    }

    pub(crate) async fn send(self) -> Reply {
        let (client, request) = self.request();
        client.send(request).await
    }

    /// Sends what must succeed.
    pub(crate) async fn ok(self) -> Reply {
        let reply = self.send().await;
        assert!(reply.status.is_success(), "{reply:?}");
        reply
    }

    /// Sends what must be refused, and says how.
    pub(crate) async fn refused(self) -> (u16, String) {
        let reply = self.send().await;
        (reply.status.as_u16(), reply.code())
    }
}

impl Client {
    pub(crate) async fn send<B>(&self, request: Request<B>) -> Reply
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let response: Response<ResponseBody> = self.service.handle(request).await;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Reply { status: parts.status, headers: parts.headers, body }
    }
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn xml(&self) -> Element {
        xml::parse(&self.body, &xml::Limits::default()).unwrap()
    }

    /// The error's code, or nothing for an answer without a document.
    pub(crate) fn code(&self) -> String {
        if self.body.is_empty() {
            return String::new();
        }
        self.xml().child_text("Code").unwrap_or_default().to_owned()
    }
}

/// The texts of all descendants of a document reached by one step and a name.
pub(crate) fn texts(root: &Element, child: &str, name: &str) -> Vec<String> {
    root.children(child).filter_map(|element| element.child_text(name)).map(str::to_owned).collect()
}
