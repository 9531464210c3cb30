use super::*;

const FORMS: [Form; 3] = [Form::Fma, Form::Chain, Form::Tree];
const SOFTMAXES: [Softmax; 3] = [Softmax::Unnormalised, Softmax::Safe, Softmax::Online];

fn forward(n: usize, d: usize, form: Form, softmax: Softmax) -> Family {
    Family::Attention { n, d, form, softmax }
}

/// One of every kind, small and with odd sizes.
fn families() -> Vec<Family> {
    let mut families = vec![
        Family::Chain { length: 5 },
        Family::Tree { height: 4 },
        Family::Pyramid { height: 6 },
        Family::Grid { rows: 3, columns: 5 },
        Family::Stencil { width: 7, steps: 5 },
        Family::Stencil { width: 1, steps: 2 },
        Family::Fft { n: 1 },
        Family::Fft { n: 32 },
        Family::Random { vertices: 50, sources: 4, least: 1, most: 3, seed: 5 },
    ];
    for form in FORMS {
        families.push(Family::Matmul { m: 3, n: 4, k: 5, form });
        families.push(Family::Matmul { m: 1, n: 2, k: 1, form });
        for (n, d) in [(1, 1), (2, 3), (5, 2), (6, 7)] {
            families.extend(SOFTMAXES.map(|softmax| forward(n, d, form, softmax)));
            families.push(Family::AttentionGrad { n, d, form });
        }
    }
    families
}

#[test]
fn vertices_and_edges_are_those_of_the_literature() {
    let fma = Form::Fma;
    let plain = Softmax::Unnormalised;
    let matmul = |m, n, k, form| Family::Matmul { m, n, k, form };
    let table = [
        (Family::Tree { height: 2 }, 7, 6),
        (Family::Tree { height: 5 }, 63, 62),
        (Family::Pyramid { height: 6 }, 28, 42),
        (Family::Pyramid { height: 10 }, 66, 110),
        (Family::Grid { rows: 8, columns: 8 }, 64, 112),
        (Family::Fft { n: 4 }, 12, 16),
        (Family::Fft { n: 8 }, 32, 48),
        (Family::Stencil { width: 6, steps: 3 }, 24, 48),
        (Family::Stencil { width: 8, steps: 4 }, 40, 88),
        (Family::Stencil { width: 8, steps: 8 }, 72, 176),
        (matmul(2, 2, 2, fma), 16, 20),
        (matmul(2, 2, 2, Form::Chain), 20, 24),
        (matmul(2, 2, 2, Form::Tree), 20, 24),
        (matmul(3, 2, 2, fma), 22, 30),
        (matmul(3, 3, 2, fma), 30, 45),
        (matmul(3, 3, 3, fma), 45, 72),
        (matmul(2, 2, 6, fma), 48, 68),
        (forward(2, 1, fma, plain), 22, 30),
        (forward(2, 2, fma, plain), 38, 56),
        (forward(3, 1, fma, plain), 45, 69),
        (forward(2, 3, fma, plain), 54, 82),
        (forward(2, 4, fma, plain), 70, 108),
    ];
    for (family, vertices, edges) in table {
        let dag = family.dag().unwrap();
        assert_eq!((dag.num_vertices(), dag.num_edges()), (vertices, edges), "{family:?}");
    }
}

#[test]
fn sizes_names_and_numbers_fit() {
    for family in families() {
        let dag = family.dag().unwrap();
        let names = family.names().unwrap();
        assert_eq!((names.len(), family.size()), (dag.num_vertices(), names.len() as f64));
        for (v, name) in names.iter().enumerate() {
            assert_eq!(family.name(v as u32).unwrap().as_ref(), Some(name));
        }
        assert_eq!(family.name(names.len() as u32).unwrap(), None);
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len(), "{family:?}: {names:?}");
        // Sources first, and numbers in an order of computation.
        let inputs = family.inputs();
        assert!((0..dag.num_vertices() as u32).all(|v| dag.is_source(v) == (v < inputs)));
        assert!(dag.topological_order().iter().copied().eq(0..dag.num_vertices() as u32));
        assert!(dag.needed()[inputs as usize..].iter().all(|&needed| needed), "{family:?}");
    }
}

