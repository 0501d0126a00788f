//! Whom to ask next.
//!
//! Pure. A turn goes through all nodes of a group once, each named leader first; then it begins anew.

use ashlar_types::NodeId;

/// Hints followed in a row: nodes that name each other must not spin.
const HINTS_IN_A_ROW: u32 = 2;

/// Nodes in the order in which they are asked.
#[derive(Debug, Default)]
pub(super) struct Turn {
    waiting: Vec<NodeId>,
    hint: Option<NodeId>,
    hints: u32,
}

/// What follows an answer that was none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Another node leads, as the one asked says: it can be asked at once.
    Hint,
    /// Others are left in this turn.
    Other,
    /// All were asked.
    Over,
}

impl Turn {
    /// `first` is asked first if there is one, the others from a place that the caller draws.
    pub(super) fn new(first: Option<NodeId>, mut others: Vec<NodeId>, place: usize) -> Self {
        let count = others.len().max(1);
        others.rotate_left(place % count);
        others.retain(|node| Some(*node) != first);
        // Taken from the end.
        others.reverse();
        others.extend(first);
        Self { waiting: others, hint: None, hints: 0 }
    }

    pub(super) fn next(&mut self) -> Option<NodeId> {
        if let Some(hint) = self.hint.take() {
            self.waiting.retain(|node| *node != hint);
            return Some(hint);
        }
        self.hints = 0;
        self.waiting.pop()
    }

    /// `asked` gave no answer, but perhaps the name of the leader.
    pub(super) fn missed(&mut self, asked: NodeId, leader: Option<NodeId>) -> Next {
        match leader.filter(|leader| *leader != asked) {
            Some(leader) if self.hints < HINTS_IN_A_ROW => {
                self.hints += 1;
                self.hint = Some(leader);
                Next::Hint
            }
            Some(_) | None if self.waiting.is_empty() => Next::Over,
            Some(_) | None => Next::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(numbers: &[u32]) -> Vec<NodeId> {
        numbers.iter().map(|number| NodeId(*number)).collect()
    }

    #[test]
    fn every_node_is_asked_once_a_turn_and_the_preferred_one_first() {
        let mut turn = Turn::new(Some(NodeId(3)), nodes(&[1, 2, 3, 4]), 1);
        let asked: Vec<_> = std::iter::from_fn(|| turn.next()).collect();
        assert_eq!(asked, nodes(&[3, 2, 4, 1]));
        let mut turn = Turn::new(None, nodes(&[1, 2]), 7);
        assert_eq!(std::iter::from_fn(|| turn.next()).collect::<Vec<_>>(), nodes(&[2, 1]));
        assert_eq!(Turn::new(None, vec![], 7).next(), None);
    }

    #[test]
    fn hints_are_followed_at_once_but_not_in_circles() {
        let mut turn = Turn::new(None, nodes(&[1, 2, 3]), 0);
        assert_eq!(turn.next(), Some(NodeId(1)));
        assert_eq!(turn.missed(NodeId(1), Some(NodeId(2))), Next::Hint);
        assert_eq!(turn.next(), Some(NodeId(2)));
        assert_eq!(turn.missed(NodeId(2), Some(NodeId(1))), Next::Hint);
        assert_eq!(turn.next(), Some(NodeId(1)));
        assert_eq!(turn.missed(NodeId(1), Some(NodeId(2))), Next::Other);
        assert_eq!(turn.next(), Some(NodeId(3)));
        assert_eq!(turn.missed(NodeId(3), Some(NodeId(3))), Next::Over);
        assert_eq!(turn.next(), None);
    }
}
