//! ListObjectsV2: pages are continued by opaque tokens.

use super::{
    list_objects::list,
    page::{Encoding, object, page_size, person, prefixes, versions},
};
use crate::{
    answer::Answer,
    call::Call,
    error::{S3Error, S3Result},
    xml::XmlWriter,
};
use ashlar_types::ListQuery;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

/// Begins every token, so that a later form can be told apart.
const TOKEN_FORM: &str = "1";

pub(super) async fn handle(call: Call<'_>) -> S3Result<Answer> {
    let query = &call.query;
    let encoding = Encoding::parse(query)?;
    let max_entries = page_size(query, "max-keys")?;
    let prefix = query.get("prefix").unwrap_or_default();
    let delimiter = query.filled("delimiter").unwrap_or_default();
    let start_after = query.filled("start-after");
    let token = query.get("continuation-token");
    let fetch_owner = match query.filled("fetch-owner") {
        None | Some("false") => false,
        Some("true") => true,
        Some(other) => {
            return Err(S3Error::invalid_argument("fetch-owner", other, "fetch-owner is true or false"));
        }
    };
    let after = match token {
        Some(token) if !token.is_empty() => continue_after(token)?,
        _ => start_after.unwrap_or_default().to_owned(),
    };
    let page =
        list(&call, ListQuery { prefix: prefix.into(), delimiter: delimiter.into(), after, max_entries })
            .await?;

    let mut xml = XmlWriter::new("ListBucketResult");
    xml.element("Name", call.bucket_name()).element("Prefix", encoding.encode(prefix));
    xml.optional("ContinuationToken", token);
    xml.optional("StartAfter", start_after.map(|start| encoding.encode(start)));
    xml.element("KeyCount", page.entries.len()).element("MaxKeys", max_entries);
    if !delimiter.is_empty() {
        xml.element("Delimiter", encoding.encode(delimiter));
    }
    encoding.show(&mut xml);
    xml.element("IsTruncated", page.next.is_some());
    xml.optional(
        "NextContinuationToken",
        page.next.as_ref().map(|next| URL_SAFE_NO_PAD.encode(format!("{TOKEN_FORM}{next}"))),
    );
    for info in versions(&page.entries) {
        xml.open("Contents").element("Key", encoding.encode(info.key.as_str()));
        object(&mut xml, info);
        if fetch_owner {
            person(&mut xml, "Owner", &call, &info.metadata.owner);
        }
        xml.close();
    }
    encoding.common_prefixes(&mut xml, prefixes(&page.entries));
    Ok(Answer::xml(xml))
}

fn continue_after(token: &str) -> S3Result<String> {
    let text = URL_SAFE_NO_PAD.decode(token).ok().and_then(|text| String::from_utf8(text).ok());
    text.as_deref().and_then(|text| text.strip_prefix(TOKEN_FORM)).map(str::to_owned).ok_or_else(|| {
        S3Error::invalid_argument("continuation-token", token, "The continuation token provided is incorrect")
    })
}
