//! The lines that a bench ends in: `ratio NAME VALUE TARGET`, so that larger is better.

use super::{median, variable};

/// The names of the ratios to measure, with commas between; none for all.
pub(super) fn wanted() -> Option<String> {
    variable("UNIVRS_BENCH_ONLY")
}

/// Whether the ratio of this name is to be measured.
pub(crate) fn is_wanted(name: &str) -> bool {
    wanted().is_none_or(|wanted| wanted.split(',').any(|wanted| wanted == name))
}

/// Prints the median of the ratios of all rounds, if it is wanted; as a remark where there is no target.
pub(crate) fn print_ratio(name: &str, what: &str, ratios: &[f64], target: Option<f64>) {
    if !is_wanted(name) {
        return;
    }
    let (low, high) = bounds(ratios);
    println!("# {name}: {what}, {low:.3} .. {high:.3}");
    match target {
        Some(target) => println!("ratio {name} {:.3} {target}", median(ratios)),
        None => println!("# {name}: {:.3}", median(ratios)),
    }
}

/// The lowest and the highest.
pub(super) fn bounds(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, 0.0), |(low, high), value| (low.min(*value), high.max(*value)))
}
