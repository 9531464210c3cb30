//! Wall time of the attention kernels: `cargo bench -p subquad-benches`.

use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use subquad_benches::numbers;
use subquad_core::Par;
use subquad_core::attention::{
    Head, HeadGradients, Output, Problem, Upstream, Visible, backward, forward,
};
use subquad_core::mat::{MatCell, MatRef, Rows};

/// One head of `queries x keys`, `d` wide.
struct Arrays {
    shape: (usize, usize, usize),
    data: [Vec<f32>; 4],
}

impl Arrays {
    fn new(queries: usize, keys: usize, d: usize) -> Self {
        let rows = [queries, keys, keys, queries];
        let data = std::array::from_fn(|i| numbers(rows[i] * d, i as u32));
        Self { shape: (queries, keys, d), data }
    }

    fn rows(&self, i: usize) -> Rows<'_> {
        let d = self.shape.2;
        Rows::F32(MatRef::from_slice(&self.data[i], self.data[i].len() / d, d))
    }

    fn problem(&self, visible: Visible) -> Problem<'_> {
        let (query, key, value) = (self.rows(0), self.rows(1), self.rows(2));
        let head = Head { query, key, value, mask: None, bias: None, lags: None, weights: None };
        let scale = 1.0 / (self.shape.2 as f64).sqrt();
        Problem::new(vec![head], scale, visible).expect("shapes agree")
    }
}

type Group<'a> = BenchmarkGroup<'a, criterion::measurement::WallTime>;

fn bench_forward(group: &mut Group<'_>, arrays: &Arrays, visible: Visible) {
    let (queries, keys, d) = arrays.shape;
    let problem = arrays.problem(visible);
    let mut out = vec![0_f32; queries * d];
    group.throughput(Throughput::Elements(4 * d as u64 * visible.pairs(queries, keys)));
    group.bench_function(format!("{queries} x {keys} x {d}"), |b| {
        b.iter(|| {
            let out = MatCell::from_slice(&mut out, queries, d);
            let output = Output { out, lse: None, parts: None };
            forward(&problem, &[output], Par::seq()).expect("nobody asks to stop")
        });
    });
}

fn exact(c: &mut Criterion) {
    for (name, visible) in [("forward", Visible::ALL), ("causal", Visible::causal(0, None))] {
        let mut group = c.benchmark_group(name);
        for d in [64, 128] {
            bench_forward(&mut group, &Arrays::new(2048, 2048, d), visible);
        }
        group.finish();
    }
    let mut group = c.benchmark_group("decode");
    for d in [64, 128] {
        bench_forward(&mut group, &Arrays::new(1, 65_536, d), Visible::ALL);
    }
    group.finish();
}

fn gradient(c: &mut Criterion) {
    let mut group = c.benchmark_group("backward");
    for d in [64, 128] {
        let n = 2048;
        let arrays = Arrays::new(n, n, d);
        let problem = arrays.problem(Visible::ALL);
        let (mut out, mut lse) = (vec![0_f32; n * d], vec![0_f32; n]);
        let output = Output {
            out: MatCell::from_slice(&mut out, n, d),
            lse: Some(MatCell::from_slice(&mut lse, n, 1)),
            parts: None,
        };
        forward(&problem, &[output], Par::seq()).expect("nobody asks to stop");
        let upstream = Upstream {
            grad_out: arrays.rows(3),
            out: Rows::F32(MatRef::from_slice(&out, n, d)),
            lse: Rows::F32(MatRef::from_slice(&lse, n, 1)),
        };
        let mut grads = [(); 3].map(|()| vec![0_f32; n * d]);
        group.throughput(Throughput::Elements(10 * (n * n * d) as u64));
        group.bench_function(format!("{n} x {n} x {d}"), |b| {
            b.iter(|| {
                let [query, key, value] =
                    grads.each_mut().map(|grad| Some(MatCell::from_slice(grad, n, d)));
                let to = HeadGradients { query, key, value, bias: None, lags: None, weights: None };
                backward(&problem, &[upstream], &[to], Par::seq()).expect("nobody asks to stop")
            });
        });
    }
    group.finish();
}

criterion_group!(benches, exact, gradient);
criterion_main!(benches);
