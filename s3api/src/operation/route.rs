//! From a request to the one row that it means.

use super::table::{Operation, Row, Selector, TABLE};
use crate::{
    error::{ErrorCode, S3Error, S3Result},
    headers::plain,
    target::{Level, Query},
};
use http::{HeaderMap, Method, header};

/// Names that select an operation somewhere in S3. One of them that the chosen row does not list is a request for
/// something else, so it never leads to that row.
const SUBRESOURCES: &[&str] = &[
    "abac",
    "accelerate",
    "acl",
    "analytics",
    "annotation",
    "append",
    "attributes",
    "cors",
    "delete",
    "encryption",
    "events",
    "intelligent-tiering",
    "inventory",
    "lambdaArn",
    "legal-hold",
    "lifecycle",
    "list-type",
    "location",
    "logging",
    "metadataConfiguration",
    "metadataInventoryTable",
    "metadataJournalTable",
    "metadataTable",
    "metrics",
    "notification",
    "object-lock",
    "ownershipControls",
    "partNumber",
    "policy",
    "policyStatus",
    "position",
    "publicAccessBlock",
    "renameObject",
    "replication",
    "replication-metrics",
    "requestPayment",
    "restore",
    "retention",
    "select",
    "select-type",
    "session",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
    "versionId",
    "versioning",
    "versions",
    "website",
];

/// Parameters that any request may carry: the SDKs' operation name and those of signed URLs. The latter may also
/// stand for headers (see `headers::hoisted`).
fn is_benign(name: &str) -> bool {
    matches!(name, "x-id" | "AWSAccessKeyId" | "Signature" | "Expires")
        || name.starts_with("response-")
        || name.get(..6).is_some_and(|prefix| prefix.eq_ignore_ascii_case("x-amz-"))
}

/// Whether a parameter means something to some operation.
pub fn is_known_parameter(name: &str) -> bool {
    is_benign(name)
        || SUBRESOURCES.contains(&name)
        || TABLE.iter().any(|row| row.parameters.contains(&name) || row.selected_by(name).is_some())
}

impl Row {
    fn selected_by(&self, name: &str) -> Option<&Selector> {
        self.selectors.iter().find(|selector| match selector {
            Selector::Parameter(known) | Selector::Value(known, _) => *known == name,
            Selector::Header(_) => false,
        })
    }

    fn is_meant_by(&self, query: &Query, headers: &HeaderMap) -> bool {
        let selected = self.selectors.iter().all(|selector| match selector {
            Selector::Parameter(name) => query.has(name),
            Selector::Value(name, value) => query.get(name) == Some(*value),
            Selector::Header(name) => headers.contains_key(*name),
        });
        let copies = self.source_action.is_some();
        selected
            && (copies || !headers.contains_key("x-amz-copy-source"))
            && query.iter().all(|(name, value)| {
                self.selected_by(name).is_some()
                    || self.parameters.contains(&name)
                    || is_harmless(&self.method, self.level, name, value)
            })
    }
}

/// Whether a parameter that a row does not read may be ignored. What looks like a subresource (no value) is not, where
/// the request would change something.
fn is_harmless(method: &Method, level: Level, name: &str, value: &str) -> bool {
    let changes = level != Level::Service && !matches!(*method, Method::GET | Method::HEAD);
    is_benign(name) || !(SUBRESOURCES.contains(&name) || (changes && value.is_empty()))
}

/// Finds the row that a request means.
pub fn route(method: &Method, level: Level, query: &Query, headers: &HeaderMap) -> S3Result<Operation> {
    TABLE
        .iter()
        .filter(|row| row.method == *method && row.level == level && row.is_meant_by(query, headers))
        .max_by_key(|row| row.selectors.len())
        .map(|row| row.operation)
        .ok_or_else(|| refusal(method, level, query, headers))
}

fn refusal(method: &Method, level: Level, query: &Query, headers: &HeaderMap) -> S3Error {
    let subresource = query.iter().find(|(name, value)| !is_harmless(method, level, name, value));
    if let Some((name, _)) = subresource {
        return S3Error::new(ErrorCode::NotImplemented).element("Parameter", name);
    }
    if headers.contains_key("x-amz-copy-source") {
        return S3Error::new(ErrorCode::NotImplemented).element("Header", "x-amz-copy-source");
    }
    if *method == Method::POST && level == Level::Bucket {
        return S3Error::new(ErrorCode::NotImplemented).message("Uploads by POST forms are not implemented.");
    }
    S3Error::new(ErrorCode::MethodNotAllowed)
        .element("Method", method.as_str())
        .element("ResourceType", level.resource_type())
        .header(header::ALLOW, plain(allowed(level)))
}

