//! Which replica gets the next request.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::upstream::endpoint::Endpoint;
use crate::upstream::replica::Replica;

/// The less loaded of two replicas drawn at random (M. Mitzenmacher, "The Power of Two Choices",
/// 2001) among those that may be asked and were not yet `tried`; of these, those that are well, where
/// there are any. `draw(n)` is below `n`.
pub fn choose(
    replicas: &[Arc<Replica>],
    tried: &[Endpoint],
    now_ms: u64,
    mut draw: impl FnMut(usize) -> usize,
) -> Option<Arc<Replica>> {
    let may = |replica: &Arc<Replica>| {
        !tried.contains(&replica.address)
            && replica.doubt_until_ms.load(Ordering::Relaxed) <= now_ms
    };
    loop {
        // A wrong guess about all of them must not be worse than none.
        let any_well = replicas.iter().any(|replica| may(replica) && replica.is_well(now_ms));
        let well = |replica: &&Arc<Replica>| may(replica) && (!any_well || replica.is_well(now_ms));
        let count = replicas.iter().filter(well).count();
        let first = if count > 1 { draw(count) } else { 0 };
        let mut candidates = replicas.iter().filter(well);
        let one = candidates.nth(first)?;
        let chosen = if count > 1 {
            // A different one, each as likely.
            let second = (first + 1 + draw(count - 1)) % count;
            let other = replicas.iter().filter(well).nth(second).unwrap_or(one);
            let load = |replica: &Replica| replica.load.load(Ordering::Relaxed);
            if load(other) < load(one) { other } else { one }
        } else {
            one
        };
        // Refused leave means that somebody else is trying it: it is not well any more.
        if chosen.admits(now_ms) {
            return Some(Arc::clone(chosen));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::upstream::replica::DOUBT_MS;

    fn endpoint(n: u16) -> Endpoint {
        Endpoint::Tcp(([127, 0, 0, 1], n + 1).into())
    }

    fn replicas(count: u16) -> Vec<Arc<Replica>> {
        (0..count).map(|n| Arc::new(Replica::new(endpoint(n), false))).collect()
    }

    #[test]
    fn the_less_loaded_of_two_is_chosen() {
        let replicas = replicas(2);
        let _busy = replicas[0].load();
        for first in [0, 1] {
            let chosen = choose(&replicas, &[], 1, |n| first % n).unwrap();
            assert_eq!(chosen.address, replicas[1].address);
        }
    }

    #[test]
    fn equal_replicas_share_the_load() {
        let replicas = replicas(3);
        let mut loads = Vec::new();
        let mut counts = [0; 3];
        for _ in 0..300 {
            let chosen = choose(&replicas, &[], 1, |n| rand::random_range(0..n)).unwrap();
            let at = replicas.iter().position(|replica| replica.address == chosen.address);
            counts[at.unwrap()] += 1;
            loads.push(chosen.load());
        }
        assert!(counts.iter().all(|count| (80..120).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_replica_in_doubt_is_tried_by_one_request_at_a_time() {
        let replicas = replicas(1);
        replicas[0].doubt(1000);
        let doubt = DOUBT_MS;
        let ask = |now| choose(&replicas, &[], now, |_| 0).is_some();
        assert!(!ask(1000));
        assert!(!ask(1000 + doubt - 1));
        assert!(ask(1000 + doubt));
        assert!(!ask(1000 + doubt));
        assert!(replicas[0].trust());
        assert!(ask(1000 + doubt) && ask(1000 + doubt));
        assert!(!replicas[0].trust());
    }

    #[test]
    fn one_that_is_not_well_is_asked_only_when_all_are_not() {
        let replicas = replicas(2);
        let chosen = |now| choose(&replicas, &[], now, |_| 0).unwrap().address.clone();
        for _ in 0..3 {
            replicas[0].failed(1000);
        }
        assert_eq!(replicas[0].state(1000), "put out after errors");
        assert_eq!(chosen(1000), replicas[1].address);
        replicas[1].checked(false);
        assert_eq!(chosen(1000), replicas[1].address);
        assert!(replicas[1].checked(false));
        assert_eq!(chosen(1000), replicas[0].address);
        // Its time is over.
        assert_eq!(chosen(2000), replicas[0].address);
        assert!(replicas[1].checked(true));
        replicas[0].answered();
        assert_eq!(replicas[0].state(2000), "well");
    }

    proptest! {
        #[test]
        fn a_tried_replica_is_never_chosen_and_another_always_is(
            count in 1u16..8,
            tried in prop::collection::btree_set(0u16..8, 0..8),
            draws in prop::collection::vec(any::<prop::sample::Index>(), 20),
        ) {
            let replicas = replicas(count);
            let tried: Vec<Endpoint> =
                tried.iter().copied().map(endpoint).collect();
            let mut draws = draws.iter().cycle();
            let chosen =
                choose(&replicas, &tried, 1, |n| draws.next().expect("endless").index(n));
            let left = replicas.iter().filter(|r| !tried.contains(&r.address)).count();
            prop_assert_eq!(chosen.is_some(), left > 0);
            prop_assert!(chosen.is_none_or(|chosen| !tried.contains(&chosen.address)));
        }
    }
}
