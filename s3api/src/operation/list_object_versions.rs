//! ListObjectVersions: all versions and delete markers, by key, newest first.

use super::page::{Encoding, object, page_size, person, prefixes, versions};
use crate::{
    answer::Answer,
    call::Call,
    error::{S3Error, S3Result},
    http_date,
    xml::XmlWriter,
};
use ashlar_types::{VersionId, VersionPage, VersionQuery};

pub(super) async fn handle(call: Call<'_>) -> S3Result<Answer> {
    let query = &call.query;
    let encoding = Encoding::parse(query)?;
    let max_entries = page_size(query, "max-keys")?;
    let prefix = query.get("prefix").unwrap_or_default();
    let delimiter = query.filled("delimiter").unwrap_or_default();
    let key_marker = query.get("key-marker").unwrap_or_default();
    let version_marker = query.filled("version-id-marker");
    let version_after = match version_marker {
        None => None,
        Some(id) if key_marker.is_empty() => {
            return Err(S3Error::invalid_argument(
                "version-id-marker",
                id,
                "A version-id marker cannot be specified without a key marker.",
            ));
        }
        Some(id) => Some(id.parse::<VersionId>().map_err(|_| {
            S3Error::invalid_argument("version-id-marker", id, "Invalid version id specified")
        })?),
    };
    let page = if max_entries == 0 {
        VersionPage::default()
    } else {
        let query = VersionQuery {
            prefix: prefix.into(),
            delimiter: delimiter.into(),
            key_after: key_marker.into(),
            version_after,
            max_entries,
        };
        call.service.backend.list_versions(call.bucket_name(), query).await?
    };

    let mut xml = XmlWriter::new("ListVersionsResult");
    xml.element("Name", call.bucket_name())
        .element("Prefix", encoding.encode(prefix))
        .element("KeyMarker", encoding.encode(key_marker))
        .element("VersionIdMarker", version_marker.unwrap_or_default())
        .element("MaxKeys", max_entries);
    if !delimiter.is_empty() {
        xml.element("Delimiter", encoding.encode(delimiter));
    }
    encoding.show(&mut xml);
    xml.element("IsTruncated", page.next.is_some());
    if let Some((key, version)) = &page.next {
        xml.element("NextKeyMarker", encoding.encode(key));
        xml.optional("NextVersionIdMarker", *version);
    }
    for info in versions(&page.entries) {
        xml.open(if info.delete_marker { "DeleteMarker" } else { "Version" })
            .element("Key", encoding.encode(info.key.as_str()))
            .element("VersionId", info.version_id)
            .element("IsLatest", info.is_latest);
        if info.delete_marker {
            xml.element("LastModified", http_date::format_iso(info.last_modified));
        } else {
            object(&mut xml, info);
        }
        person(&mut xml, "Owner", &call, &info.metadata.owner);
        xml.close();
    }
    encoding.common_prefixes(&mut xml, prefixes(&page.entries));
    Ok(Answer::xml(xml))
}
