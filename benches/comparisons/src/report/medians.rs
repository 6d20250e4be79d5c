//! What the rounds of a figure say together.

use std::collections::BTreeMap;

use super::{Row, Sample};
use crate::runner::Regime;
use crate::systems::ALL;

/// A figure over all rounds.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub greatest: f64,
}

/// Every figure over all rounds.
#[derive(Debug)]
pub struct Medians(BTreeMap<(Regime, String, String, String), Spread>);

impl Medians {
    pub fn of(samples: &[Sample]) -> Self {
        let mut values: BTreeMap<_, Vec<f64>> = BTreeMap::new();
        for sample in samples {
            let key = (sample.regime, sample.workload.clone(), sample.system.clone(), sample.figure.clone());
            values.entry(key).or_default().push(sample.value);
        }
        let spread = |mut values: Vec<f64>| {
            values.sort_by(f64::total_cmp);
            let n = values.len();
            // There is a value at least: entries are made to hold one.
            Spread { median: (values[(n - 1) / 2] + values[n / 2]) / 2.0, least: values[0], greatest: values[n - 1] }
        };
        Self(values.into_iter().map(|(key, values)| (key, spread(values))).collect())
    }

    pub fn get(&self, regime: Regime, workload: &str, system: &str, figure: &str) -> Option<Spread> {
        self.0.get(&(regime, workload.into(), system.into(), figure.into())).copied()
    }

    pub fn has(&self, regime: Regime) -> bool {
        self.0.keys().any(|(r, ..)| *r == regime)
    }

    pub fn has_system(&self, regime: Regime, system: &str) -> bool {
        self.0.keys().any(|(r, _, s, _)| *r == regime && s == system)
    }

    /// Who is best of those that are neither RMI nor the bare socket.
    pub fn best_peer(&self, regime: Regime, row: &Row) -> Option<(&'static str, f64)> {
        let peers = ALL.iter().map(|entry| entry.name).filter(|name| !matches!(*name, "raw" | "rmi"));
        let values = peers.filter_map(|name| Some((name, self.get(regime, row.workload, name, row.figure)?.median)));
        let better =
            |a: &(_, f64), b: &(_, f64)| if row.less_is_better { a.1.total_cmp(&b.1) } else { b.1.total_cmp(&a.1) };
        values.min_by(better)
    }
}
