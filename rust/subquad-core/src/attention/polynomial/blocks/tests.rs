//! Rows from sums against the polynomial, and gradients against what linearity demands of them.

use super::super::tests::{Random, TAYLOR};
use super::super::{PART, ROWS};
use super::tasks::cut;
use super::*;
use crate::mat::MatRef;
use crate::polynomial::Monomials;

const SCALE: f64 = 0.3;

/// Numbers of one head, whose tokens are both queries and keys.
struct Case<T> {
    /// Tokens, weights, coordinates, width of values.
    sizes: [usize; 4],
    degree: usize,
    block: usize,
    tokens: Vec<T>,
    weights: Vec<T>,
    values: Vec<T>,
    masses: Vec<T>,
    sums: Vec<T>,
    sum_masses: Vec<T>,
}

fn inner<T: Compute>(a: &[T], b: &[T]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a.to_f64() * b.to_f64()).sum()
}

/// So many matrices of a shape.
fn matrices<T: Compute>(x: &[T], (rows, cols): (usize, usize)) -> Vec<Rows<'_>> {
    x.chunks(rows * cols).map(|x| T::as_rows(MatRef::from_slice(x, rows, cols))).collect()
}

fn cells<T>(x: &mut [T], (rows, cols): (usize, usize)) -> Vec<MatCell<'_, T>> {
    x.chunks_mut(rows * cols).map(|x| MatCell::from_slice(x, rows, cols)).collect()
}

impl<T: Compute> Case<T> {
    fn new(sizes: [usize; 4], degree: usize, block: usize) -> Self {
        let [n, k, e, ev] = sizes;
        let mut random = Random(77);
        let mut draw = |len| random.many(len).into_iter().map(T::from_f64).collect::<Vec<T>>();
        let blocks = n.div_ceil(block) * k * Monomials::new(e, degree).unwrap().len();
        Self {
            sizes,
            degree,
            block,
            tokens: draw(n * e),
            weights: draw(k * n),
            values: draw(n * ev),
            masses: draw(n),
            sums: draw(blocks * ev),
            sum_masses: draw(blocks),
        }
    }

    fn features(&self) -> usize {
        Monomials::new(self.sizes[2], self.degree).unwrap().len()
    }

    /// Sums over blocks of the tokens, and their masses.
    fn summed(&self) -> [Vec<T>; 2] {
        let ([n, k, e, ev], r) = (self.sizes, self.features());
        let mut to = [vec![T::ZERO; self.sums.len()], vec![T::ZERO; self.sum_masses.len()]];
        let [sums, masses] = &mut to;
        let (sums, masses) = (cells(sums, (r, ev)), cells(masses, (r, 1)));
        let (tokens, weights) = (matrices(&self.tokens, (n, e)), matrices(&self.weights, (k, n)));
        let keys = Weighed { tokens: &tokens, weights: &weights, block: self.block };
        let (values, powers) = (matrices(&self.values, (n, ev)), &TAYLOR[..=self.degree]);
        let out = BlockSums { sums: &sums, masses: &masses };
        polynomial_block_sums(keys, &values, (powers, SCALE), out, Par::threads(2)).unwrap();
        to
    }

    /// Rows and their masses, read from given sums.
    fn read(&self, [sums, masses]: [&[T]; 2]) -> [Vec<T>; 2] {
        let ([n, k, e, ev], r) = (self.sizes, self.features());
        let mut to = [vec![T::ZERO; n * ev], vec![T::ZERO; n]];
        let [rows, row_masses] = &mut to;
        let (rows, row_masses) = (cells(rows, (n, ev)), cells(row_masses, (n, 1)));
        let (tokens, weights) = (matrices(&self.tokens, (n, e)), matrices(&self.weights, (k, n)));
        let queries = Weighed { tokens: &tokens, weights: &weights, block: self.block };
        let (sums, masses) = (matrices(sums, (r, ev)), matrices(masses, (r, 1)));
        let from = BlockSums { sums: &sums, masses: &masses };
        let to_rows = (&rows[..], &row_masses[..]);
        polynomial_block_rows(queries, from, self.degree, to_rows, Par::threads(2)).unwrap();
        to
    }

