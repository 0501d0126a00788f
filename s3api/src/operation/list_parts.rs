//! ListParts of one upload.

use super::page::{Encoding, etag, page_size, person};
use crate::{
    answer::Answer,
    call::Call,
    error::S3Result,
    headers::{metadata, number},
    http_date,
    xml::XmlWriter,
};
use ashlar_types::service::ListParts;

pub(super) async fn handle(call: Call<'_>) -> S3Result<Answer> {
    let query = &call.query;
    let encoding = Encoding::parse(query)?;
    let max_parts = page_size(query, "max-parts")?;
    let marker = match query.filled("part-number-marker") {
        None => 0,
        // Any number may be named; past the last part there is nothing.
        Some(value) => u16::try_from(number::<u32>("part-number-marker", value)?).unwrap_or(u16::MAX),
    };
    let upload = call.upload()?;
    // The upload is looked up even if no part is asked for.
    let list = ListParts {
        bucket: call.bucket_name().clone(),
        key: call.key().clone(),
        upload,
        part_number_after: marker,
        max_parts: max_parts.max(1),
    };
    let mut page = call.service.backend.list_parts(list).await.map_err(|error| call.about_upload(error))?;
    if max_parts == 0 {
        page.parts.clear();
        page.truncated = false;
    }

    let mut xml = XmlWriter::new("ListPartsResult");
    xml.element("Bucket", call.bucket_name())
        .element("Key", encoding.encode(call.key().as_str()))
        .element("UploadId", upload);
    encoding.show(&mut xml);
    person(&mut xml, "Initiator", &call, &page.upload.metadata.owner);
    person(&mut xml, "Owner", &call, &page.upload.metadata.owner);
    xml.element("StorageClass", metadata::class_name(&page.upload.metadata))
        .element("PartNumberMarker", marker)
        .element("NextPartNumberMarker", page.parts.last().map_or(0, |part| part.part_number))
        .element("MaxParts", max_parts)
        .element("IsTruncated", page.truncated);
    if let Some((algorithm, kind)) = page.upload.checksum {
        xml.element("ChecksumAlgorithm", algorithm.name()).element("ChecksumType", kind.name());
    }
    for part in &page.parts {
        xml.open("Part")
            .element("PartNumber", part.part_number)
            .element("LastModified", http_date::format_iso(part.last_modified));
        etag(&mut xml, &part.etag);
        xml.element("Size", part.size);
        if let Some(checksum) = &part.checksum {
            xml.element(checksum.algorithm().element(), checksum.to_base64());
        }
        xml.close();
    }
    Ok(Answer::xml(xml))
}
