//! Replicas that have applied the same entries hold the same rows, byte by byte.

use super::history::Violation;
use std::collections::BTreeMap;

/// Rows of one replica: table and key, and value.
pub type Rows = BTreeMap<(u8, Vec<u8>), Vec<u8>>;

/// After the faults are over and all of them have applied the same.
pub fn identical(group: u32, replicas: &[(String, Rows)]) -> Result<(), Violation> {
    let Some(((first, rows), others)) = replicas.split_first() else { return Ok(()) };
    for (name, other) in others {
        let differs =
            |what: String| Violation::new("replicas", format!("group {group}, {first} and {name}: {what}"));
        let of_first = rows.iter().find(|(key, value)| other.get(*key) != Some(*value));
        if let Some(((table, key), value)) = of_first {
            let there = other.get(&(*table, key.clone()));
            return Err(differs(format!("table {table}, row {key:02x?}: {value:02x?}, {there:02x?}")));
        }
        if let Some((table, key)) = other.keys().find(|key| !rows.contains_key(*key)) {
            return Err(differs(format!("table {table}, row {key:02x?} is only in {name}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_is_missing_changed_or_more_is_found() {
        let rows = |rows: &[(u8, &str, &str)]| -> Rows {
            rows.iter()
                .map(|(table, key, value)| ((*table, key.as_bytes().to_vec()), value.as_bytes().to_vec()))
                .collect()
        };
        let whole = rows(&[(0, "a", "1"), (1, "a", "2")]);
        let named = |other: &Rows| vec![("one".to_owned(), whole.clone()), ("two".to_owned(), other.clone())];
        assert_eq!(identical(1, &named(&whole)), Ok(()));
        assert_eq!(identical(1, &[]), Ok(()));
        for other in [
            rows(&[(0, "a", "1")]),
            rows(&[(0, "a", "1"), (1, "a", "3")]),
            rows(&[(0, "a", "1"), (1, "a", "2"), (1, "b", "2")]),
            rows(&[(0, "a", "1"), (2, "a", "2")]),
        ] {
            assert!(identical(1, &named(&other)).is_err(), "{other:?}");
        }
    }
}
