//! Readings: short batches of several sides in turn, their medians and their tenth percentiles.

use std::time::{Duration, Instant};

/// The rounds of each measurement. Odd, so that the median is one of the readings.
const ROUNDS: usize = 301;

/// How long a batch takes, roughly: short, so that most batches are not interrupted.
const BATCH: Duration = Duration::from_micros(100);

/// What one side of a comparison costs, in nanoseconds for each operation: one reading for each round.
#[derive(Default)]
pub(crate) struct Readings(Vec<f64>);

impl Readings {
    pub(crate) fn new(readings: impl IntoIterator<Item = f64>) -> Readings {
        Readings(readings.into_iter().collect())
    }

    pub(crate) fn median(&self) -> f64 {
        self.quantile(1, 2)
    }

    pub(crate) fn push(&mut self, reading: f64) {
        self.0.push(reading);
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// A tenth of the readings are smaller. On a noisy machine it differs less from run to run than the median.
    pub(crate) fn p10(&self) -> f64 {
        self.quantile(1, 10)
    }

    fn quantile(&self, part: usize, of: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() * part / of]
    }

    /// The ratio to a base that was measured in the same rounds.
    pub(crate) fn to(&self, base: &Readings) -> Figure {
        let rounds = self.0.iter().zip(&base.0);
        Figure {
            median: Readings::new(rounds.map(|(ours, base)| ours / base)).median(),
            p10: self.p10() / base.p10(),
        }
    }

    pub(crate) fn figure(&self) -> Figure {
        Figure {
            median: self.median(),
            p10: self.p10(),
        }
    }
}

/// A cost, or a ratio. The median of a ratio is the median of the ratios of the rounds; its `p10` is the ratio of
/// the tenth percentiles.
#[derive(Clone, Copy, Default)]
pub(crate) struct Figure {
    pub(crate) median: f64,
    pub(crate) p10: f64,
}

impl Figure {
    pub(crate) const UNKNOWN: Figure = Figure {
        median: f64::NAN,
        p10: f64::NAN,
    };

    /// A figure that was read once.
    pub(crate) fn once(value: f64) -> Figure {
        Figure {
            median: value,
            p10: value,
        }
    }

    pub(crate) fn scaled(self, factor: f64) -> Figure {
        Figure {
            median: self.median * factor,
            p10: self.p10 * factor,
        }
    }

    /// The one with the larger median.
    pub(crate) fn max(self, other: Figure) -> Figure {
        if self.median < other.median {
            other
        } else {
            self
        }
    }
}

/// One side of a comparison: how long a number of steps takes.
pub(crate) struct Side<'a> {
    batch: Box<dyn FnMut(u32) -> Duration + 'a>,
    operations_of_a_step: u32,
}

impl<'a> Side<'a> {
    pub(crate) fn new(mut step: impl FnMut() + 'a) -> Side<'a> {
        Side {
            batch: Box::new(move |steps| {
                let start = Instant::now();
                for _ in 0..steps {
                    step();
                }
                start.elapsed()
            }),
            operations_of_a_step: 1,
        }
    }

    /// A side whose step says how long its measured part took.
    pub(crate) fn timed(mut step: impl FnMut() -> Duration + 'a) -> Side<'a> {
        Side {
            batch: Box::new(move |steps| (0..steps).map(|_| step()).sum()),
            operations_of_a_step: 1,
        }
    }

    /// The same side, whose step does so many operations.
    pub(crate) fn of(self, operations: u32) -> Side<'a> {
        Side {
            operations_of_a_step: operations,
            ..self
        }
    }

    /// The steps of a batch of the usual length. The steps that find it out warm the caches.
    fn steps_of_a_batch(&mut self) -> u32 {
        let mut steps = 1;
        loop {
            let took = (self.batch)(steps);
            if took >= BATCH / 2 {
                let batch = f64::from(steps) * BATCH.as_secs_f64() / took.as_secs_f64();
                return (batch as u32).max(1);
            }
            steps *= 2;
        }
    }

    /// The first batch is not counted. It warms the caches, and it frees the memory that the side before has left to
    /// the epochs: both sides of a ratio may share one collector.
    fn reading(&mut self, steps: u32) -> f64 {
        (self.batch)(steps);
        let operations = f64::from(steps) * f64::from(self.operations_of_a_step);
        (self.batch)(steps).as_nanos() as f64 / operations
    }
}

/// Measures one batch of each side in turn, in many rounds.
pub(crate) fn in_turn<const SIDES: usize>(sides: [Side<'_>; SIDES]) -> [Readings; SIDES] {
    in_turn_for(ROUNDS, sides)
}

/// Measures several times, each time beside other tables of this size, and pools the readings. The heights of the
/// towers of a skiplist are random, so two lists of the same keys cost up to a fifth more or less.
pub(crate) fn beside<const SIDES: usize>(
    held: usize,
    mut measure: impl FnMut() -> [Readings; SIDES],
) -> [Readings; SIDES] {
    let tables = match held {
        0..=1_000 => 5,
        1_001..=100_000 => 3,
        _ => 1,
    };
    let mut pooled = [const { Vec::new() }; SIDES];
    for _ in 0..tables {
        for (all, one) in pooled.iter_mut().zip(measure()) {
            all.extend(one.0);
        }
    }
    pooled.map(Readings)
}

/// As [`in_turn`], in so many rounds.
pub(crate) fn in_turn_for<const SIDES: usize>(
    rounds: usize,
    mut sides: [Side<'_>; SIDES],
) -> [Readings; SIDES] {
    let steps = sides.each_mut().map(Side::steps_of_a_batch);
    let mut readings = [const { Vec::new() }; SIDES];
    for _ in 0..rounds {
        for side in 0..SIDES {
            readings[side].push(sides[side].reading(steps[side]));
        }
    }
    readings.map(Readings)
}

/// What has been measured: a line for each figure at once, and the rows of a table at the end.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<String>,
}

impl Report {
    /// Prints `name median unit, p10 value`.
    pub(crate) fn print(&self, name: &str, figure: Figure, unit: &str) {
        let digits = digits(unit);
        let Figure { median, p10 } = figure;
        println!("{name} {median:.digits$} {unit}, p10 {p10:.digits$}");
    }

    /// Adds a row to the table. Its figures stand side by side.
    pub(crate) fn row(&mut self, name: &str, figures: &[Figure], unit: &str) {
        let digits = digits(unit);
        let join = |of: fn(&Figure) -> f64| {
            let texts = figures.iter().map(|one| match of(one) {
                unknown if unknown.is_nan() => "–".to_owned(),
                known => format!("{known:.digits$}"),
            });
            texts.collect::<Vec<_>>().join(" / ")
        };
        let unit = if unit == "ratio" { "" } else { unit };
        let (medians, p10s) = (join(|one| one.median), join(|one| one.p10));
        self.rows
            .push(format!("| {name} | {medians} {unit} | {p10s} {unit} |"));
    }

    /// Prints the rows as a table.
    pub(crate) fn finish(self) {
        if !self.rows.is_empty() {
            println!("\n| in one run | median | p10 |\n|---|---|---|");
            self.rows.iter().for_each(|row| println!("{row}"));
        }
    }
}

fn digits(unit: &str) -> usize {
    if matches!(unit, "ratio" | "ms" | "million/s") {
        2
    } else {
        0
    }
}
