use std::collections::{BTreeMap, BinaryHeap};

use super::super::random::Random;
use super::super::{Family, Form, Op, Order, Outputs, Softmax, Sources, play};
use super::*;

const POLICIES: [Policy; 6] = [
    Policy::Belady,
    Policy::BeladyClean,
    Policy::BeladyBest,
    Policy::Lru,
    Policy::Fifo,
    Policy::Random { seed: 3 },
];

fn models() -> Vec<Model> {
    let mut models = vec![];
    for bits in 0..32 {
        let bit = |i: u32| bits >> i & 1 != 0;
        models.push(Model {
            sliding: bit(0),
            blue_persists: bit(1),
            deletes: bit(2),
            sources: if bit(3) { Sources::Blue } else { Sources::Computable },
            outputs: if bit(4) { Outputs::Blue } else { Outputs::Any },
            ..Model::default()
        });
    }
    models
}

fn families() -> Vec<Family> {
    vec![
        Family::Chain { length: 5 },
        Family::Tree { height: 4 },
        Family::Pyramid { height: 5 },
        Family::Grid { rows: 4, columns: 5 },
        Family::Stencil { width: 7, steps: 5 },
        Family::Fft { n: 16 },
        Family::Matmul { m: 3, n: 4, k: 5, form: Form::Fma },
        Family::Matmul { m: 2, n: 2, k: 6, form: Form::Tree },
        Family::Attention { n: 4, d: 2, form: Form::Chain, softmax: Softmax::Safe },
        Family::AttentionGrad { n: 3, d: 2, form: Form::Fma },
    ]
}

/// A small random graph; some have weights, and outputs with users, or which are sources.
fn random_dag(random: &mut Random, most: usize) -> Dag {
    let vertices = 2 + random.below(most - 1);
    let sources = 1 + random.below(vertices.min(4));
    let mut edges = vec![];
    for v in sources..vertices {
        for _ in 0..=random.below(3) {
            edges.push([random.below(v) as u32, v as u32]);
        }
    }
    let drawn: Vec<u32> = (0..vertices as u32).filter(|_| random.below(4) == 0).collect();
    let outputs = (random.below(2) == 0 && !drawn.is_empty()).then_some(drawn);
    let weights = (0..vertices).map(|_| 1 + random.below(3) as u32).collect();
    let weights = (random.below(3) == 0).then_some(weights);
    Dag::new(vertices, &edges, outputs.as_deref(), weights).unwrap()
}

/// An order with ties broken at random.
fn random_order(dag: &Dag, random: &mut Random) -> Vec<u32> {
    let mut waits: Vec<usize> =
        (0..dag.num_vertices() as u32).map(|v| dag.preds(v).len()).collect();
    let mut ready: Vec<u32> = (0..waits.len() as u32).filter(|&v| dag.is_source(v)).collect();
    let mut order = vec![];
    while !ready.is_empty() {
        let v = ready.swap_remove(random.below(ready.len()));
        order.push(v);
        for &w in dag.succs(v) {
            waits[w as usize] -= 1;
            if waits[w as usize] == 0 {
                ready.push(w);
            }
        }
    }
    order
}

fn io(count: &Count) -> u64 {
    count.loads + count.stores
}

fn belady(dag: &Dag, order: &[u32], memory: u64) -> u64 {
    io(&simulate(dag, order, memory, Policy::Belady, Model::default(), Par::seq()).unwrap())
}

/// Plays the moves of every rule in every model; how often that was possible.
fn all_play(dag: &Dag, order: &[u32], memory: u64) -> usize {
    let schedule = Schedule::new(dag, order, Par::seq()).unwrap();
    let mut played = 0;
    for model in models() {
        for policy in POLICIES {
            let counted = schedule.count(memory, policy, model, Par::seq());
            let (count, moves) = match schedule.moves(memory, policy, model, Par::seq()) {
                Ok(done) => done,
                Err(err) => {
                    assert!(matches!(err, Error::TooSmall { name: "memory", .. }));
                    let too_small = memory < dag.least_memory(&model);
                    // What is slid away and still needed must be stored, and stay.
                    assert!(too_small || model.sliding && !model.blue_persists, "{model:?}");
                    continue;
                }
            };
            played += 1;
            assert_eq!(counted, Ok(count));
            let verdict = play(dag, &moves, memory, model, Par::seq()).unwrap();
            assert_eq!(verdict, Ok(count), "{policy:?} {model:?} {memory} {moves:?}");
            assert!(count.peak <= memory);
        }
    }
    played
}