#[test]
fn names_tell_what_is_computed() {
    let names = |family: Family, vertex: &str| {
        let (dag, names) = (family.dag().unwrap(), family.names().unwrap());
        let v = names.iter().position(|name| name == vertex).unwrap();
        let operands = dag.preds(v as u32).iter().map(|&u| names[u as usize].as_str());
        operands.collect::<Vec<_>>().join(" ")
    };
    let matmul = |form| Family::Matmul { m: 2, n: 2, k: 3, form };
    assert_eq!(names(matmul(Form::Fma), "C[1,0]"), "A[1,2] B[2,0] C[1,0;0:2]");
    assert_eq!(names(matmul(Form::Chain), "C[1,0;0:2]"), "C[1,0;0:1] C[1,0;1:2]");
    assert_eq!(names(matmul(Form::Tree), "C[1,0]"), "C[1,0;0:2] C[1,0;2:3]");
    let tree = Family::Matmul { m: 1, n: 1, k: 7, form: Form::Tree };
    assert_eq!(names(tree, "C[0,0]"), "C[0,0;0:4] C[0,0;4:7]");
    assert_eq!(names(tree, "C[0,0;4:7]"), "C[0,0;4:6] C[0,0;6:7]");
    assert_eq!(names(Family::Fft { n: 8 }, "x[2,1]"), "x[1,1] x[1,3]");
    assert_eq!(names(Family::Fft { n: 8 }, "x[3,6]"), "x[2,2] x[2,6]");
    assert_eq!(names(Family::Stencil { width: 3, steps: 2 }, "x[2,1]"), "x[1,0] x[1,1] x[1,2]");
    assert_eq!(names(Family::Pyramid { height: 3 }, "x[2,1]"), "x[1,1] x[1,2]");
    assert_eq!(names(Family::Tree { height: 3 }, "x[2,1]"), "x[1,2] x[1,3]");
    let fma = |softmax| forward(3, 2, Form::Fma, softmax);
    assert_eq!(names(fma(Softmax::Unnormalised), "P[1,2]"), "S[1,2]");
    assert_eq!(names(fma(Softmax::Safe), "P[1,2]"), "S[1,2] m[1]");
    assert_eq!(names(fma(Softmax::Safe), "U[1,0]"), "V[2,0] U[1,0;0:2] P[1,2]");
    assert_eq!(names(fma(Softmax::Online), "U[1,0,2]"), "V[2,0] U[1,0,1] r[1,2] P[1,2]");
    assert_eq!(names(fma(Softmax::Online), "O[1,0]"), "l[1,2] U[1,0,2]");
    let grad = Family::AttentionGrad { n: 3, d: 2, form: Form::Fma };
    assert_eq!(names(grad, "dS[1,2]"), "D[1] P[1,2] dP[1,2]");
    assert_eq!(names(grad, "dK[2,1]"), "Q[2,1] dK[2,1;0:2] dS[2,2]");
    assert_eq!(names(grad, "dQ[2,1]"), "K[2,1] dQ[2,1;0:2] dS[2,2]");
    assert_eq!(names(grad, "dV[2,1]"), "dO[2,1] dV[2,1;0:2] P[2,2]");
}

#[test]
fn every_order_computes_everything_after_its_operands() {
    let mut orders = vec![Order::Natural, Order::Recursive];
    orders.extend([1, 2, 3, 4, 8, 100, usize::MAX].map(|block| Order::Blocked { block }));
    let mut found = 0;
    for family in families() {
        let dag = family.dag().unwrap();
        for &order in &orders {
            let Ok(Some(vertices)) = family.order(order) else { continue };
            found += 1;
            let mut done: Vec<bool> =
                (0..dag.num_vertices() as u32).map(|v| dag.is_source(v)).collect();
            for &v in &vertices {
                assert!(dag.preds(v).iter().all(|&u| done[u as usize]), "{family:?} {order:?}");
                assert!(!std::mem::replace(&mut done[v as usize], true), "{family:?} {order:?}");
            }
            assert!(done.iter().all(|&done| done), "{family:?} {order:?}");
        }
    }
    assert!(found > 250, "{found}");
}

