//! ListObjects, the first version: markers are keys.

use super::page::{Encoding, object, page_size, person, prefixes, versions};
use crate::{answer::Answer, call::Call, error::S3Result, xml::XmlWriter};
use ashlar_types::{ListPage, ListQuery};

pub(super) async fn handle(call: Call<'_>) -> S3Result<Answer> {
    let query = &call.query;
    let encoding = Encoding::parse(query)?;
    let max_entries = page_size(query, "max-keys")?;
    let prefix = query.get("prefix").unwrap_or_default();
    let delimiter = query.filled("delimiter").unwrap_or_default();
    let marker = query.get("marker").unwrap_or_default();
    let page = list(
        &call,
        ListQuery { prefix: prefix.into(), delimiter: delimiter.into(), after: marker.into(), max_entries },
    )
    .await?;

    let mut xml = XmlWriter::new("ListBucketResult");
    xml.element("Name", call.bucket_name())
        .element("Prefix", encoding.encode(prefix))
        .element("Marker", encoding.encode(marker))
        .element("MaxKeys", max_entries);
    if !delimiter.is_empty() {
        xml.element("Delimiter", encoding.encode(delimiter));
    }
    encoding.show(&mut xml);
    xml.element("IsTruncated", page.next.is_some());
    // Also without a delimiter: a page that the step budget ended may have no last key to go on from.
    xml.optional("NextMarker", page.next.as_deref().map(|next| encoding.encode(next)));
    for info in versions(&page.entries) {
        xml.open("Contents").element("Key", encoding.encode(info.key.as_str()));
        object(&mut xml, info);
        person(&mut xml, "Owner", &call, &info.metadata.owner);
        xml.close();
    }
    encoding.common_prefixes(&mut xml, prefixes(&page.entries));
    Ok(Answer::xml(xml))
}

/// A page; an empty whole one where no entry is asked for.
pub(super) async fn list(call: &Call<'_>, query: ListQuery) -> S3Result<ListPage> {
    if query.max_entries == 0 {
        return Ok(ListPage::default());
    }
    Ok(call.service.backend.list_objects(call.bucket_name(), query).await?)
}
