//! ListMultipartUploads: by key, then by initiation.

use super::page::{Encoding, page_size, person};
use crate::{
    answer::Answer,
    call::Call,
    error::{S3Error, S3Result},
    headers::metadata,
    http_date,
    xml::XmlWriter,
};
use ashlar_types::{UploadId, UploadPage, UploadQuery};

pub(super) async fn handle(call: Call<'_>) -> S3Result<Answer> {
    let query = &call.query;
    let encoding = Encoding::parse(query)?;
    let max_entries = page_size(query, "max-uploads")?;
    let prefix = query.get("prefix").unwrap_or_default();
    let delimiter = query.filled("delimiter").unwrap_or_default();
    let key_marker = query.get("key-marker").unwrap_or_default();
    let upload_marker = query.filled("upload-id-marker").unwrap_or_default();
    // Without a key marker S3 ignores the upload marker.
    let upload_after = if key_marker.is_empty() || upload_marker.is_empty() {
        None
    } else {
        Some(upload_marker.parse::<UploadId>().map_err(|_| {
            S3Error::invalid_argument("upload-id-marker", upload_marker, "Invalid uploadId marker")
        })?)
    };
    let page = if max_entries == 0 {
        UploadPage::default()
    } else {
        let query = UploadQuery {
            prefix: prefix.into(),
            delimiter: delimiter.into(),
            key_after: key_marker.into(),
            upload_after,
            max_entries,
        };
        call.service.backend.list_uploads(call.bucket_name(), query).await?
    };

    let mut xml = XmlWriter::new("ListMultipartUploadsResult");
    xml.element("Bucket", call.bucket_name())
        .element("KeyMarker", encoding.encode(key_marker))
        .element("UploadIdMarker", upload_marker)
        .element("Prefix", encoding.encode(prefix));
    if !delimiter.is_empty() {
        xml.element("Delimiter", encoding.encode(delimiter));
    }
    encoding.show(&mut xml);
    xml.element("MaxUploads", max_entries).element("IsTruncated", page.next.is_some());
    if let Some((key, upload)) = &page.next {
        xml.element("NextKeyMarker", encoding.encode(key));
        xml.element("NextUploadIdMarker", upload.map(|upload| upload.to_string()).unwrap_or_default());
    }
    for upload in &page.uploads {
        xml.open("Upload")
            .element("Key", encoding.encode(upload.key.as_str()))
            .element("UploadId", upload.upload);
        person(&mut xml, "Initiator", &call, &upload.metadata.owner);
        person(&mut xml, "Owner", &call, &upload.metadata.owner);
        xml.element("StorageClass", metadata::class_name(&upload.metadata))
            .element("Initiated", http_date::format_iso(upload.initiated));
        if let Some((algorithm, kind)) = upload.checksum {
            xml.element("ChecksumAlgorithm", algorithm.name()).element("ChecksumType", kind.name());
        }
        xml.close();
    }
    encoding.common_prefixes(&mut xml, page.common_prefixes.iter().map(String::as_str));
    Ok(Answer::xml(xml))
}