#[test]
fn blocks_are_as_they_are_described() {
    let matmul = Family::Matmul { m: 2, n: 2, k: 2, form: Form::Fma };
    let order = |family: Family, order| {
        let names = family.names().unwrap();
        let order = family.order(order).unwrap().unwrap();
        order.iter().map(|&v| names[v as usize].clone()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        order(matmul, Order::Blocked { block: 2 }),
        "C[0,0;0:1] C[0,1;0:1] C[1,0;0:1] C[1,1;0:1] C[0,0] C[0,1] C[1,0] C[1,1]"
    );
    assert_eq!(
        order(matmul, Order::Recursive),
        "C[0,0;0:1] C[0,0] C[0,1;0:1] C[0,1] C[1,0;0:1] C[1,0] C[1,1;0:1] C[1,1]"
    );
    assert_eq!(
        order(Family::Stencil { width: 3, steps: 2 }, Order::Blocked { block: 2 }),
        "x[1,0] x[1,1] x[2,0] x[1,2] x[2,1] x[2,2]"
    );
    assert_eq!(
        order(Family::Fft { n: 4 }, Order::Recursive),
        "x[1,0] x[1,1] x[1,2] x[1,3] x[2,0] x[2,2] x[2,1] x[2,3]"
    );
    assert_eq!(
        order(forward(2, 1, Form::Fma, Softmax::Unnormalised), Order::Blocked { block: 2 }),
        "S[0,0] P[0,0] U[0,0;0:1] S[1,0] P[1,0] U[1,0;0:1] \
         S[0,1] P[0,1] l[0] U[0,0] S[1,1] P[1,1] l[1] U[1,0] O[0,0] O[1,0]"
    );
}

#[test]
fn sizes_that_there_are_not_are_refused() {
    let huge = usize::MAX;
    let refused = [
        (Family::Fft { n: 12 }, "`n` must be a power of two, got 12"),
        (Family::Fft { n: 0 }, "`n` must be at least 1, got 0"),
        (Family::Grid { rows: 2, columns: 0 }, "`columns` must be at least 1, got 0"),
        (Family::Tree { height: 30 }, "`num_vertices` must be at most 2^30, got 2147483647"),
        (
            Family::Random { vertices: 5, sources: 1, least: 3, most: 2, seed: 0 },
            "`most` must be at least `least`, got 2",
        ),
    ];
    for (family, message) in refused {
        assert_eq!(family.dag().unwrap_err().to_string(), message);
    }
    let too_large = [
        Family::Chain { length: huge },
        Family::Tree { height: huge },
        Family::Pyramid { height: huge },
        Family::Grid { rows: huge, columns: huge },
        Family::Stencil { width: huge, steps: huge },
        Family::Fft { n: 1 << 26 },
        Family::Matmul { m: huge, n: huge, k: huge, form: Form::Tree },
        forward(huge, huge, Form::Fma, Softmax::Safe),
        Family::AttentionGrad { n: 1 << 12, d: 16, form: Form::Fma },
        Family::Random { vertices: huge, sources: 1, least: 1, most: 1, seed: 0 },
    ];
    for family in too_large {
        let found = family.names().unwrap_err();
        assert!(matches!(found, Error::Domain { name: "num_vertices", .. }), "{found}");
    }
    assert!(Family::Fft { n: 8 }.order(Order::Blocked { block: 3 }).is_err());
    assert!(Family::Grid { rows: 1, columns: 1 }.order(Order::Blocked { block: 0 }).is_err());
    assert_eq!(Family::Chain { length: 3 }.order(Order::Recursive), Ok(None));
}

#[test]
fn a_seed_fixes_a_random_graph() {
    let family = |seed| Family::Random { vertices: 200, sources: 9, least: 2, most: 4, seed };
    let edges = |seed| family(seed).dag().unwrap().pred_rows().1.to_vec();
    assert_eq!(edges(1), edges(1));
    assert_ne!(edges(1), edges(2));
    let dag = family(3).dag().unwrap();
    let drawn = (9..200).map(|v| dag.preds(v).len());
    assert!(drawn.clone().all(|count| (1..=4).contains(&count)));
    assert!([2, 3, 4].iter().all(|&count| drawn.clone().filter(|&c| c == count).count() > 30));
}
