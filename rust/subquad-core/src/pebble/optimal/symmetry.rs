//! Symmetries of a game: renaming values by an automorphism of its graph changes no cost.
//!
//! A state is replaced by the smallest image that is found. Any image is sound; the smallest of all would make
//! equal what is equal. The group is found as a chain of stabilisers: for each vertex in turn, one automorphism
//! to every place it can go to while those before it stay. Their products are the group; if it is small, all
//! are tried, if not, the chain is, again and again while that helps. O(V^2) searches, each with a limit.

use super::mask::Mask;
use super::oneshot::{Game, State};

/// Renamings of the values of a game.
pub struct Symmetry<const N: usize> {
    maps: Vec<Map<N>>,
}

/// One renaming, and the images of all sets of four neighbouring numbers.
struct Map<const N: usize> {
    image: Vec<usize>,
    tables: Vec<[Mask<N>; 16]>,
}

/// All products of the chain are listed up to this many.
const MOST_LISTED: usize = 120;
/// Automorphisms of the chain.
const MOST_FOUND: usize = 250;
/// Steps of all searches together.
const PATIENCE: usize = 2_000_000;
/// Bytes of the tables of all renamings.
const MOST_BYTES: usize = 1 << 26;

impl<const N: usize> Symmetry<N> {
    pub fn new(game: &Game<N>) -> Self {
        let n = game.vertices.len();
        let chain = Finder::new(game).chain();
        let size = chain.iter().fold(1usize, |size, level| size.saturating_mul(level.len() + 1));
        let mut images: Vec<Vec<usize>> = vec![(0..n).collect()];
        if size <= MOST_LISTED {
            for level in chain.iter().rev() {
                let mut products = images.clone();
                for step in level {
                    // First what lets this vertex stay, then what moves it.
                    products.extend(images.iter().map(|image| compose(step, image)));
                }
                images = products;
            }
        } else {
            let bytes = n.div_ceil(4) * size_of::<[Mask<N>; 16]>();
            images.extend(chain.into_iter().flatten().take(MOST_BYTES / bytes));
        }
        Self { maps: images.into_iter().skip(1).map(Map::new).collect() }
    }

    /// The smallest image that is found; `with` is told each renaming that was applied.
    pub fn smallest(&self, state: &State<N>, mut with: impl FnMut(&[usize])) -> State<N> {
        let mut best = *state;
        loop {
            let mut found = None;
            for map in &self.maps {
                // The order of states: by what is done first.
                let done = map.apply(best.done);
                if done > best.done {
                    continue;
                }
                let image = State { done, red: map.apply(best.red), dirty: map.apply(best.dirty) };
                if image < best {
                    best = image;
                    found = Some(map);
                    with(&map.image);
                }
            }
            if found.is_none() {
                return best;
            }
        }
    }

    /// Bytes of the tables.
    pub fn bytes(&self) -> usize {
        let bytes = |map: &Map<N>| size_of_val(&map.tables[..]) + size_of_val(&map.image[..]);
        self.maps.iter().map(bytes).sum()
    }
}

/// First `inner`, then `outer`.
fn compose(outer: &[usize], inner: &[usize]) -> Vec<usize> {
    inner.iter().map(|&v| outer[v]).collect()
}

impl<const N: usize> Map<N> {
    fn new(image: Vec<usize>) -> Self {
        let table = |k: usize| {
            std::array::from_fn(|bits| {
                let members = (0..4).filter(|i| bits >> i & 1 == 1).map(|i| 4 * k + i);
                members.filter(|&v| v < image.len()).map(|v| image[v]).collect()
            })
        };
        let tables = (0..image.len().div_ceil(4)).map(table).collect();
        Self { image, tables }
    }

    fn apply(&self, set: Mask<N>) -> Mask<N> {
        let words = set.words();
        let parts = self.tables.iter().enumerate();
        parts.fold(Mask::EMPTY, |image, (k, table)| {
            image | table[(words[k / 16] >> (k % 16 * 4)) as usize & 15]
        })
    }
}

/// Searches automorphisms.
struct Finder<'a, const N: usize> {
    game: &'a Game<N>,
    /// Vertices that an automorphism may exchange have the same colour.
    colours: Vec<u64>,
    /// Each vertex after a neighbour, where there is one.
    order: Vec<usize>,
    steps: usize,
}

impl<'a, const N: usize> Finder<'a, N> {
    fn new(game: &'a Game<N>) -> Self {
        let n = game.vertices.len();
        let mut order = Vec::with_capacity(n);
        let mut seen = Mask::<N>::EMPTY;
        for _ in 0..n {
            let near = |v: usize| ((game.preds[v] | game.succs[v]) & seen).len();
            let next = (game.all - seen).iter().max_by_key(|&v| (near(v), v));
            let next = next.expect("vertices are left");
            seen.insert(next);
            order.push(next);
        }
        Self { game, colours: colours(game), order, steps: 0 }
    }

