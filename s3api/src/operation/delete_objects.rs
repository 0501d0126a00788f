//! DeleteObjects: up to 1000 keys, one outcome each.

use crate::{
    answer::Answer,
    call::{Call, Digest},
    error::{ErrorCode, S3Error, S3Result},
    target::parse_key,
    xml::{Element, XmlWriter},
};
use ashlar_types::{
    ETag, EtagCondition, ObjectError, WriteCondition,
    limits::PAGE_MAX,
    service::{DeleteKey, Deleted},
};

/// One key as the document names it.
struct Asked {
    key: String,
    version: Option<String>,
    /// What is handed on, or why it is not.
    delete: Result<DeleteKey, S3Error>,
}

pub(super) async fn handle(mut call: Call<'_>) -> S3Result<Answer> {
    let root = call.xml("Delete", Digest::Required).await?;
    let quiet = match root.child("Quiet").map(|quiet| quiet.trimmed()) {
        None | Some("" | "false") => false,
        Some("true") => true,
        Some(_) => return Err(S3Error::new(ErrorCode::MalformedXML)),
    };
    let asked = root.children("Object").map(read).collect::<S3Result<Vec<_>>>()?;
    if asked.is_empty() || asked.len() > PAGE_MAX as usize {
        return Err(S3Error::new(ErrorCode::MalformedXML));
    }
    let keys: Vec<DeleteKey> = asked.iter().filter_map(|asked| asked.delete.clone().ok()).collect();
    let outcomes = if keys.is_empty() {
        Vec::new()
    } else {
        call.service.backend.delete_objects(call.bucket_name(), keys).await?
    };

    let mut outcomes = outcomes.into_iter();
    let mut xml = XmlWriter::new("DeleteResult");
    for asked in &asked {
        let outcome = match &asked.delete {
            Err(error) => Err(error.clone()),
            Ok(_) => outcomes
                .next()
                .unwrap_or(Err(ObjectError::Internal("a delete without an outcome")))
                .map_err(S3Error::from),
        };
        match outcome {
            Ok(_) if quiet => {}
            Ok(deleted) => show_deleted(&mut xml, asked, &deleted),
            Err(error) => show_error(&mut xml, asked, &error),
        }
    }
    Ok(Answer::xml(xml))
}

fn read(object: &Element) -> S3Result<Asked> {
    let key = object.child_text("Key").ok_or_else(|| S3Error::new(ErrorCode::MalformedXML))?;
    // Deleting without looking at them would delete what the client meant to keep.
    for name in ["Size", "LastModifiedTime"] {
        if object.child(name).is_some() {
            return Err(S3Error::new(ErrorCode::NotImplemented).element("Element", name));
        }
    }
    let version = object.child("VersionId").map(|id| id.trimmed().to_owned()).filter(|id| !id.is_empty());
    let if_match = object.child("ETag").map(|tag| match tag.trimmed() {
        "*" => EtagCondition::Any,
        tag => EtagCondition::OneOf(vec![ETag::parse(tag)]),
    });
    let delete = parse_key(key).and_then(|key| {
        let version = match &version {
            None => None,
            // An id that does not parse is the id of no version.
            Some(id) => Some(id.parse().map_err(|_| S3Error::new(ErrorCode::NoSuchVersion))?),
        };
        Ok(DeleteKey { key, version, condition: WriteCondition { if_match, if_none_match: None } })
    });
    Ok(Asked { key: key.to_owned(), version, delete })
}

fn show_deleted(xml: &mut XmlWriter, asked: &Asked, deleted: &Deleted) {
    xml.open("Deleted").element("Key", &asked.key);
    xml.optional("VersionId", deleted.version_id);
    if let Some(marker) = deleted.delete_marker {
        xml.element("DeleteMarker", true).element("DeleteMarkerVersionId", marker);
    }
    xml.close();
}

fn show_error(xml: &mut XmlWriter, asked: &Asked, error: &S3Error) {
    xml.open("Error").element("Key", &asked.key);
    xml.optional("VersionId", asked.version.as_ref());
    xml.element("Code", error.code.name()).element("Message", &error.message);
    xml.close();
}
