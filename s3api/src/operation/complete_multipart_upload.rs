//! CompleteMultipartUpload.

use super::page;
use crate::{
    answer::Answer,
    call::{Call, Digest},
    error::{ErrorCode, S3Error, S3Result},
    headers::{checksum, condition, number, text, version},
    xml::{Element, XmlWriter},
};
use ashlar_types::{
    Checksum, ChecksumAlgorithm, CompletedPart, ETag, limits::PART_NUMBER_MAX, service::CompleteUpload,
};
use http::header;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

const ENCODED_IN_PATH: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

pub(super) async fn handle(mut call: Call<'_>) -> S3Result<Answer> {
    let upload = call.upload()?;
    // The checksum headers of this request are of the object, not of the document.
    let root = call.xml("CompleteMultipartUpload", Digest::OfObject).await?;
    let parts = parts(&root)?;
    let complete = CompleteUpload {
        bucket: call.bucket_name().clone(),
        key: call.key().clone(),
        upload,
        condition: condition::of_write(&call.headers)?,
        checksum: checksum::of_object(&call.headers, parts.len())?,
        checksum_kind: checksum::kind(&call.headers)?,
        size: text(&call.headers, "x-amz-mp-object-size")?
            .map(|size| number("x-amz-mp-object-size", size))
            .transpose()?,
        parts,
    };
    let done =
        call.service.backend.complete_upload(complete).await.map_err(|error| call.about_upload(error))?;

    let mut xml = XmlWriter::new("CompleteMultipartUploadResult");
    xml.element("Location", location(&call)).element("Bucket", call.bucket_name()).element("Key", call.key());
    page::etag(&mut xml, &done.etag);
    page::checksum(&mut xml, done.checksum.as_ref());
    let mut answer = Answer::xml(xml);
    version::show(done.version_id, &mut answer.headers);
    Ok(answer)
}

/// The parts in the order named, which has to be ascending.
fn parts(root: &Element) -> S3Result<Vec<CompletedPart>> {
    let parts = root.children("Part").map(part).collect::<S3Result<Vec<_>>>()?;
    if parts.is_empty() || parts.len() > usize::from(PART_NUMBER_MAX) {
        return Err(S3Error::new(ErrorCode::MalformedXML));
    }
    if !parts.is_sorted_by(|a, b| a.part_number < b.part_number) {
        return Err(S3Error::new(ErrorCode::InvalidPartOrder));
    }
    Ok(parts)
}

fn part(element: &Element) -> S3Result<CompletedPart> {
    let malformed = || S3Error::new(ErrorCode::MalformedXML);
    let word = |name: &str| element.child(name).map(|child| child.trimmed());
    let number_text = word("PartNumber").ok_or_else(malformed)?;
    let part_number: i64 = number_text.parse().map_err(|_| malformed())?;
    let part_number =
        u16::try_from(part_number).ok().filter(|n| (1..=PART_NUMBER_MAX).contains(n)).ok_or_else(|| {
            S3Error::invalid_argument(
                "PartNumber",
                number_text,
                format!("Part number must be an integer between 1 and {PART_NUMBER_MAX}, inclusive"),
            )
        })?;
    let etag = word("ETag").map(ETag::parse).ok_or_else(malformed)?;
    let mut checksum = None;
    for algorithm in ChecksumAlgorithm::ALL {
        if let Some(value) = word(algorithm.element()) {
            let value = Checksum::from_base64(algorithm, value).ok_or_else(malformed)?;
            if checksum.replace(value).is_some() {
                return Err(malformed());
            }
        }
    }
    Ok(CompletedPart { part_number, etag, checksum })
}

fn location(call: &Call<'_>) -> String {
    let host = call.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let key = utf8_percent_encode(call.key().as_str(), ENCODED_IN_PATH);
    format!("http://{host}/{}/{key}", call.bucket_name())
}
