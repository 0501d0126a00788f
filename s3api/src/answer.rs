//! What an operation answers, before the headers that every answer has.

use crate::xml::XmlWriter;
use ashlar_types::ReadStream;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};

/// Status, headers and body of one answer.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: AnswerBody,
}

pub(crate) enum AnswerBody {
    Bytes(Bytes),
    /// Exactly `len` bytes.
    Stream {
        stream: ReadStream,
        len: u64,
    },
    /// None, though the headers speak of one of `len` bytes: an answer to HEAD.
    Withheld {
        len: u64,
    },
}

impl Answer {
    pub(crate) fn empty(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: AnswerBody::Bytes(Bytes::new()) }
    }

    pub(crate) fn xml(document: XmlWriter) -> Self {
        Self::document(document.finish())
    }

    /// A whole XML document.
    pub(crate) fn document(document: Vec<u8>) -> Self {
        let mut answer = Self::empty(StatusCode::OK);
        answer.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        answer.body = AnswerBody::Bytes(Bytes::from(document));
        answer
    }
}