    /// The gradients by weights, sums and masses of the rows times the values and their masses.
    fn gradients_of_rows(&self) -> [Vec<T>; 3] {
        let ([n, k, e, ev], r) = (self.sizes, self.features());
        let lens = [k * n, self.sums.len(), self.sum_masses.len()];
        let mut to = lens.map(|len| vec![T::ZERO; len]);
        let [of_weights, sums_to, masses_to] = &mut to;
        let of_weights = cells(of_weights, (k, n));
        let (sums_to, masses_to) = (cells(sums_to, (r, ev)), cells(masses_to, (r, 1)));
        let (tokens, weights) = (matrices(&self.tokens, (n, e)), matrices(&self.weights, (k, n)));
        let queries = Weighed { tokens: &tokens, weights: &weights, block: self.block };
        let (sums, masses) = (matrices(&self.sums, (r, ev)), matrices(&self.sum_masses, (r, 1)));
        let from = BlockSums { sums: &sums, masses: &masses };
        let (rows, row_masses) = (matrices(&self.values, (n, ev)), matrices(&self.masses, (n, 1)));
        let gradients = TokenGradients { tokens: None, weights: Some(&of_weights) };
        let to_sums = BlockSums { sums: &sums_to, masses: &masses_to };
        let (upstream, all) = ((&rows[..], &row_masses[..]), (gradients, Some(to_sums)));
        let par = Par::threads(2);
        polynomial_block_rows_grad(upstream, queries, from, self.degree, all, par).unwrap();
        to
    }
}

fn check<T: Compute>(sizes: [usize; 4], degree: usize, block: usize, unit: f64) {
    let case = Case::<T>::new(sizes, degree, block);
    let [n, k, e, ev] = sizes;
    let [sums, masses] = case.summed();
    let [rows, row_masses] = case.read([&sums, &masses]);
    for i in 0..n {
        let (mut row, mut mass, mut size) = (vec![0.0; ev], 0.0, 0.0);
        for j in i / block * block..n.min((i / block + 1) * block) {
            let s = SCALE * inner(&case.tokens[i * e..][..e], &case.tokens[j * e..][..e]);
            let weights = (0..k).map(|w| &case.weights[w * n..]);
            let both: f64 = weights.map(|w| w[i].to_f64() * w[j].to_f64()).sum();
            let weight = TAYLOR[..=degree].iter().rev().fold(0.0, |p, c| p * s + c) * both;
            row.iter_mut().enumerate().for_each(|(c, x)| {
                *x += weight * case.values[j * ev + c].to_f64();
            });
            mass += weight;
            size += (1.0 + s.abs()).powi(degree as i32);
        }
        let found = rows[i * ev..][..ev].iter().chain([&row_masses[i]]);
        for (found, expected) in found.zip(row.iter().chain([&mass])) {
            let off = (found.to_f64() - expected).abs();
            assert!(off <= unit * size, "{sizes:?} {degree} {block}: {found:?} for {expected}");
        }
    }
    // Rows are linear in the weights, and in the sums.
    let [rows, row_masses] = case.read([&case.sums, &case.sum_masses]);
    let loss = inner(&rows, &case.values) + inner(&row_masses, &case.masses);
    let [of_weights, of_sums, of_masses] = case.gradients_of_rows();
    let by_sums = inner(&of_sums, &case.sums) + inner(&of_masses, &case.sum_masses);
    let size = (inner(&of_sums, &of_sums) * inner(&case.sums, &case.sums)).sqrt() + 1.0;
    for other in [inner(&of_weights, &case.weights), by_sums] {
        assert!((loss - other).abs() <= unit * size, "{sizes:?} {degree} {block}: {loss} {other}");
    }
}

#[test]
fn rows_are_those_of_the_polynomial_and_gradients_those_of_linear_maps() {
    for (sizes, block) in [
        ([1, 1, 1, 1], 1),
        ([97, 1, 5, 33], 96),
        ([200, 2, 3, 16], 70),
        ([150, 3, 4, 5], 1000),
        ([130, 6, 2, 1], 7),
    ] {
        for degree in [0, 1, 2, 3] {
            check::<f64>(sizes, degree, block, 1e-13);
            check::<f32>(sizes, degree, block, 3e-5);
        }
    }
}

#[test]
fn tasks_have_every_token_once_and_parts_of_one_block_or_whole_ones() {
    for (tokens, block, most) in [
        (0, 5, ROWS),
        (1, 1, ROWS),
        (5000, 7, ROWS),
        (5000, 1000, ROWS),
        (5000, 2000, ROWS),
        (50_000, 40_000, PART),
        (50_000, usize::MAX, PART),
    ] {
        let tasks = cut(tokens, block, most);
        assert!(tasks.iter().flat_map(Clone::clone).eq(0..tokens));
        for task in tasks {
            let whole = task.start % block == 0 && (task.end % block == 0 || task.end == tokens);
            assert!(task.len() <= most && (whole || task.start / block == (task.end - 1) / block));
        }
    }
}
