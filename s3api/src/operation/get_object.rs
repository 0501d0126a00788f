//! GetObject and HeadObject: one answer, with or without its body.

use crate::{
    answer::{Answer, AnswerBody},
    call::Call,
    error::{ErrorCode, S3Error, S3Result},
    headers::{checksum, condition, metadata, plain, text, version},
    http_date,
    target::Query,
};
use ashlar_types::{
    Checksum, ChecksumAlgorithm, ChecksumKind, ObjectChecksum, ObjectError, RangeRequest, ReadCondition,
    VersionId, VersionInfo,
    service::{GetObject, ObjectRead, Selection},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    Body,
    HeadersOnly,
}

/// Query parameters that replace headers of the answer.
const OVERRIDES: [(&str, HeaderName); 6] = [
    ("response-content-type", header::CONTENT_TYPE),
    ("response-content-language", header::CONTENT_LANGUAGE),
    ("response-expires", header::EXPIRES),
    ("response-cache-control", header::CACHE_CONTROL),
    ("response-content-disposition", header::CONTENT_DISPOSITION),
    ("response-content-encoding", header::CONTENT_ENCODING),
];

pub(super) async fn handle(call: Call<'_>, want: Want) -> S3Result<Answer> {
    let version = version::asked(&call.query)?;
    let selection = selection(&call)?;
    let overrides = overrides(&call.query)?;
    let condition = condition::of_read(&call.headers)?;
    let read = match read(&call, version, selection, condition.clone(), want).await {
        Ok(mut found) if matches!(selection, Selection::Range(_)) => {
            if !condition::allows_range(&call.headers, &found.info)? {
                found = read(&call, version, Selection::Whole, condition, want)
                    .await
                    .map_err(|error| refusal(&call, version, error))?;
                return answer(&call, Selection::Whole, found, overrides, want);
            }
            found
        }
        Ok(found) => found,
        Err(ObjectError::InvalidRange) => {
            return out_of_range(&call, version, condition, overrides, want).await;
        }
        Err(error) => return Err(refusal(&call, version, error)),
    };
    answer(&call, selection, read, overrides, want)
}

fn selection(call: &Call<'_>) -> S3Result<Selection> {
    let range = text(&call.headers, "range")?;
    if call.query.has("partNumber") {
        let part = call.part_number()?;
        return if range.is_some() {
            Err(S3Error::new(ErrorCode::InvalidRequest)
                .message("Cannot specify both Range header and partNumber query parameter"))
        } else {
            Ok(Selection::Part(part))
        };
    }
    Ok(range.and_then(RangeRequest::parse).map_or(Selection::Whole, Selection::Range))
}

fn overrides(query: &Query) -> S3Result<Vec<(HeaderName, HeaderValue)>> {
    let mut headers = Vec::new();
    for (parameter, name) in OVERRIDES {
        if let Some(value) = query.filled(parameter) {
            let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| {
                S3Error::invalid_argument(parameter, value, "The value cannot be sent as a header.")
            })?;
            headers.push((name, value));
        }
    }
    Ok(headers)
}

async fn read(
    call: &Call<'_>,
    version: Option<VersionId>,
    selection: Selection,
    condition: ReadCondition,
    want: Want,
) -> Result<ObjectRead, ObjectError> {
    let get = GetObject {
        bucket: call.bucket_name().clone(),
        key: call.key().clone(),
        version,
        selection,
        condition,
        head: want == Want::HeadersOnly,
    };
    call.service.backend.get_object(get).await
}

/// A range past the end: 416 that tells the length, or the whole object if `If-Range` asks for that.
async fn out_of_range(
    call: &Call<'_>,
    version: Option<VersionId>,
    condition: ReadCondition,
    overrides: Vec<(HeaderName, HeaderValue)>,
    want: Want,
) -> S3Result<Answer> {
    let head = read(call, version, Selection::Whole, condition.clone(), Want::HeadersOnly)
        .await
        .map_err(|error| refusal(call, version, error))?;
    if !condition::allows_range(&call.headers, &head.info)? {
        let whole = read(call, version, Selection::Whole, condition, want)
            .await
            .map_err(|error| refusal(call, version, error))?;
        return answer(call, Selection::Whole, whole, overrides, want);
    }
    let size = head.info.size;
    Err(S3Error::new(ErrorCode::InvalidRange)
        .element("RangeRequested", text(&call.headers, "range")?.unwrap_or_default())
        .element("ActualObjectSize", size.to_string())
        .header(header::CONTENT_RANGE, plain(format!("bytes */{size}"))))
}

