use std::time::Duration;

use super::oracle::{optimum, random_dag};
use super::{Progress, Search, Status};
use crate::pebble::random::Random;
use crate::pebble::{Dag, Family, Form, Model, Outputs, Sources, play};
use crate::{Error, Par};

/// The outcome of a search to its end, whose best play the referee has counted.
pub fn solve(dag: &Dag, memory: u64, model: Model) -> Progress {
    let mut search = Search::new(dag, memory, model, 1 << 32).unwrap();
    let progress = loop {
        let progress = search.advance(Par::threads(2), Duration::ZERO, Duration::MAX).unwrap();
        if progress.status != Status::Running {
            break progress;
        }
    };
    assert_eq!(search.moves().is_some(), progress.upper.is_some());
    if let (Some(moves), Some(upper)) = (search.moves(), progress.upper) {
        let count = play(dag, &moves, memory, model, Par::seq()).unwrap();
        let count = count.unwrap_or_else(|illegal| panic!("{illegal}: {moves:?}"));
        assert_eq!(count.cost(), upper.total(model.compute_cost));
        assert!(progress.status != Status::Optimal || progress.lower == upper);
    }
    progress
}

/// Compares the search with the definition on random graphs; `pick` takes a model from random numbers.
fn compare(seeds: std::ops::Range<u64>, mut pick: impl FnMut(&mut Random) -> Model) -> usize {
    let mut infeasible = 0;
    for seed in seeds {
        let random = &mut Random::new(seed);
        let heaviest = [1, 1, 3][seed as usize % 3];
        let size = 6 + random.below(3);
        let dag = random_dag(random, size, heaviest);
        let model = pick(random);
        let memory = dag.least_memory(&model) + random.below(3) as u64;
        let progress = solve(&dag, memory, model);
        let found = progress.upper.map(|cost| (2.0 * cost.total(model.compute_cost)) as u64);
        let expected = optimum(&dag, memory, &model);
        let preds: Vec<_> = (0..size as u32).map(|v| dag.preds(v).to_vec()).collect();
        let outputs: Vec<_> = dag.outputs().collect();
        assert_eq!(
            found,
            expected,
            "seed {seed}: memory {memory}, {model:?}, operands {preds:?}, outputs {outputs:?}, weights {:?}",
            dag.weights()
        );
        let over = if expected.is_some() { Status::Optimal } else { Status::Infeasible };
        assert_eq!(progress.status, over, "seed {seed}");
        infeasible += usize::from(expected.is_none());
    }
    infeasible
}

#[test]
fn nothing_is_played_in_less_than_the_least_memory() {
    let mut checked = 0;
    for seed in 0..400 {
        let random = &mut Random::new(seed);
        let size = 4 + random.below(3);
        let dag = random_dag(random, size, 1 + seed as usize % 3);
        let model = flags(random);
        let least = dag.least_memory(&model);
        if least > 0 {
            checked += 1;
            assert_eq!(optimum(&dag, least - 1, &model), None, "seed {seed}: {least}, {model:?}");
        }
        // What is slid away and still needed must be stored, and stay.
        if !model.sliding {
            assert!(optimum(&dag, least, &model).is_some(), "seed {seed}: {least}, {model:?}");
        }
    }
    assert!(checked > 300);
}

fn flags(random: &mut Random) -> Model {
    Model {
        sliding: random.below(2) == 1,
        sources: if random.below(2) == 1 { Sources::Computable } else { Sources::Blue },
        outputs: if random.below(2) == 1 { Outputs::Any } else { Outputs::Blue },
        compute_cost: [0.0, 0.5, 1.0, 3.0][random.below(4)],
        ..Model::default()
    }
}

#[test]
fn the_one_shot_optimum_is_that_of_the_definition() {
    assert_eq!(compare(0..400, |_| Model::default()), 0);
    assert_eq!(compare(1000..1400, flags), 0);
}

#[test]
fn the_optimum_with_recomputation_is_that_of_the_definition() {
    let again = Model { recompute: true, ..Model::default() };
    assert_eq!(compare(0..200, |_| again), 0);
    assert_eq!(compare(2000..2300, |random| Model { recompute: true, ..flags(random) }), 0);
}

#[test]
fn the_optimum_of_other_games_is_that_of_the_definition() {
    let other = |random: &mut Random| {
        let blue_persists = random.below(2) == 1;
        let deletes = !blue_persists && random.below(2) == 1;
        Model { blue_persists, deletes, recompute: random.below(2) == 1, ..flags(random) }
    };
    let infeasible = compare(3000..3400, other);
    assert!(infeasible > 0);
}