/// The methods of a level, as `Allow` lists them.
fn allowed(level: Level) -> String {
    let mut methods: Vec<&str> =
        TABLE.iter().filter(|row| row.level == level).map(|row| row.method.as_str()).collect();
    methods.sort_unstable();
    methods.dedup();
    methods.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(method: &Method, level: Level, query: &str, copies: bool) -> Result<Operation, ErrorCode> {
        let mut headers = HeaderMap::new();
        if copies {
            headers.insert("x-amz-copy-source", "/a/b".parse().unwrap());
        }
        route(method, level, &Query::parse(query).unwrap(), &headers).map_err(|error| error.code)
    }

    /// A query that selects a row, and whether it takes a copy source.
    fn selection(row: &Row) -> (String, bool) {
        let mut query = Vec::new();
        let mut copies = false;
        for selector in row.selectors {
            match selector {
                Selector::Parameter(name) => query.push((*name).to_owned()),
                Selector::Value(name, value) => query.push(format!("{name}={value}")),
                Selector::Header(_) => copies = true,
            }
        }
        (query.join("&"), copies)
    }

    #[test]
    fn every_row_is_reached_by_its_selectors_and_only_it_matches() {
        for row in TABLE {
            let (query, copies) = selection(row);
            assert_eq!(ask(&row.method, row.level, &query, copies), Ok(row.operation), "{}", row.name);
            assert_eq!(row.operation.row().name, format!("{:?}", row.operation));
            let (query, mut headers) = (Query::parse(&query).unwrap(), HeaderMap::new());
            if copies {
                headers.insert("x-amz-copy-source", "/a/b".parse().unwrap());
            }
            let meant = TABLE.iter().filter(|other| {
                other.method == row.method && other.level == row.level && other.is_meant_by(&query, &headers)
            });
            assert_eq!(meant.count(), 1, "{}", row.name);
        }
    }

    #[test]
    fn a_foreign_subresource_never_reaches_a_row() {
        for row in TABLE {
            let (selected, copies) = selection(row);
            for name in SUBRESOURCES {
                if row.parameters.contains(name) || row.selected_by(name).is_some() {
                    continue;
                }
                for query in [format!("{selected}&{name}"), format!("{name}=1&{selected}")] {
                    match ask(&row.method, row.level, &query, copies) {
                        Err(code) => assert_eq!(code, ErrorCode::NotImplemented, "{} {query}", row.name),
                        // Another row that lists all of them.
                        Ok(other) => {
                            let other = other.row();
                            assert!(
                                other.selected_by(name).is_some() || other.parameters.contains(name),
                                "{} {query}",
                                row.name
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn unknown_words_never_change_a_bucket_or_object() {
        for level in [Level::Bucket, Level::Object] {
            for method in [Method::PUT, Method::POST, Method::DELETE] {
                for query in ["foo", "foo=", "Delete", "POLICY", "uploadid"] {
                    assert_eq!(
                        ask(&method, level, query, false),
                        Err(ErrorCode::NotImplemented),
                        "{method} {query}"
                    );
                }
            }
        }
        assert_eq!(ask(&Method::GET, Level::Bucket, "foo", false), Ok(Operation::ListObjects));
        for benign in
            ["x-id=DeleteBucket", "X-Amz-Signature=a", "X-Amz-Security-Token", "foo=bar", "response-expires"]
        {
            assert_eq!(
                ask(&Method::DELETE, Level::Bucket, benign, false),
                Ok(Operation::DeleteBucket),
                "{benign}"
            );
        }
    }

    #[test]
    fn other_methods_are_refused() {
        for (method, level, code) in [
            (Method::PATCH, Level::Bucket, ErrorCode::MethodNotAllowed),
            (Method::PUT, Level::Service, ErrorCode::MethodNotAllowed),
            (Method::POST, Level::Object, ErrorCode::MethodNotAllowed),
            (Method::POST, Level::Bucket, ErrorCode::NotImplemented),
            (Method::OPTIONS, Level::Object, ErrorCode::MethodNotAllowed),
        ] {
            assert_eq!(ask(&method, level, "", false), Err(code), "{method}");
        }
        assert_eq!(allowed(Level::Service), "GET");
        assert_eq!(allowed(Level::Object), "DELETE, GET, HEAD, POST, PUT");
        assert_eq!(ask(&Method::PUT, Level::Bucket, "", true), Err(ErrorCode::NotImplemented));
        assert_eq!(ask(&Method::GET, Level::Bucket, "list-type=3", false), Err(ErrorCode::NotImplemented));
        assert_eq!(ask(&Method::PUT, Level::Object, "uploadId=a", false), Err(ErrorCode::NotImplemented));
    }
}
