//! What an output needs: as numbered, or all of one operand before the next, as Sethi and Ullman (1970) do.

use super::super::Dag;

/// What is computed for an output; of what may come next always the lowest number. O(V + E).
pub fn natural(dag: &Dag) -> Vec<u32> {
    let needed = dag.needed();
    let computed = |v: &u32| needed[*v as usize] && !dag.is_source(*v);
    dag.topological_order().iter().copied().filter(computed).collect()
}

/// Outputs one after the other, each after what it needs and is not computed yet. Of the operands of a value
/// the one whose computation needs the most memory beyond its own words comes first; in a tree that needs the least
/// memory of all depth-first orders. Sources are left out. O(V + E log(operands)).
pub fn depth_first(dag: &Dag) -> Vec<u32> {
    let demand = demands(dag);
    let mut seen = vec![false; dag.num_vertices()];
    let mut order = Vec::with_capacity(dag.num_vertices());
    // Vertices to visit, and those whose operands have been visited.
    let mut stack: Vec<(u32, bool)> = vec![];
    let mut operands = vec![];
    for output in dag.outputs() {
        stack.push((output, false));
        while let Some((v, visited)) = stack.pop() {
            if visited {
                order.push(v);
                continue;
            }
            if std::mem::replace(&mut seen[v as usize], true) || dag.is_source(v) {
                continue;
            }
            stack.push((v, true));
            operands.clear();
            operands.extend(dag.preds(v).iter().filter(|&&u| !seen[u as usize]));
            sort(dag, &demand, &mut operands);
            stack.extend(operands.iter().rev().map(|&u| (u, false)));
        }
    }
    order
}

/// In which order operands are computed.
fn sort(dag: &Dag, demand: &[u64], operands: &mut [u32]) {
    let beyond = |&u: &u32| demand[u as usize] - dag.weight(u);
    operands.sort_by_key(|u| std::cmp::Reverse(beyond(u)));
}

/// Words of memory in which a value can be computed without a store, were everything it needs a tree.
fn demands(dag: &Dag) -> Vec<u64> {
    let mut demand = vec![0; dag.num_vertices()];
    let mut operands = vec![];
    for &v in dag.topological_order() {
        operands.clear();
        operands.extend_from_slice(dag.preds(v));
        sort(dag, &demand, &mut operands);
        let (mut held, mut most) = (0, 0);
        for &u in &operands {
            most = most.max(held + demand[u as usize]);
            held += dag.weight(u);
        }
        demand[v as usize] = most.max(held + dag.weight(v));
    }
    demand
}