const PRODUCT: Family = Family::Matmul { m: 3, n: 2, k: 3, form: Form::Fma };

#[test]
fn the_outcome_does_not_depend_on_workers_or_pauses() {
    let dag = PRODUCT.dag().unwrap();
    for model in [Model::default(), Model { recompute: true, ..Model::default() }] {
        let outcome = |workers: usize, time: Duration, breaks: usize| {
            let mut search = Search::new(&dag, 6, model, 1 << 26).unwrap();
            for i in 0..breaks {
                // Steps that are left begin anew.
                let limit = Duration::from_micros(17 * i as u64);
                search.advance(Par::threads(workers), Duration::ZERO, limit).unwrap();
            }
            while search.progress().status == Status::Running && search.progress().states < 20_000 {
                search.advance(Par::threads(workers), time, Duration::MAX).unwrap();
            }
            (search.progress(), search.moves())
        };
        let expected = outcome(1, Duration::ZERO, 0);
        assert!(expected.1.is_some());
        for workers in [2, 3, 8] {
            assert_eq!(outcome(workers, Duration::ZERO, 0), expected);
        }
        let (broken, _) = outcome(2, Duration::ZERO, 40);
        assert_eq!((broken.upper, broken.status), (expected.0.upper, expected.0.status));
    }
}

#[test]
fn bounds_close_in_on_the_optimum_until_memory_is_full() {
    let dag = Family::Fft { n: 16 }.dag().unwrap();
    let mut search = Search::new(&dag, 6, Model::default(), 1 << 21).unwrap();
    let mut before = search.progress();
    while before.status == Status::Running {
        let now = search.advance(Par::seq(), Duration::ZERO, Duration::MAX).unwrap();
        assert!(
            before.lower.words <= now.lower.words && now.lower.words <= now.upper.unwrap().words
        );
        assert!(now.upper.unwrap().words <= before.upper.unwrap().words);
        before = now;
    }
    assert_eq!(before.status, Status::MemoryLimit);
    assert!(before.bytes < 1 << 23 && before.lower.words >= 40);
    let moves = search.moves().unwrap();
    let count = play(&dag, &moves, 6, Model::default(), Par::seq()).unwrap().unwrap();
    assert_eq!(count.loads + count.stores, before.upper.unwrap().words);
}

#[test]
fn a_graph_of_more_values_than_a_state_has_bits_keeps_the_first_play() {
    let dag = Family::Stencil { width: 40, steps: 40 }.dag().unwrap();
    let games = [
        Model::default(),
        Model { sliding: true, outputs: Outputs::Any, ..Model::default() },
        Model { recompute: true, deletes: false, ..Model::default() },
        Model { blue_persists: false, sources: Sources::Computable, ..Model::default() },
    ];
    for model in games {
        let progress = solve(&dag, dag.least_memory(&model) + 3, model);
        assert_eq!(progress.status, Status::TooLarge);
        assert!(progress.lower.words < progress.upper.unwrap().words);
    }
    // What fits is best at once.
    assert_eq!(solve(&dag, 1700, Model::default()).status, Status::Optimal);
}

#[test]
fn graphs_of_all_sizes_are_searched() {
    // 63 to 1023 values: states of one to sixteen words.
    for height in 5..10 {
        let dag = Family::Tree { height }.dag().unwrap();
        let progress = solve(&dag, height as u64 + 2, Model::default());
        assert_eq!(progress.status, Status::Optimal);
        assert_eq!(progress.lower.words, (1 << height) + 1);
    }
}

#[test]
fn what_cannot_be_searched_is_refused() {
    let dag = PRODUCT.dag().unwrap();
    let refused = |memory, model| Search::new(&dag, memory, model, 1 << 20).err();
    let error = Error::TooSmall { name: "memory", least: 4, found: 3 };
    assert_eq!(error.to_string(), "`memory` must be at least 4, got 3");
    assert_eq!(refused(3, Model::default()), Some(error));
    assert_eq!(refused(3, Model { sliding: true, ..Model::default() }), None);
    for compute_cost in [-1.0, f64::INFINITY, f64::NAN] {
        let error = refused(4, Model { compute_cost, ..Model::default() });
        assert!(matches!(error, Some(Error::Domain { name: "compute_cost", .. })));
    }
}

#[test]
#[ignore = "minutes"]
fn optima_are_those_of_the_definition_on_many_more() {
    let any = |random: &mut Random| Model {
        blue_persists: random.below(2) == 1,
        deletes: random.below(2) == 1,
        recompute: random.below(2) == 1,
        ..flags(random)
    };
    compare(10_000..13_000, any);
    compare(20_000..24_000, flags);
}
