//! GetBucketVersioning: empty where versioning was never set.

use crate::{answer::Answer, call::Call, error::S3Result, xml::XmlWriter};
use ashlar_types::Versioning;

pub(super) async fn handle(call: Call<'_>) -> S3Result<Answer> {
    let versioning = call.service.backend.versioning(call.bucket_name()).await?;
    let mut xml = XmlWriter::new("VersioningConfiguration");
    xml.optional(
        "Status",
        match versioning {
            Versioning::Unversioned => None,
            Versioning::Enabled => Some("Enabled"),
            Versioning::Suspended => Some("Suspended"),
        },
    );
    Ok(Answer::xml(xml))
}
