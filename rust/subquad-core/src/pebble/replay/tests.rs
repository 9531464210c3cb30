use super::super::random::Random;
use super::*;

/// Reads and writes of few words, some of them in runs.
fn random_trace(random: &mut Random, length: usize, words: usize) -> Trace {
    let mut trace = Trace::default();
    let mut address = 0;
    for _ in 0..length {
        address = if random.below(3) == 0 { random.below(words) } else { (address + 1) % words };
        trace.push(address as u64, random.below(3) == 0);
    }
    trace
}

fn cache(capacity: u64, line: u64, replacement: Replacement, fetch_on_write: bool) -> Cache {
    Cache { capacity, line, replacement, fetch_on_write, live_out: None }
}

fn replayed(trace: &Trace, cache: &Cache) -> Traffic {
    replay(trace, cache, Par::seq()).unwrap()
}

/// Sets of lines in a list each, the newest first: line, written.
fn naive(trace: &Trace, cache: &Cache, ways: usize) -> Traffic {
    let mut sets = vec![Vec::<(u64, bool)>::new(); cache.lines() / ways];
    let mut traffic = cache.traffic(trace.len());
    for (address, write) in trace.iter() {
        let line = address / cache.line;
        let count = sets.len() as u64;
        let set = &mut sets[(line % count) as usize];
        let place = set.iter().position(|&(other, _)| other == line);
        let written = place.is_some_and(|place| set.remove(place).1);
        if place.is_none() {
            traffic.misses += 1;
            traffic.fetches += u64::from(!write || cache.fetch_on_write);
            if set.len() == ways {
                traffic.write_backs += u64::from(set.pop().unwrap().1);
            }
        }
        set.insert(0, (line, written || write));
    }
    let left = sets.iter().flatten().filter(|&&(line, written)| written && cache.wanted(line));
    traffic.write_backs += left.count() as u64;
    traffic
}

/// The future, looked at in every step.
fn naive_opt(trace: &Trace, cache: &Cache, discard: bool) -> Traffic {
    let accesses: Vec<(u64, bool)> =
        trace.iter().map(|(address, write)| (address / cache.line, write)).collect();
    let next = |line, from: usize| (from..accesses.len()).find(|&i| accesses[i].0 == line);
    let mut there = std::collections::BTreeMap::<u64, bool>::new();
    let mut traffic = cache.traffic(trace.len());
    for (i, &(line, write)) in accesses.iter().enumerate() {
        if !there.contains_key(&line) {
            traffic.misses += 1;
            traffic.fetches += u64::from(!write || cache.fetch_on_write);
            if there.len() == cache.lines() {
                let victim = *there.keys().max_by_key(|&&other| next(other, i)).unwrap();
                traffic.write_backs += u64::from(there.remove(&victim).unwrap());
            }
            there.insert(line, false);
        }
        *there.get_mut(&line).unwrap() |= write;
        match next(line, i + 1) {
            None => {
                let written = there.remove(&line).unwrap();
                traffic.write_backs += u64::from(written && cache.wanted(line));
            }
            Some(next) if discard && accesses[next].1 => {
                there.remove(&line);
            }
            Some(_) => {}
        }
    }
    traffic
}

#[test]
fn caches_move_what_naive_ones_do() {
    let mut random = Random::new(1);
    for round in 0..120 {
        let words = 1 + random.below(60);
        let trace = random_trace(&mut random, 300, words);
        let line = 1 << random.below(3);
        let lines = 1 + random.below(20) as u64;
        let fetch = random.below(2) == 0;
        let mut all = cache(lines * line, line, Replacement::Lru, fetch);
        all.live_out = (round % 3 == 0).then_some(5..20);
        assert_eq!(replayed(&trace, &all), naive(&trace, &all, lines as usize));
        let ways = 1 + random.below(4);
        let mut sets = all.clone();
        sets.capacity = lines * line * ways as u64;
        sets.replacement = Replacement::SetAssociative { ways };
        assert_eq!(replayed(&trace, &sets), naive(&trace, &sets, ways));
        for discard in [false, true] {
            let mut opt = all.clone();
            opt.replacement = Replacement::Opt { discard };
            if discard {
                (opt.line, opt.capacity, opt.fetch_on_write) = (1, lines, false);
            }
            assert_eq!(replayed(&trace, &opt), naive_opt(&trace, &opt, discard));
        }
    }
}