fn refusal(call: &Call<'_>, version: Option<VersionId>, error: ObjectError) -> S3Error {
    if matches!(error, ObjectError::IsDeleteMarker { .. }) {
        return S3Error::from(error).header(header::ALLOW, HeaderValue::from_static("DELETE"));
    }
    if let ObjectError::InvalidPartNumber { part_number } = error
        && call.service.config.conformance
    {
        return S3Error::new(ErrorCode::InvalidPart).element("PartNumber", part_number.to_string());
    }
    let names_version = error == ObjectError::NoSuchVersion;
    let refusal = call.about_key(error);
    match version {
        Some(id) if names_version => refusal.element("VersionId", id.to_string()),
        _ => refusal,
    }
}

fn answer(
    call: &Call<'_>,
    selection: Selection,
    read: ObjectRead,
    overrides: Vec<(HeaderName, HeaderValue)>,
    want: Want,
) -> S3Result<Answer> {
    let ObjectRead { info, show_version_id, range, not_modified, part, body } = read;
    let mut answer = Answer::empty(StatusCode::OK);
    let headers = &mut answer.headers;
    metadata::show(&info.metadata, headers);
    headers.insert(header::ETAG, plain(info.etag.quoted()));
    headers.insert(header::LAST_MODIFIED, plain(http_date::format_http(info.last_modified)));
    version::show(show_version_id.then_some(info.version_id), headers);
    for (name, value) in overrides {
        headers.insert(name, value);
    }
    if not_modified {
        // Of the fields that describe the object only those stay that a cache may update (RFC 9110 section 15.4.5).
        for name in [
            header::CONTENT_TYPE,
            header::CONTENT_ENCODING,
            header::CONTENT_LANGUAGE,
            header::CONTENT_DISPOSITION,
        ] {
            headers.remove(name);
        }
        answer.status = StatusCode::NOT_MODIFIED;
        return Ok(answer);
    }
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let partial = match selection {
        Selection::Whole => false,
        Selection::Range(_) => true,
        Selection::Part(_) => {
            if let Some(count) = info.parts_count {
                headers.insert("x-amz-mp-parts-count", HeaderValue::from(count));
            }
            // A range of no bytes cannot be written down.
            !range.is_empty()
        }
    };
    if partial {
        let (last, size) = (range.end.saturating_sub(1), info.size);
        headers.insert(header::CONTENT_RANGE, plain(format!("bytes {}-{last}/{size}", range.start)));
        answer.status = StatusCode::PARTIAL_CONTENT;
    }
    if checksum::wanted(&call.headers) {
        show_checksum(
            selection,
            range.len() == info.size,
            &info,
            part.and_then(|part| part.checksum),
            headers,
        );
    }
    let len = range.len();
    answer.body = match (want, body) {
        (Want::HeadersOnly, _) => AnswerBody::Withheld { len },
        (Want::Body, Some(stream)) => AnswerBody::Stream { stream, len },
        (Want::Body, None) if len == 0 => answer.body,
        (Want::Body, None) => return Err(ObjectError::Internal("a read came without its body").into()),
    };
    Ok(answer)
}

/// The checksum of exactly the bytes that are answered, where one is known.
fn show_checksum(
    selection: Selection,
    whole: bool,
    info: &VersionInfo,
    part: Option<Checksum>,
    headers: &mut HeaderMap,
) {
    match (selection, part) {
        (Selection::Part(_), Some(part)) => checksum::show_part(&part, headers),
        _ if !whole => {}
        _ => {
            if let Some(known) = info.checksum.clone().or_else(|| full_crc64(info)) {
                checksum::show(&known, headers);
            }
        }
    }
}

/// Where the writer declared no checksum, S3 shows the CRC-64/NVME that it computed itself.
fn full_crc64(info: &VersionInfo) -> Option<ObjectChecksum> {
    let checksum = Checksum::new(ChecksumAlgorithm::Crc64Nvme, &info.crc64?.to_be_bytes())?;
    Some(ObjectChecksum { checksum, kind: ChecksumKind::FullObject, parts: None })
}
