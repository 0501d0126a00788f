//! Preconditions of reads and writes. Those of writes are evaluated where the write is applied, never before.

use crate::{etag::ETag, time::Timestamp};
use serde::{Deserialize, Serialize};

/// The operand of `If-Match` and `If-None-Match`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EtagCondition {
    /// `*`: any existing object.
    Any,
    OneOf(Vec<ETag>),
}

impl EtagCondition {
    /// Parses a header value: `*` or a comma-separated list of tags.
    pub fn parse(text: &str) -> Self {
        if text.trim() == "*" { Self::Any } else { Self::OneOf(text.split(',').map(ETag::parse).collect()) }
    }

    /// Whether an existing object with this tag is meant.
    pub fn matches(&self, etag: &ETag) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(tags) => tags.contains(etag),
        }
    }
}

/// What must be true of the current object for a write to happen. A delete marker counts as absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteCondition {
    pub if_match: Option<EtagCondition>,
    pub if_none_match: Option<EtagCondition>,
}

/// How a write condition came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionOutcome {
    Holds,
    /// 412.
    Fails,
    /// `If-Match` on a key that does not exist: 404 `NoSuchKey`.
    Absent,
}

impl WriteCondition {
    pub fn is_empty(&self) -> bool {
        self.if_match.is_none() && self.if_none_match.is_none()
    }

    /// `current` is the tag of the live latest version.
    pub fn evaluate(&self, current: Option<&ETag>) -> ConditionOutcome {
        if let Some(wanted) = &self.if_match {
            match current {
                None => return ConditionOutcome::Absent,
                Some(etag) if !wanted.matches(etag) => return ConditionOutcome::Fails,
                Some(_) => {}
            }
        }
        match (&self.if_none_match, current) {
            (Some(unwanted), Some(etag)) if unwanted.matches(etag) => ConditionOutcome::Fails,
            _ => ConditionOutcome::Holds,
        }
    }
}

/// Conditions of GET, HEAD and of the source of a copy (RFC 9110 section 13.2.2 gives their order).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadCondition {
    pub if_match: Option<EtagCondition>,
    pub if_none_match: Option<EtagCondition>,
    pub if_modified_since: Option<Timestamp>,
    pub if_unmodified_since: Option<Timestamp>,
}

/// How a read condition came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadOutcome {
    Proceed,
    /// 304 on GET and HEAD, 412 on the source of a copy.
    NotModified,
    /// 412.
    PreconditionFailed,
}

impl ReadCondition {
    /// Times are compared in whole seconds, the resolution of HTTP dates.
    pub fn evaluate(&self, etag: &ETag, last_modified: Timestamp) -> ReadOutcome {
        let modified = last_modified.seconds();
        match (&self.if_match, self.if_unmodified_since) {
            (Some(wanted), _) if !wanted.matches(etag) => return ReadOutcome::PreconditionFailed,
            (None, Some(since)) if modified > since.seconds() => return ReadOutcome::PreconditionFailed,
            _ => {}
        }
        match (&self.if_none_match, self.if_modified_since) {
            (Some(unwanted), _) if unwanted.matches(etag) => ReadOutcome::NotModified,
            (None, Some(since)) if modified <= since.seconds() => ReadOutcome::NotModified,
            _ => ReadOutcome::Proceed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(c: &str) -> ETag {
        ETag::parse(c)
    }

    #[test]
    fn write_conditions() {
        let none_any = WriteCondition { if_none_match: Some(EtagCondition::Any), ..Default::default() };
        assert_eq!(none_any.evaluate(None), ConditionOutcome::Holds);
        assert_eq!(none_any.evaluate(Some(&tag("a"))), ConditionOutcome::Fails);
        let only_a = WriteCondition { if_match: Some(EtagCondition::parse("\"a\"")), ..Default::default() };
        assert_eq!(only_a.evaluate(None), ConditionOutcome::Absent);
        assert_eq!(only_a.evaluate(Some(&tag("a"))), ConditionOutcome::Holds);
        assert_eq!(only_a.evaluate(Some(&tag("b"))), ConditionOutcome::Fails);
    }

    #[test]
    fn a_tag_condition_outranks_its_date() {
        let at = Timestamp(10_500);
        let both = ReadCondition {
            if_match: Some(EtagCondition::parse("a")),
            if_unmodified_since: Some(Timestamp(1_000)),
            ..Default::default()
        };
        assert_eq!(both.evaluate(&tag("a"), at), ReadOutcome::Proceed);
        let none = ReadCondition {
            if_none_match: Some(EtagCondition::parse("b")),
            if_modified_since: Some(Timestamp(99_000)),
            ..Default::default()
        };
        assert_eq!(none.evaluate(&tag("a"), at), ReadOutcome::Proceed);
        let since = ReadCondition { if_modified_since: Some(Timestamp(10_000)), ..Default::default() };
        assert_eq!(since.evaluate(&tag("a"), at), ReadOutcome::NotModified);
    }
}