#[test]
fn addresses_may_be_anywhere() {
    let mut random = Random::new(2);
    let trace = random_trace(&mut random, 5000, 700);
    let far = |address: u64| (((address / 64) << 44) | (address % 64)) + (1 << 40);
    let addresses: Vec<u64> = trace.iter().map(|(address, _)| far(address)).collect();
    let writes: Vec<bool> = trace.iter().map(|(_, write)| write).collect();
    let spread = Trace::new(&addresses, Some(&writes)).unwrap();
    for replacement in [Replacement::Lru, Replacement::Opt { discard: false }] {
        let mut cache = cache(96, 8, replacement, true);
        assert_eq!(replayed(&spread, &cache), replayed(&trace, &cache));
        let all = replayed(&trace, &cache).write_backs;
        cache.live_out = Some(0..128);
        let near = replayed(&trace, &cache).write_backs;
        cache.live_out = Some(far(0)..far(127) + 1);
        assert_eq!(replayed(&spread, &cache).write_backs, near);
        assert!(near < all);
    }
    let distances = |trace| reuse_distances(trace, 4, Par::seq()).unwrap();
    assert_eq!(distances(&spread), distances(&trace));
}

#[test]
fn distances_tell_the_traffic_of_every_size() {
    let mut random = Random::new(3);
    // Long enough to push marks together many times, and lines for far uses.
    for (length, words) in [(0, 1), (1, 1), (500, 40), (120_000, 300), (90_000, 9000)] {
        let trace = random_trace(&mut random, length, words);
        for line in [1, 4] {
            let distances = reuse_distances(&trace, line, Par::seq()).unwrap();
            let most = words as u64 / line + 2;
            let sizes = (1..most.min(50)).chain((50..most).step_by(997));
            let mut before = None;
            for lines in sizes {
                for fetch in [true, false] {
                    let lru = cache(lines * line, line, Replacement::Lru, fetch);
                    let told = distances.traffic(lines * line, fetch).unwrap();
                    assert_eq!(told, replayed(&trace, &lru), "{words} {line} {lines}");
                    // A larger cache holds what a smaller one does.
                    if fetch {
                        assert!(before.is_none_or(|before| told.misses <= before));
                        before = Some(told.misses);
                    }
                }
            }
        }
    }
}

#[test]
fn a_hand_made_trace_has_its_distances() {
    // a b c a (written) b a (written) c
    let writes = [false, false, false, true, false, true, false];
    let trace = Trace::new(&[0, 1, 2, 0, 1, 0, 2], Some(&writes)).unwrap();
    let distances = reuse_distances(&trace, 1, Par::seq()).unwrap();
    let expected = Distances {
        line: 1,
        reads: vec![0, 0, 2],
        writes: vec![0, 1, 1],
        rewrites: vec![0, 1],
        first_reads: 3,
        first_writes: 0,
        written: 1,
    };
    assert_eq!(distances, expected);
    assert_eq!(distances.traffic(2, true).unwrap().write_backs, 1);
    assert_eq!(distances.traffic(1, true).unwrap().write_backs, 2);
}

#[test]
fn foresight_misses_least_and_sets_are_between() {
    let mut random = Random::new(4);
    for _ in 0..50 {
        let trace = random_trace(&mut random, 2000, 200);
        let capacity = 8 * (1 + random.below(12) as u64);
        let misses = |replacement| replayed(&trace, &cache(capacity, 1, replacement, true)).misses;
        let lru = misses(Replacement::Lru);
        assert!(misses(Replacement::Opt { discard: false }) <= lru);
        let ways = capacity as usize;
        assert_eq!(misses(Replacement::SetAssociative { ways }), lru);
        let discard = cache(capacity, 1, Replacement::Opt { discard: true }, false);
        let keep = cache(capacity, 1, Replacement::Opt { discard: false }, false);
        assert!(replayed(&trace, &discard).write_backs <= replayed(&trace, &keep).write_backs);
    }
}