#[test]
fn every_rule_plays_every_game() {
    let mut played = 0;
    for family in families() {
        let dag = family.dag().unwrap();
        let order = family.order(Order::Natural).unwrap().unwrap();
        let least = dag.least_memory(&Model { sliding: true, ..Model::default() });
        for memory in [least, least + 1, least + 3, 1000] {
            played += all_play(&dag, &order, memory);
        }
    }
    assert!(played > 6000, "{played}");
}

#[test]
fn random_graphs_are_played_in_random_orders() {
    let mut random = Random::new(1);
    let mut played = 0;
    for _ in 0..300 {
        let dag = random_dag(&mut random, 24);
        let order = random_order(&dag, &mut random);
        let model = Model { sliding: random.below(2) == 0, ..Model::default() };
        let memory = dag.least_memory(&model) + random.below(4) as u64;
        played += all_play(&dag, &order, memory);
    }
    assert!(played > 40_000, "{played}");
}

/// Belady's rule, or the least recently used, by looking at everything in every step: one word each, blue sources
/// and outputs.
fn naive(dag: &Dag, order: &[u32], memory: usize, lru: bool) -> u64 {
    // For the next use of u after step t: the step, and the place among its operands.
    let next = |u: u32, t: usize| -> Option<(usize, usize)> {
        let uses = (t..order.len()).filter_map(|s| {
            let preds = dag.preds(order[s]);
            let place = preds.iter().rev().position(|&x| x == u)?;
            Some((s, place))
        });
        uses.into_iter().next()
    };
    let mut red: BTreeMap<u32, usize> = BTreeMap::new();
    let mut blue: Vec<bool> = (0..dag.num_vertices() as u32).map(|v| dag.is_source(v)).collect();
    let (mut cost, mut clock) = (0, 0);
    for (t, &v) in order.iter().enumerate() {
        let operands: Vec<u32> = dag.preds(v).iter().rev().copied().collect();
        for u in &operands {
            clock += 1;
            red.entry(*u).and_modify(|used| *used = clock);
        }
        for &x in operands.iter().chain([&v]) {
            if red.contains_key(&x) {
                continue;
            }
            if red.len() == memory {
                let others = red.iter().filter(|(u, _)| !operands.contains(u));
                let victim = if lru {
                    *others.min_by_key(|&(_, &used)| used).unwrap().0
                } else {
                    let last = *others.max_by_key(|&(&u, _)| next(u, t)).unwrap().0;
                    let (step, place) = next(last, t).unwrap();
                    let preds: Vec<u32> = dag.preds(order[step]).iter().rev().copied().collect();
                    let sibling = (place.saturating_sub(8)..place).rev().find(|&p| {
                        let there = red.contains_key(&preds[p]) && blue[preds[p] as usize];
                        there && next(preds[p], t) == Some((step, p))
                    });
                    let sibling = sibling.map(|p| preds[p]);
                    if blue[last as usize] { last } else { sibling.unwrap_or(last) }
                };
                red.remove(&victim);
                cost += u64::from(!std::mem::replace(&mut blue[victim as usize], true));
            }
            clock += 1;
            red.insert(x, clock);
            cost += u64::from(x != v);
        }
        for &u in operands.iter().chain([&v]) {
            if next(u, t + 1).is_none() {
                red.remove(&u);
                let stored = dag.is_output(u) && !std::mem::replace(&mut blue[u as usize], true);
                cost += u64::from(stored);
            }
        }
    }
    cost
}