    /// For each vertex in `order`, automorphisms that move it to every place it can go to, and none before it.
    fn chain(mut self) -> Vec<Vec<Vec<usize>>> {
        let n = self.order.len();
        let mut chain = Vec::new();
        let mut all = 0;
        for level in 0..n {
            let v = self.order[level];
            let mut found = Vec::new();
            for w in 0..n {
                if w == v || self.colours[w] != self.colours[v] {
                    continue;
                }
                let mut image = vec![usize::MAX; n];
                let (mut from, mut to) = (Mask::EMPTY, Mask::EMPTY);
                for &u in &self.order[..level] {
                    image[u] = u;
                    from.insert(u);
                    to.insert(u);
                }
                if self.extend(level, &mut image, from, to, Some(w)) {
                    found.push(image);
                }
                if self.steps > PATIENCE || all + found.len() >= MOST_FOUND {
                    break;
                }
            }
            all += found.len();
            if !found.is_empty() {
                chain.push(found);
            }
        }
        chain
    }

    /// Completes a renaming of the set `from` to the set `to`; the next vertex goes to `first` if given.
    fn extend(
        &mut self,
        place: usize,
        image: &mut [usize],
        from: Mask<N>,
        to: Mask<N>,
        first: Option<usize>,
    ) -> bool {
        let Some(&v) = self.order.get(place) else { return true };
        self.steps += 1;
        if self.steps > PATIENCE {
            return false;
        }
        let game = self.game;
        let (preds, succs) = (game.preds[v] & from, game.succs[v] & from);
        let mapped =
            |set: Mask<N>, image: &[usize]| -> Mask<N> { set.iter().map(|u| image[u]).collect() };
        let (preds, succs) = (mapped(preds, image), mapped(succs, image));
        let near = match (preds.iter().next(), succs.iter().next()) {
            (Some(u), _) => game.succs[u],
            (None, Some(u)) => game.preds[u],
            (None, None) => game.all,
        };
        let candidates = if let Some(w) = first { Mask::one(w) } else { near };
        for w in (candidates - to).iter() {
            if self.colours[w] != self.colours[v]
                || game.preds[w] & to != preds
                || game.succs[w] & to != succs
            {
                continue;
            }
            image[v] = w;
            if self.extend(place + 1, image, from | Mask::one(v), to | Mask::one(w), None) {
                return true;
            }
        }
        image[v] = usize::MAX;
        false
    }
}

/// Colours that are equal if what can be seen from vertices, going on and on, is equal.
fn colours<const N: usize>(game: &Game<N>) -> Vec<u64> {
    let mix = |hash: u64, x: u64| (hash.rotate_left(23) ^ x).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let own = |v: usize| {
        let kind = u64::from(game.given.has(v)) | u64::from(game.outputs.has(v)) << 1;
        mix(game.weights[v], kind)
    };
    let n = game.vertices.len();
    let mut colours: Vec<u64> = (0..n).map(own).collect();
    let mut classes = 0;
    loop {
        let sorted = |set: Mask<N>| {
            let mut near: Vec<u64> = set.iter().map(|u| colours[u]).collect();
            near.sort_unstable();
            near
        };
        let refine = |v: usize| {
            let hash = sorted(game.preds[v]).into_iter().fold(mix(colours[v], 1), mix);
            sorted(game.succs[v]).into_iter().fold(mix(hash, 2), mix)
        };
        let next: Vec<u64> = (0..n).map(refine).collect();
        let mut distinct = next.clone();
        distinct.sort_unstable();
        distinct.dedup();
        colours = next;
        if distinct.len() == classes {
            return colours;
        }
        classes = distinct.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pebble::random::Random;
    use crate::pebble::{Family, Form, Model};

    /// How many renamings there are, and whether all are listed.
    fn check(family: Family, order: usize) {
        let dag = family.dag().unwrap();
        let game = Game::<1>::new(&dag, 8, &Model::default()).unwrap();
        let symmetry = Symmetry::new(&game);
        assert_eq!(symmetry.maps.len() + 1, order, "{family:?}");
        for map in &symmetry.maps {
            for v in game.all.iter() {
                assert_eq!(map.apply(game.preds[v]), game.preds[map.image[v]]);
            }
        }
        // All images of a state have the same smallest one.
        let mut random = Random::new(7);
        let mut set = || (0..game.all.len() as usize).filter(|_| random.below(2) == 1).collect();
        for _ in 0..20 {
            let state = State { done: set(), red: set(), dirty: set() };
            let expected = symmetry.smallest(&state, |_| ());
            for map in &symmetry.maps {
                let [done, red, dirty] = [state.done, state.red, state.dirty].map(|s| map.apply(s));
                assert!(symmetry.smallest(&State { done, red, dirty }, |_| ()) == expected);
            }
        }
    }

    #[test]
    fn small_groups_are_found_whole() {
        check(Family::Chain { length: 5 }, 1);
        check(Family::Pyramid { height: 4 }, 2);
        check(Family::Grid { rows: 3, columns: 3 }, 2);
        check(Family::Grid { rows: 3, columns: 4 }, 1);
        check(Family::Tree { height: 2 }, 8);
        // Rows and columns of the product, and which factor is which.
        check(Family::Matmul { m: 3, n: 3, k: 3, form: Form::Fma }, 72);
        check(Family::Matmul { m: 2, n: 3, k: 2, form: Form::Fma }, 12);
    }
}
