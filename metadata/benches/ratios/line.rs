//! A line of output and what measures it.

use crate::Bench;
use anyhow::Result;
use std::fmt::Display;

/// One measurement; it may print several rows whose names begin with its own.
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) measure: fn(&Bench) -> Result<()>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

/// Prints a row. `name` has no spaces.
pub(crate) fn row(name: &str, value: f64, goal: Goal) {
    let (sign, bound, met) = match goal {
        Goal::AtLeast(bound) => (">=", bound, value >= bound),
        Goal::AtMost(bound) => ("<=", bound, value <= bound),
    };
    let met = if met { "met" } else { "missed" };
    println!("ratio {name} {value:.3} goal {sign}{bound} {met}");
}

pub(crate) fn note(text: impl Display) {
    println!("# {text}");
}

/// The middle one, or the lower one of two. 0 of nothing.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}