#[test]
fn counts_are_those_of_a_naive_simulation() {
    let mut random = Random::new(2);
    for family in families() {
        let dag = family.dag().unwrap();
        let natural = family.order(Order::Natural).unwrap().unwrap();
        let mut drawn = random_order(&dag, &mut random);
        drawn.retain(|&v| !dag.is_source(v));
        for order in [natural, drawn] {
            for memory in [0, 1, 4, 9].map(|more| dag.least_memory(&Model::default()) + more) {
                let count = |policy| {
                    io(&simulate(&dag, &order, memory, policy, Model::default(), Par::seq())
                        .unwrap())
                };
                let belady = naive(&dag, &order, memory as usize, false);
                let lru = naive(&dag, &order, memory as usize, true);
                assert_eq!(
                    (count(Policy::Belady), count(Policy::Lru)),
                    (belady, lru),
                    "{family:?}"
                );
                let best = count(Policy::Belady).min(count(Policy::BeladyClean));
                assert_eq!(count(Policy::BeladyBest), best);
            }
        }
    }
}

/// The least cost of all one-shot plays, by exhaustive search over sets of pebbles.
fn optimum(dag: &Dag, memory: u64, model: Model) -> Option<u64> {
    let vertices = 0..dag.num_vertices() as u32;
    let all = |set: u32, of: &[u32]| of.iter().all(|v| set >> v & 1 != 0);
    let outputs: Vec<u32> = dag.outputs().collect();
    let weight = |set: u32| {
        vertices.clone().filter(|v| set >> v & 1 != 0).map(|v| dag.weight(v)).sum::<u64>()
    };
    let sources = vertices.clone().filter(|&v| dag.is_source(v)).map(|v| 1u32 << v).sum::<u32>();
    let start = if model.sources == Sources::Blue { sources } else { 0 };
    let mut heap = BinaryHeap::from([(std::cmp::Reverse(0), [0, start, start])]);
    let mut seen = std::collections::HashSet::new();
    while let Some((std::cmp::Reverse(cost), [red, blue, computed])) = heap.pop() {
        if !seen.insert([red, blue, computed]) {
            continue;
        }
        let ends = if model.outputs == Outputs::Blue { blue } else { blue | red };
        if all(ends, &outputs) {
            return Some(cost);
        }
        let persists = model.blue_persists;
        for v in vertices.clone() {
            let (bit, words) = (1 << v, dag.weight(v));
            let mut push = |more: u64, state: [u32; 3]| {
                if weight(state[0]) <= memory {
                    heap.push((std::cmp::Reverse(cost + more), state));
                }
            };
            if red & bit != 0 {
                let stays = if persists { red } else { red & !bit };
                push(words, [stays, blue | bit, computed]);
                if model.deletes || blue & bit != 0 {
                    push(0, [red & !bit, blue, computed]);
                }
                continue;
            }
            if blue & bit != 0 {
                push(words, [red | bit, if persists { blue } else { blue & !bit }, computed]);
            }
            if computed & bit == 0 && all(red, dag.preds(v)) {
                push(0, [red | bit, blue, computed | bit]);
                for &u in dag.preds(v) {
                    if model.sliding && (model.deletes || blue >> u & 1 != 0) {
                        push(0, [red & !(1 << u) | bit, blue, computed | bit]);
                    }
                }
            }
        }
    }
    None
}

#[test]
fn no_count_is_below_the_optimum_and_many_are_there() {
    let mut random = Random::new(4);
    let (mut instances, mut equal) = (0, 0);
    for model in models() {
        for _ in 0..6 {
            let dag = random_dag(&mut random, 7);
            let memory = dag.least_memory(&model) + random.below(2) as u64;
            let Some(best) = optimum(&dag, memory, model) else { continue };
            let mut least = u64::MAX;
            for _ in 0..20 {
                let order = random_order(&dag, &mut random);
                if let Ok(count) =
                    simulate(&dag, &order, memory, Policy::BeladyBest, model, Par::seq())
                {
                    least = least.min(io(&count));
                }
            }
            assert!(least >= best, "{model:?} {dag:?} {memory}");
            instances += 1;
            equal += usize::from(least == best);
        }
    }
    assert!(instances > 150 && equal * 10 > instances * 9, "{equal} of {instances}");
}

#[test]
fn trees_cost_what_sethi_and_ullman_spill() {
    for height in 2..=8 {
        for memory in 3..=height + 3 {
            let family = Family::Tree { height: height as usize };
            let dag = family.dag().unwrap();
            let spills = (1u64 << (height + 2u64).saturating_sub(memory)) - 1;
            let expected = (1 << height) + 1 + 2 * spills;
            let natural = family.order(Order::Natural).unwrap().unwrap();
            assert_eq!(belady(&dag, &natural, memory), expected);
            assert_eq!(belady(&dag, &depth_first(&dag), memory), expected);
            let sliding = Model { sliding: true, ..Model::default() };
            let slid =
                simulate(&dag, &natural, memory - 1, Policy::Belady, sliding, Par::seq()).unwrap();
            assert_eq!(io(&slid), expected, "height {height} memory {memory}");
        }
    }
}

