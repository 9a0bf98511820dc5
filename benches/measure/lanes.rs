//! Kinds of work that take turns, and how they compare.

use super::ratio::{bounds, is_wanted, print_ratio, wanted};
use super::{Effort, Pace, median};

/// Kinds of work that take turns, so that what else runs on the machine slows all of them.
#[derive(Default)]
pub(crate) struct Lanes<'a> {
    lanes: Vec<Lane<'a>>,
    ratios: Vec<Ratio>,
}

struct Lane<'a> {
    name: String,
    run: Box<dyn FnMut() -> Pace + 'a>,
    paces: Vec<Pace>,
}

struct Ratio {
    name: &'static str,
    ours: String,
    /// The best of them is what counts.
    baselines: Vec<String>,
    /// None for a ratio that is only told.
    target: Option<f64>,
}

impl<'a> Lanes<'a> {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A kind of work; a turn of it returns its pace.
    pub(crate) fn lane(&mut self, name: impl Into<String>, run: impl FnMut() -> Pace + 'a) {
        self.lanes.push(Lane { name: name.into(), run: Box::new(run), paces: Vec::new() });
    }

    /// What to compare: the rates of two lanes, and what their ratio should reach.
    pub(crate) fn ratio(
        &mut self,
        name: &'static str,
        ours: impl Into<String>,
        baseline: impl Into<String>,
        target: f64,
    ) {
        self.ratio_to_best(name, ours, vec![baseline.into()], target);
    }

    /// Adds a ratio to the fastest of several lanes.
    pub(crate) fn ratio_to_best(
        &mut self,
        name: &'static str,
        ours: impl Into<String>,
        baselines: Vec<String>,
        target: f64,
    ) {
        self.ratios.push(Ratio { name, ours: ours.into(), baselines, target: Some(target) });
    }

    /// Tells how two lanes compare, without a target, beside the ratio of this name.
    pub(crate) fn aside(&mut self, name: &'static str, ours: impl Into<String>, other: impl Into<String>) {
        let baselines = vec![other.into()];
        self.ratios.push(Ratio { name, ours: ours.into(), baselines, target: None });
    }

    /// Runs the rounds and prints the table and the ratios.
    pub(crate) fn run(mut self, effort: Effort) -> Measured {
        if wanted().is_some() {
            self.ratios.retain(|ratio| is_wanted(ratio.name));
            let ratios = &self.ratios;
            self.lanes.retain(|lane| ratios.iter().any(|ratio| ratio.needs(&lane.name)));
        }
        for round in 0..effort.rounds {
            // Every second round goes backwards, so that nobody is always behind the same one.
            let mut order: Vec<_> = self.lanes.iter_mut().collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for lane in order {
                let pace = (lane.run)();
                lane.paces.push(pace);
            }
        }
        let lanes = self.lanes.into_iter().map(|lane| Paces { name: lane.name, paces: lane.paces });
        let measured = Measured { lanes: lanes.collect() };
        if std::env::var_os("UNIVRS_BENCH_SAMPLES").is_some() {
            measured.print_samples();
        }
        measured.print();
        println!();
        self.ratios.iter().for_each(|ratio| measured.compare(ratio));
        measured
    }
}

impl Ratio {
    fn needs(&self, lane: &str) -> bool {
        self.ours == lane || self.baselines.iter().any(|name| name == lane)
    }
}

/// What the turns of all lanes took.
pub(crate) struct Measured {
    lanes: Vec<Paces>,
}

struct Paces {
    name: String,
    paces: Vec<Pace>,
}

impl Measured {
    /// The median rate of a lane; none if it did not run.
    pub(crate) fn rate(&self, lane: &str) -> Option<f64> {
        let lane = self.lanes.iter().find(|paces| paces.name == lane)?;
        Some(median(&lane.rates()))
    }

    fn print(&self) {
        let width = self.lanes.iter().map(|lane| lane.name.len()).max().unwrap_or(0);
        println!(
            "\n{:width$}  {:>11}  {:>9}  {:>10}  {:>24}",
            "median", "ops/s", "µs/op", "CPU µs/op", "lowest .. highest ops/s"
        );
        for lane in &self.lanes {
            let (rates, cpu) = (lane.rates(), median(&lane.cpus()) * 1e6);
            let (low, high) = bounds(&rates);
            let (name, middle) = (&lane.name, median(&rates));
            let each = 1e6 / middle;
            println!("{name:width$}  {middle:>11.0}  {each:>9.2}  {cpu:>10.2}  {low:>10.0} .. {high:>10.0}");
        }
    }

    /// A line for each turn, for programs: what the table has no digits for is in it.
    fn print_samples(&self) {
        for lane in &self.lanes {
            for Pace { rate, cpu } in &lane.paces {
                println!("sample\t{}\t{rate:e}\t{cpu:e}", lane.name);
            }
        }
    }

    /// A ratio is the median of the ratios of each round.
    fn compare(&self, ratio: &Ratio) {
        let ours = self.named(&ratio.ours);
        let mut others: Vec<&Paces> = ratio.baselines.iter().map(|name| self.named(name)).collect();
        others.sort_by(|a, b| median(&b.rates()).total_cmp(&median(&a.rates())));
        let (name, best) = (ratio.name, others[0]);
        let ratios = divided(&ours.rates(), &best.rates());
        let cpu = median(&divided(&best.cpus(), &ours.cpus()));
        let what = format!("{} / {}, by CPU time {cpu:.2}", ours.name, best.name);
        for other in &others[1..] {
            let ratio = median(&divided(&ours.rates(), &other.rates()));
            println!("# {name}: {} / {}: {ratio:.3}", ours.name, other.name);
        }
        print_ratio(name, &what, &ratios, ratio.target);
    }

    fn named(&self, name: &str) -> &Paces {
        let lane = self.lanes.iter().find(|lane| lane.name == name);
        lane.unwrap_or_else(|| panic!("no lane is called {name}"))
    }
}

impl Paces {
    fn rates(&self) -> Vec<f64> {
        self.paces.iter().map(|pace| pace.rate).collect()
    }

    fn cpus(&self) -> Vec<f64> {
        self.paces.iter().map(|pace| pace.cpu).collect()
    }
}

fn divided(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a / b).collect()
}