#[test]
fn nests_are_what_they_say() {
    let nests = [
        Nest::Naive { n: 5, d: 3 },
        Nest::Blocked { n: 7, d: 2, rows: 3, columns: 2 },
        Nest::Blocked { n: 4, d: 5, rows: 100, columns: usize::MAX },
    ];
    for nest in nests {
        let trace = nest.trace(Par::seq()).unwrap();
        assert_eq!(trace.len() as f64, nest.accesses());
        assert!(trace.iter().all(|(address, _)| address <= nest.check().unwrap()));
        // All inputs are read and never written, all outputs written once and never read.
        let (n, d) = nest.shape();
        let outputs = nest.live_out().unwrap();
        let of = |address: u64| trace.iter().filter(move |access| access.0 == address);
        for array in 0..3 {
            let first = array * ((n * d) as u64).next_multiple_of(16);
            for address in first..first + (n * d) as u64 {
                assert!(of(address).count() > 0 && of(address).all(|(_, write)| !write));
            }
        }
        for address in outputs {
            let padding = of(address).count() == 0;
            assert!(padding || of(address).map(|(_, write)| write).eq([true]));
        }
        for replacement in [
            Replacement::Lru,
            Replacement::SetAssociative { ways: 2 },
            Replacement::Opt { discard: false },
        ] {
            let cache = cache(32, 4, replacement, true);
            let streamed = replay_nest(&nest, &cache, Par::seq()).unwrap();
            assert_eq!(streamed, replayed(&trace, &cache));
        }
    }
}

#[test]
fn with_foresight_a_blocked_nest_moves_what_its_schedule_says() {
    let (n, d) = (64, 8);
    let mut thrash = vec![];
    for memory in [96usize, 256] {
        let rows = (memory - 1) / (2 * d + 3);
        let nest = Nest::Blocked { n, d, rows, columns: 1 };
        let explicit = (2 * n * d + n + n.div_ceil(rows) * 2 * n * d) as f64;
        let mut opt = cache(memory as u64, 1, Replacement::Opt { discard: true }, false);
        opt.live_out = Some(nest.live_out().unwrap());
        let opt = replay_nest(&nest, &opt, Par::seq()).unwrap().words() as f64;
        assert!((0.95 * explicit..=1.01 * explicit).contains(&opt), "{opt} {explicit}");
        // A block that fills the memory is not made for a cache of what was used last.
        let lru = cache(memory as u64, 1, Replacement::Lru, false);
        let lru = replay_nest(&nest, &lru, Par::seq()).unwrap().words() as f64;
        thrash.push(lru / explicit);
    }
    assert!(thrash[0] > 7.0 && thrash[1] > 1.02, "{thrash:?}");
}

#[test]
fn caches_and_traces_that_there_are_not_are_refused() {
    let trace = Trace::new(&[1, 2], None).unwrap();
    let refused = |cache: Cache| replay(&trace, &cache, Par::seq()).unwrap_err().to_string();
    let lru = Replacement::Lru;
    assert_eq!(refused(cache(8, 3, lru.clone(), true)), "`line` must be a power of two, got 3");
    assert_eq!(refused(cache(8, 0, lru.clone(), true)), "`line` must be a power of two, got 0");
    assert_eq!(refused(cache(3, 4, lru, true)), "`capacity` must be at least 4, got 3");
    let sets = |ways| Replacement::SetAssociative { ways };
    assert_eq!(refused(cache(8, 1, sets(0), true)), "`ways` must be at least 1, got 0");
    assert_eq!(refused(cache(8, 2, sets(8), true)), "`capacity` must be at least 16, got 8");
    let message = "`capacity` must be a multiple of `ways` lines, got 9";
    assert_eq!(refused(cache(9, 1, sets(2), true)), message);
    let opt = Replacement::Opt { discard: true };
    assert!(refused(cache(8, 2, opt.clone(), false)).starts_with("`line` must be 1"));
    assert!(refused(cache(8, 1, opt, true)).starts_with("`fetch_on_write` must be false"));
    assert!(Trace::new(&[1 << 62], None).is_err());
    assert!(Trace::new(&[1, 2], Some(&[true])).is_err());
    assert!(reuse_distances(&trace, 6, Par::seq()).is_err());
    assert!(Nest::Naive { n: 0, d: 1 }.trace(Par::seq()).is_err());
    let huge = Nest::Blocked { n: usize::MAX, d: usize::MAX, rows: 1, columns: 1 };
    assert!(huge.trace(Par::seq()).is_err() && huge.live_out().is_err());
}

#[test]
fn a_replay_can_be_stopped() {
    let nest = Nest::Naive { n: 64, d: 64 };
    let trace = nest.trace(Par::seq()).unwrap();
    let cache = Cache::lru(100);
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let later = || asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) > 2;
    let stop = crate::par::Stop::impatient(&later);
    let par = Par::seq().stop_if(&stop);
    assert_eq!(replay(&trace, &cache, par), Err(Error::Stopped));
    assert_eq!(replay_nest(&nest, &cache, par), Err(Error::Stopped));
    assert_eq!(reuse_distances(&trace, 1, par), Err(Error::Stopped));
}