#[test]
fn a_crooked_tree_is_computed_with_its_numbers_of_registers() {
    // A caterpillar whose long arm is the last operand: arm first needs 3 words, leaves first as many as it is long.
    let length = 20u32;
    let edges: Vec<[u32; 2]> = (0..length)
        .flat_map(|i| {
            let v = length + 1 + i;
            [[i, v], [if i == 0 { length } else { v - 1 }, v]]
        })
        .collect();
    let dag = Dag::new(2 * length as usize + 1, &edges, None, None).unwrap();
    assert_eq!(belady(&dag, &depth_first(&dag), 3), u64::from(length) + 2);
}

#[test]
fn closed_forms_hold() {
    let cost = |family: Family, memory: u64| {
        belady(&family.dag().unwrap(), &family.order(Order::Natural).unwrap().unwrap(), memory)
    };
    assert_eq!(cost(Family::Chain { length: 50 }, 2), 2);
    for k in 3..9 {
        assert_eq!(cost(Family::Pyramid { height: k }, k as u64 + 2), k as u64 + 2);
        assert_eq!(cost(Family::Grid { rows: k, columns: k }, k as u64 + 1), 2);
        assert_eq!(cost(Family::Fft { n: 1 << k }, (1 << k) + 2), 2 << k);
    }
    for k in 2..6u64 {
        let n = k as usize;
        let matmul = Family::Matmul { m: n, n, k: n, form: Form::Fma };
        let blocked = matmul.order(Order::Blocked { block: n }).unwrap().unwrap();
        assert_eq!(belady(&matmul.dag().unwrap(), &blocked, k * k + k + 2), 3 * k * k);
    }
}

#[test]
fn blocks_and_halves_cost_less_than_rows() {
    let cost = |family: Family, order, memory| {
        belady(&family.dag().unwrap(), &family.order(order).unwrap().unwrap(), memory)
    };
    let matmul = Family::Matmul { m: 32, n: 32, k: 32, form: Form::Fma };
    let bound = 2.0 * 32f64.powi(3) / 8.0 - 128.0;
    let blocked = cost(matmul, Order::Blocked { block: 7 }, 64) as f64;
    assert!(blocked > bound && blocked < 1.5 * bound, "{blocked}");
    assert!(cost(matmul, Order::Recursive, 64) * 4 < cost(matmul, Order::Natural, 64) * 3);
    let fft = Family::Fft { n: 1 << 10 };
    let natural = cost(fft, Order::Natural, 34);
    // Two passes; at their border something stays.
    assert!(cost(fft, Order::Blocked { block: 32 }, 34) <= 2 * 2 * 1024);
    assert!(cost(fft, Order::Recursive, 34) * 4 < natural * 3);
    let stencil = Family::Stencil { width: 256, steps: 64 };
    let skewed = cost(stencil, Order::Blocked { block: 30 }, 66);
    assert!(skewed * 10 < cost(stencil, Order::Natural, 66), "{skewed}");
    let attention = Family::Attention { n: 32, d: 4, form: Form::Fma, softmax: Softmax::Online };
    let blocked = cost(attention, Order::Blocked { block: 8 }, 100);
    assert!(blocked * 2 < cost(attention, Order::Natural, 100));
}

#[test]
fn greedy_and_depth_first_orders_are_orders() {
    let mut random = Random::new(9);
    let mut dags: Vec<Dag> = families().iter().map(|family| family.dag().unwrap()).collect();
    dags.extend((0..100).map(|_| random_dag(&mut random, 30)));
    for dag in dags {
        let memory = dag.least_memory(&Model::default());
        for order in [natural(&dag), depth_first(&dag), greedy(&dag, memory, Par::seq()).unwrap()] {
            belady(&dag, &order, memory);
            let needed = dag.needed();
            let computed = |v: &u32| needed[*v as usize] && !dag.is_source(*v);
            let needed = (0..dag.num_vertices() as u32).filter(computed).count();
            assert_eq!(order.len(), needed);
        }
    }
    let stencil = Family::Stencil { width: 256, steps: 32 }.dag().unwrap();
    let order = greedy(&stencil, 68, Par::seq()).unwrap();
    assert_eq!(belady(&stencil, &order, 68), 512);
}

