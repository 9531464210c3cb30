use super::astar::AStar;
use super::oneshot::Game;
use super::{Status, replay};
use crate::Par;
use super::oracle::{Random, optimum};
use crate::pebble::{Dag, Model, Outputs, Sources, play};

pub fn matmul(m: usize, n: usize, k: usize) -> Dag {
    let mut edges = Vec::new();
    let (a, b, c) = (|i, l| i * k + l, |l, j| m * k + l * n + j, m * k + k * n);
    for i in 0..m {
        for j in 0..n {
            for l in 0..k {
                let v = c + (i * n + j) * k + l;
                edges.push([a(i, l) as u32, v as u32]);
                edges.push([b(l, j) as u32, v as u32]);
                if l > 0 {
                    edges.push([v as u32 - 1, v as u32]);
                }
            }
        }
    }
    Dag::new(c + m * n * k, &edges, None, None).unwrap()
}

pub fn fft(k: usize) -> Dag {
    let n = 1 << k;
    let mut edges = Vec::new();
    for s in 0..k {
        for i in 0..n {
            for u in [i, i ^ (1 << s)] {
                edges.push([(s * n + u) as u32, ((s + 1) * n + i) as u32]);
            }
        }
    }
    Dag::new(n * (k + 1), &edges, None, None).unwrap()
}

fn solve(dag: &Dag, memory: u64, model: Model) -> (u64, super::Progress) {
    let game = Game::<1>::new(dag, memory, &model).unwrap();
    let mut search = AStar::new(game, 8 << 30);
    let mut up = None;
    while search.progress().status == Status::Running {
        search.step(Par::seq()).unwrap();
        let p = search.progress();
        if dag.num_vertices() > 200 && p.upper != up { up = p.upper; println!("   up {up:?} lower {} exp {}", p.lower, p.expanded); }
    }
    let p = search.progress();
    let moves = replay::moves(&search, search.best().unwrap());
    let count = play(dag, &moves, memory, model, Par::seq()).unwrap().unwrap();
    assert_eq!(count.cost(), p.upper.unwrap() as f64, "{moves:?} {model:?} M={memory} {:?} {:?}", (0..dag.num_vertices() as u32).map(|v| dag.preds(v).to_vec()).collect::<Vec<_>>(), dag.outputs().collect::<Vec<_>>());
    (p.upper.unwrap(), p)
}

#[test]
fn fuzz() {
    let mut tot = 0;
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let heaviest = [1, 1, 3][seed as usize % 3];
        let n = 6 + random.below(4);
        let dag = random.dag(n, heaviest);
        for sliding in [false, true] { for outputs in [Outputs::Blue, Outputs::Any] { for sources in [Sources::Blue, Sources::Computable] {
            let model = Model { sliding, outputs, sources, ..Model::default() };
            let least = dag.least_memory(sliding);
            let memory = least + random.below(3);
            let q = optimum(&dag, memory, &model).unwrap();
            let found = solve(&dag, memory, model);
            tot += 1;
            assert_eq!(q, 2 * found.0, "seed {seed} M={memory} {model:?} {:?} w{:?} out{:?}", (0..n as u32).map(|v| dag.preds(v).to_vec()).collect::<Vec<_>>(), dag.weights(), dag.outputs().collect::<Vec<_>>());
        }}}
    }
    println!("fuzz {tot}");
}

#[test]
fn probe() {
    for (name, dag, memories) in [("mm333", matmul(3, 3, 3), 4..11), ("fft8", fft(3), 3..7)] {
        for memory in memories {
            let t = std::time::Instant::now();
            let (q, p) = solve(&dag, memory, Model::default());
            println!("{name} M={memory} Q={q} exp={} states={} MB={} t={:.2}", p.expanded, p.states, p.bytes >> 20, t.elapsed().as_secs_f64());
        }
    }
}
