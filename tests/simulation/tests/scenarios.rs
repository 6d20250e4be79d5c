//! Every promise about calls holds in clusters with faults, made from seeds; and a seed always gives the same run.

use rmi_simulation::replay_command;
use rmi_simulation::run::run_seed;

/// Seeds that have found something.
const SEEDS: &str = include_str!("../seeds.txt");

/// As many as are bearable without optimisation; `.ci/run` runs hundreds with it.
const FEW: u64 = 20;

fn check(seeds: impl IntoIterator<Item = u64>) {
    let mut all = Vec::new();
    for seed in seeds {
        let report = run_seed(seed);
        all.extend(report.violations.iter().map(|violation| format!("{violation}\n    {}", replay_command(seed))));
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}

#[test]
fn promises_hold_in_scenarios_that_once_broke_them() {
    let seeds = SEEDS.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    check(seeds.map(|line| line.split_whitespace().next().and_then(|seed| seed.parse().ok()).expect("no seed")));
}

#[test]
fn promises_hold_in_scenarios_from_seeds() {
    check(0..FEW);
}

#[test]
fn a_seed_gives_the_same_run_twice() {
    for seed in [1, 4, 5, 27, 41, 109] {
        let (one, two) = (run_seed(seed), run_seed(seed));
        let differs = one.lines.iter().zip(&two.lines).find(|(one, two)| one != two);
        assert_eq!(one.fingerprint, two.fingerprint, "seed {seed}: {differs:?}");
        assert!(one.lines.len() > 100 && one.lines == two.lines);
    }
}
