//! Errors as S3 clients see them: code, status, message, further elements, headers.
//!
//! Owns the code table ([`ErrorCode`]) and the border between the object service's refusals and S3's. Does not write
//! responses: the server turns an [`S3Error`] into status, headers and [`S3Error::to_xml`].
//! Invariant: nothing that a caller may not know (secrets, the expected signature, the inside of the cluster) is ever
//! put into a message or element.

mod code;
mod object;

pub use code::ErrorCode;

use crate::xml::XmlWriter;
use http::{HeaderName, HeaderValue, StatusCode, header};
use std::fmt;

/// A refusal of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Error {
    pub code: ErrorCode,
    pub message: String,
    /// Elements between `Message` and `Resource`, such as `BucketName` or `ArgumentName`.
    pub elements: Vec<(&'static str, String)>,
    /// Headers of the answer besides those that every answer has.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The connection cannot be used for another request: the end of this one's body is unknown or unwanted.
    pub close: bool,
}

pub type S3Result<T> = Result<T, S3Error>;

impl S3Error {
    /// With the default message of the code.
    pub fn new(code: ErrorCode) -> Self {
        let mut error = Self {
            code,
            message: code.default_message().to_owned(),
            elements: Vec::new(),
            headers: Vec::new(),
            close: false,
        };
        if error.status() == StatusCode::SERVICE_UNAVAILABLE {
            error.headers.push((header::RETRY_AFTER, HeaderValue::from_static("1")));
        }
        error
    }

    #[must_use]
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// Adds an element to the XML of the answer.
    #[must_use]
    pub fn element(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.elements.push((name, value.into()));
        self
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Ends the connection after the answer.
    #[must_use]
    pub fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// `InvalidArgument` with the elements that S3 adds to it.
    pub fn invalid_argument(
        name: impl Into<String>,
        value: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self::new(ErrorCode::InvalidArgument)
            .message(message)
            .element("ArgumentName", name)
            .element("ArgumentValue", value)
    }

    pub fn status(&self) -> StatusCode {
        self.code.status()
    }

    /// The body of the answer. Unlike S3's other documents it has no namespace.
    pub fn to_xml(&self, resource: &str, request_id: &str, host_id: &str) -> Vec<u8> {
        let mut xml = XmlWriter::without_namespace("Error");
        xml.element("Code", self.code.name()).element("Message", &self.message);
        for (name, value) in &self.elements {
            xml.element(name, value);
        }
        xml.element("Resource", resource).element("RequestId", request_id).element("HostId", host_id);
        xml.finish()
    }
}

impl fmt::Display for S3Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.name(), self.message)
    }
}

impl std::error::Error for S3Error {}

impl From<ErrorCode> for S3Error {
    fn from(code: ErrorCode) -> Self {
        Self::new(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_all_elements_in_s3_order() {
        let error = S3Error::new(ErrorCode::NoSuchBucket).element("BucketName", "a<b");
        let text = String::from_utf8(error.to_xml("/a<b/k", "R1", "H1")).unwrap();
        assert_eq!(
            text,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>NoSuchBucket</Code>\
             <Message>The specified bucket does not exist</Message><BucketName>a&lt;b</BucketName>\
             <Resource>/a&lt;b/k</Resource><RequestId>R1</RequestId><HostId>H1</HostId></Error>"
        );
    }

    #[test]
    fn every_503_asks_to_retry() {
        for code in ErrorCode::ALL {
            let error = S3Error::new(*code);
            let asks = error.headers.iter().any(|(name, _)| name == header::RETRY_AFTER);
            assert_eq!(asks, error.status() == StatusCode::SERVICE_UNAVAILABLE, "{}", code.name());
        }
    }

    #[test]
    fn an_invalid_argument_names_the_argument() {
        let error = S3Error::invalid_argument("max-keys", "x", "not a number");
        assert_eq!(
            error.elements,
            [("ArgumentName", "max-keys".to_owned()), ("ArgumentValue", "x".to_owned())]
        );
    }
}
