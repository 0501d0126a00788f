//! Events of a history as a failure prints them: by path, without the bytes.

use super::model::Note;
use ashlar_runtime::disk::sim::{Change, Event, History, NodeId};
use std::{collections::BTreeMap, ops::Range};

/// One line for each of the events in a range.
pub(crate) fn describe(history: &History, range: Range<usize>) -> Box<[String]> {
    let mut names = BTreeMap::new();
    for path in history.base.files() {
        for path in path.ancestors() {
            let node = history.base.node(path);
            names.extend(node.map(|node| (node, path.display().to_string())));
        }
    }
    for event in &history.events[..range.end] {
        if let Event::Change(Change::Link { name, node, .. }) = event {
            names.insert(*node, name.to_string());
        }
    }
    let numbered = range.clone().zip(&history.events[range]);
    numbered.map(|(number, event)| format!("{number}: {}", line(event, &names))).collect()
}

fn line(event: &Event, names: &BTreeMap<NodeId, String>) -> String {
    let name = |node: &NodeId| names.get(node).cloned().unwrap_or_else(|| format!("{node:?}"));
    match event {
        Event::Note(raw) => {
            let (note, number, round) = Note::decode(*raw);
            format!("{note:?} shard {number} {round:?}")
        }
        Event::Change(Change::Write { file, offset, bytes }) => {
            format!("write {} at {offset}, {} bytes", name(file), bytes.len())
        }
        Event::Change(Change::Truncate { file, len }) => format!("truncate {} to {len}", name(file)),
        Event::Change(Change::Punch { file, offset, len }) => {
            format!("punch {} at {offset}, {len} bytes", name(file))
        }
        Event::Change(Change::Link { dir, name: linked, node, .. }) => {
            format!("link {linked} ({node:?}) in {}", name(dir))
        }
        Event::Change(Change::Unlink { dir, name: unlinked }) => {
            format!("unlink {unlinked} in {}", name(dir))
        }
        Event::SyncFile(file) => format!("sync {}", name(file)),
        Event::SyncDir(dir) => format!("sync directory {}", name(dir)),
        Event::Lost(node) => format!("sync failed and lost pages of {}", name(node)),
    }
}
