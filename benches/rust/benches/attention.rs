//! Wall time of the attention kernels: `cargo bench -p subquad-benches`.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use subquad_benches::numbers;
use subquad_core::Par;
use subquad_core::attention::{Head, Output, Problem, Visible, forward};
use subquad_core::mat::{MatCell, MatRef, Rows};

fn exact_forward(c: &mut Criterion) {
    let mut group = c.benchmark_group("forward");
    for (n, d) in [(2048, 64), (2048, 128)] {
        let [q, k, v] = [1, 2, 3].map(|seed| numbers(n * d, seed));
        let view = |x| Rows::F32(MatRef::from_slice(x, n, d));
        let head = Head { query: view(&q), key: view(&k), value: view(&v), mask: None, bias: None };
        let scale = 1.0 / (d as f64).sqrt();
        let problem = Problem::new(vec![head], scale, Visible::ALL).expect("shapes agree");
        let mut out = vec![0_f32; n * d];
        group.throughput(Throughput::Elements(4 * (n * n * d) as u64));
        group.bench_function(format!("n={n} d={d}"), |b| {
            b.iter(|| {
                let out = MatCell::from_slice(&mut out, n, d);
                let output = Output { out, lse: None, parts: None };
                forward(&problem, &[output], Par::seq()).expect("nobody asks to stop")
            });
        });
    }
    group.finish();
}

criterion_group!(benches, exact_forward);
criterion_main!(benches);
