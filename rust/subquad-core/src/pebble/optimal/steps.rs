//! The steps that may follow a state.

use super::mask::Mask;
use super::oneshot::{Game, State, Step};
use super::patience::Patience;

impl<const N: usize> Game<N> {
    /// Hands out every step worth trying whose cost is at most `limit`, with its cost, as long as there is
    /// patience.
    pub fn steps(
        &self,
        state: &State<N>,
        limit: u64,
        patience: &mut Patience,
        mut found: impl FnMut(Step<N>, u64),
    ) {
        let sooner = self.sooner(state);
        for vertex in self.ready(state) {
            let killed = self.killed(state, vertex);
            let slid = self.slid(killed);
            let keep = state.red - self.preds[vertex];
            let mut choose = |slid_onto: Option<usize>, slid: u64| {
                let excess = self.excess(state, vertex, slid);
                let done = state.done | Mask::one(vertex);
                let paid = slid_onto.map_or(0, |u| self.price(state, u, &done));
                let mut items: Vec<(u64, u64, usize)> = keep
                    .iter()
                    .map(|u| (self.weights[u], self.price(state, u, &state.done), u))
                    .collect();
                items.sort_unstable_by_key(|&(weight, price, u)| {
                    (std::cmp::Reverse(weight), price, u)
                });
                let choice = Choice { items: &items, keep, sooner: &sooner, limit };
                let out = slid_onto.map_or(Mask::EMPTY, Mask::one);
                choice.choose(0, excess, (Mask::EMPTY, paid), patience, &mut |evicted, cost| {
                    found(Step { vertex, out: evicted | out }, cost);
                });
            };
            choose(None, slid);
            if self.sliding {
                let alive = (self.preds[vertex] - killed).iter();
                // Sliding onto a dead operand that is as large is free.
                for u in alive.filter(|&u| self.weights[u] > slid) {
                    choose(Some(u), self.weights[u]);
                }
            }
        }
    }

    /// For each red value, those to be evicted before it.
    ///
    /// Let `a` and `b` have the same words. Never evict `b` and keep `a`,
    /// - if `a` is clean and all that still needs `a` needs `b` too. Whoever keeps `a` must load `b` no later than
    ///   at the first use of either; who keeps `b` instead loads `a` then. If `b` is dirty, evicting it has cost
    ///   its store, which who keeps it may pay as well;
    /// - if `a` is a dirty output that nothing needs: storing it costs what loading `b` again does;
    /// - if both are dirty and needed for the same: they have the same part to play. The lower number stays.
    fn sooner(&self, state: &State<N>) -> Vec<(usize, Mask<N>)> {
        let rest = |u: usize| self.succs[u] - state.done;
        let before = |a: usize, b: usize| {
            if a == b || self.weights[a] != self.weights[b] {
                return false;
            }
            let (uses_a, uses_b) = (rest(a), rest(b));
            if !uses_a.within(&uses_b) {
                return false;
            }
            match (state.dirty.has(a), state.dirty.has(b)) {
                (false, true) => true,
                (false, false) => uses_a != uses_b || a > b,
                (true, _) if uses_a.is_empty() => !uses_b.is_empty() || a > b,
                (true, true) => {
                    uses_a == uses_b && self.outputs.has(a) == self.outputs.has(b) && a > b
                }
                (true, false) => false,
            }
        };
        let row = |b: usize| (b, state.red.iter().filter(|&a| before(a, b)).collect());
        state.red.iter().map(row).filter(|(_, sooner): &(_, Mask<N>)| !sooner.is_empty()).collect()
    }
}

/// Enumerates sets of values that are evicted together.
struct Choice<'a, const N: usize> {
    /// Words, price and number of each, the largest first.
    items: &'a [(u64, u64, usize)],
    keep: Mask<N>,
    sooner: &'a [(usize, Mask<N>)],
    limit: u64,
}

impl<const N: usize> Choice<'_, N> {
    /// All sets, minimal by inclusion, of items from `next` on that free `excess` words. Since the largest come
    /// first, no set that is enough without its last item is enough without another.
    fn choose(
        &self,
        next: usize,
        excess: u64,
        (out, cost): (Mask<N>, u64),
        patience: &mut Patience,
        found: &mut impl FnMut(Mask<N>, u64),
    ) {
        if cost > self.limit || patience.is_over() {
            return;
        }
        if excess == 0 {
            let stay = self.keep - out;
            let in_turn =
                |&(u, sooner): &(usize, Mask<N>)| !out.has(u) || (sooner & stay).is_empty();
            if self.sooner.iter().all(in_turn) {
                found(out, cost);
            }
            return;
        }
        for i in next..self.items.len() {
            let (weight, price, u) = self.items[i];
            let rest = excess.saturating_sub(weight);
            let chosen = (out | Mask::one(u), cost + price);
            self.choose(i + 1, rest, chosen, patience, found);
        }
    }
}
