//! The lines that a bench ends in: `ratio NAME VALUE TARGET`, so that larger is better.

use super::{median, variable};

/// Whether the ratio of this name was asked for.
pub(crate) fn is_wanted(name: &str) -> bool {
    variable::<String>("UNIVRS_BENCH_ONLY").is_none_or(|only| only.split(',').any(|wanted| wanted == name))
}

/// Prints the median of the ratios of all rounds; as a remark where there is no target.
pub(crate) fn print_ratio(name: &str, what: &str, ratios: &[f64], target: Option<f64>) {
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
