//! Random steps for the model.

use ashlar_types::Versioning;
use proptest::{collection::vec, prelude::*};

#[derive(Clone, Debug)]
pub(super) enum Step {
    Put {
        key: usize,
        body: Body,
        condition: Condition,
    },
    Delete {
        key: usize,
        condition: Condition,
    },
    DeleteVersion {
        key: usize,
        which: usize,
        condition: Condition,
    },
    Versioning(Versioning),
    CreateUpload {
        key: usize,
        condition: Condition,
    },
    PutPart {
        upload: usize,
        number: u16,
        body: Body,
    },
    Complete {
        upload: usize,
        parts: Vec<u16>,
        wrong_tag: bool,
        condition: Condition,
    },
    Abort {
        upload: usize,
    },
    FillSlot {
        which: usize,
    },
    ReportSlot {
        which: usize,
    },
    CollectGarbage,
    Quota {
        bytes: Option<u64>,
        objects: Option<u64>,
    },
    /// The last entry again.
    Retry,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Body {
    Empty,
    Inline,
    Blob,
    /// With a slot that was not acknowledged.
    ShortBlob,
    /// Large enough for a part that is not the last.
    LargePart,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Condition {
    None,
    IfMatchLatest,
    IfMatchOther,
    IfAbsent,
}

/// Neighbours in every order that escaping could get wrong.
pub(super) const KEYS: [&str; 4] = ["a", "a/b", "a\u{0}", "b"];

pub(super) fn step() -> impl Strategy<Value = Step> {
    let key = 0..KEYS.len();
    let body = prop::sample::select(vec![Body::Empty, Body::Inline, Body::Blob, Body::ShortBlob]);
    let part = prop::sample::select(vec![
        Body::Empty,
        Body::Inline,
        Body::ShortBlob,
        Body::LargePart,
        Body::LargePart,
    ]);
    let condition = prop_oneof![
        6 => Just(Condition::None),
        1 => Just(Condition::IfMatchLatest),
        1 => Just(Condition::IfMatchOther),
        1 => Just(Condition::IfAbsent),
    ];
    let versioning =
        prop::sample::select(vec![Versioning::Unversioned, Versioning::Enabled, Versioning::Suspended]);
    prop_oneof![
        8 => (key.clone(), body, condition.clone())
            .prop_map(|(key, body, condition)| Step::Put { key, body, condition }),
        4 => (key.clone(), condition.clone()).prop_map(|(key, condition)| Step::Delete { key, condition }),
        6 => (key.clone(), any::<usize>(), condition.clone())
            .prop_map(|(key, which, condition)| Step::DeleteVersion { key, which, condition }),
        2 => versioning.prop_map(Step::Versioning),
        3 => (key, condition.clone()).prop_map(|(key, condition)| Step::CreateUpload { key, condition }),
        8 => (any::<usize>(), 1u16..5, part)
            .prop_map(|(upload, number, body)| Step::PutPart { upload, number, body }),
        5 => (any::<usize>(), vec(1u16..5, 0..4), prop::bool::weighted(0.1), condition)
            .prop_map(|(upload, mut parts, wrong_tag, condition)| {
                // Mostly in order, sometimes not.
                if parts.first() != Some(&4) {
                    parts.sort_unstable();
                    parts.dedup();
                }
                Step::Complete { upload, parts, wrong_tag, condition }
            }),
        1 => any::<usize>().prop_map(|upload| Step::Abort { upload }),
        3 => any::<usize>().prop_map(|which| Step::FillSlot { which }),
        2 => any::<usize>().prop_map(|which| Step::ReportSlot { which }),
        1 => Just(Step::CollectGarbage),
        1 => (prop::option::of(0u64..100_000), prop::option::of(0u64..6))
            .prop_map(|(bytes, objects)| Step::Quota { bytes, objects }),
        3 => Just(Step::Retry),
    ]
}
