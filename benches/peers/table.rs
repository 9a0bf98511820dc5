//! Tables for a README: contenders down, kinds of work across.

use crate::measure::lanes::Measured;

/// How the store under test is called.
pub(crate) const OURS: &str = "univrs-state";

/// The name of the lane in which a contender does a kind of work.
pub(crate) fn lane(contender: &str, work: &str) -> String {
    format!("{contender}: {work}")
}

/// Prints the median rates; a dash where nothing was measured.
pub(crate) fn print(measured: &Measured, contenders: &[&str], works: &[&str]) {
    println!("\n| operations/s | {} |", works.join(" | "));
    println!("|---|{}", "---|".repeat(works.len()));
    for contender in contenders {
        let rate = |work: &&str| measured.rate(&lane(contender, work)).map_or_else(|| "–".into(), grouped);
        let rates: Vec<String> = works.iter().map(rate).collect();
        println!("| {contender} | {} |", rates.join(" | "));
    }
}

/// A number with a space between thousands.
fn grouped(rate: f64) -> String {
    let digits = format!("{rate:.0}");
    let spaced = digits.char_indices().map(|(at, digit)| {
        let is_first_of_three = at > 0 && (digits.len() - at).is_multiple_of(3);
        if is_first_of_three { format!(" {digit}") } else { digit.to_string() }
    });
    spaced.collect()
}
