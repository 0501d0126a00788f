//! All rules at once.

use super::{
    history::History,
    linearizability::{self, Judged},
    listing, versions,
};

/// All that a history alone can tell.
pub fn judge(history: &History) -> Judged {
    let mut judged = linearizability::judge(history);
    judged.violations.extend(listing::pages(history));
    judged.violations.extend(versions::judge(history));
    judged
}