#[test]
fn small_changes_find_known_optima() {
    let attention =
        Family::Attention { n: 2, d: 2, form: Form::Fma, softmax: Softmax::Unnormalised };
    let cases = [
        (Family::Matmul { m: 2, n: 2, k: 2, form: Form::Fma }, 5, 14),
        (Family::Matmul { m: 3, n: 3, k: 3, form: Form::Fma }, 6, 39),
        (Family::Fft { n: 8 }, 4, 31),
        (Family::Stencil { width: 8, steps: 4 }, 6, 26),
        (attention, 4, 38),
    ];
    for (family, memory, optimum) in cases {
        let dag = std::sync::Arc::new(family.dag().unwrap());
        let order = family.order(Order::Natural).unwrap().unwrap();
        let search = |slice| {
            let mut improver =
                Improver::new(dag.clone(), &order, memory, Model::default(), 20_000, 1).unwrap();
            while improver.advance(slice, Par::seq()).unwrap() {}
            assert_eq!(improver.evaluations(), 20_000);
            let (order, count) = improver.best();
            assert_eq!(belady(&dag, order, memory), io(&count));
            (order.to_vec(), io(&count))
        };
        let found = search(777);
        assert_eq!(found.1, optimum, "{family:?}");
        assert_eq!(found, search(20_000));
    }
}

#[test]
fn orders_that_are_none_are_refused() {
    let dag = Dag::new(5, &[[0, 2], [1, 2], [2, 3], [1, 4]], Some(&[3]), None).unwrap();
    let refused = |order: &[u32]| Schedule::new(&dag, order, Par::seq()).err().unwrap();
    assert_eq!(refused(&[3, 2]), Error::Operand { index: 0, vertex: 3, operand: 2 });
    assert_eq!(refused(&[0, 4, 3, 2]), Error::Operand { index: 2, vertex: 3, operand: 2 });
    assert_eq!(refused(&[2]), Error::NotOnce { vertex: 3, times: 0 });
    assert_eq!(refused(&[2, 3, 2, 2]), Error::NotOnce { vertex: 2, times: 3 });
    let unknown = Error::Vertex { name: "order", index: 1, vertex: 7, vertices: 5 };
    assert_eq!(refused(&[2, 7]), unknown);
    // Sources, and what is not needed, may be there or not.
    assert_eq!(belady(&dag, &[2, 3], 3), belady(&dag, dag.topological_order(), 3));
    let count = simulate(&dag, &[2, 3], 2, Policy::Lru, Model::default(), Par::seq());
    assert_eq!(count, Err(Error::TooSmall { name: "memory", least: 3, found: 2 }));
}

#[test]
fn a_simulation_can_be_stopped() {
    let dag = Family::Fft { n: 64 }.dag().unwrap();
    let order = dag.topological_order();
    let stop = crate::par::Stop::new(&|| true);
    let stopped =
        simulate(&dag, order, 9, Policy::Lru, Model::default(), Par::seq().stop_if(&stop));
    assert!(matches!(stopped, Err(Error::Stopped)) || stopped.is_ok());
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let later = || asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) > 2;
    let stop = crate::par::Stop::impatient(&later);
    let stopped =
        simulate(&dag, order, 9, Policy::Lru, Model::default(), Par::seq().stop_if(&stop));
    assert_eq!(stopped, Err(Error::Stopped));
}

#[test]
fn moves_begin_and_end_as_they_must() {
    let dag = Dag::new(2, &[[0, 1]], None, None).unwrap();
    let (_, moves) =
        simulate_moves(&dag, &[1], 2, Policy::Belady, Model::default(), Par::seq()).unwrap();
    let expected = [
        Move::new(Op::Load, 0),
        Move::new(Op::Compute, 1),
        Move::new(Op::Delete, 0),
        Move::new(Op::Store, 1),
        Move::new(Op::Delete, 1),
    ];
    assert_eq!(moves, expected);
}
