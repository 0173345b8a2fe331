//! Which invoker an activation goes to, and what it takes there: `ShardingContainerPoolBalancer.scala`,
//! `NestedSemaphore.scala` (K-60, K-61, K-65, K-66).

use std::collections::HashMap;

/// What an activation needs of an invoker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Need {
    /// `namespace/package/name`, without version.
    pub action: String,
    /// The action's memory limit, MB.
    pub memory_mb: u64,
    /// Activations that share one slot.
    pub concurrency: u32,
}

/// The memory of one invoker, as one controller sees it.
#[derive(Debug)]
pub struct Slots {
    /// MB. Below zero in overload.
    free: i64,
    running: HashMap<Need, u32>,
}

impl Slots {
    /// `user_memory_mb` as in the first ping, shared by that many controllers (K-60).
    pub fn new(user_memory_mb: u64, controllers: u64, memory_min_mb: u64) -> Self {
        let share = (user_memory_mb / controllers.max(1)).max(memory_min_mb);
        Self {
            free: i64::try_from(share).unwrap_or(i64::MAX),
            running: HashMap::new(),
        }
    }

    pub fn free_mb(&self) -> i64 {
        self.free
    }

    /// Takes a slot, if there is one.
    pub fn take(&mut self, need: &Need) -> bool {
        let fits = self.more(need) <= self.free;
        if fits {
            self.force(need);
        }
        fits
    }

    /// Takes a slot whether there is one or not (K-62).
    pub fn force(&mut self, need: &Need) {
        self.free -= self.more(need);
        *self.running.entry(need.clone()).or_default() += 1;
    }

    /// Gives one back that was taken.
    pub fn give_back(&mut self, need: &Need) {
        let Some(running) = self.running.get_mut(need) else {
            return;
        };
        *running -= 1;
        let left = *running;
        if left == 0 {
            self.running.remove(need);
        }
        if left % need.concurrency.max(1) == 0 {
            self.free += memory(need);
        }
    }

    /// What one more would take, MB: nothing where it shares a slot.
    fn more(&self, need: &Need) -> i64 {
        let running = self.running.get(need).copied().unwrap_or(0);
        if running % need.concurrency.max(1) == 0 {
            memory(need)
        } else {
            0
        }
    }
}

fn memory(need: &Need) -> i64 {
    i64::try_from(need.memory_mb).unwrap_or(i64::MAX)
}

/// The order in which invokers are asked for a slot: from home in steps that reach each one (K-65).
pub fn walk(namespace: &str, action: &str, invokers: usize) -> Vec<usize> {
    if invokers == 0 {
        return Vec::new();
    }
    let hash = (java_hash(namespace) ^ java_hash(action)).unsigned_abs() as usize;
    let steps = coprimes(invokers);
    let step = steps[hash % steps.len()];
    (0..invokers).map(|n| (hash + n * step) % invokers).collect()
}

/// Invokers for managed kinds, and for blackbox images, of `invokers` (K-66).
pub fn split(invokers: usize) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
    let managed = (invokers * 9).div_ceil(10).max(1).min(invokers);
    let blackbox = (invokers / 10).max(1).min(invokers);
    (0..managed, invokers - blackbox..invokers)
}

/// Numbers up to `n` that have no divisor in common with it, nor with each other.
fn coprimes(n: usize) -> Vec<usize> {
    let mut found: Vec<usize> = Vec::new();
    for candidate in 1..=n {
        if gcd(candidate, n) == 1 && found.iter().all(|other| gcd(candidate, *other) == 1) {
            found.push(candidate);
        }
    }
    found
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Java's `String.hashCode`.
fn java_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(memory_mb: u64, concurrency: u32) -> Need {
        Need {
            action: "guest/a".into(),
            memory_mb,
            concurrency,
        }
    }

    /// K-60, K-61
    #[test]
    fn an_activation_takes_its_memory_and_gives_it_back() {
        let mut slots = Slots::new(1024, 2, 128);
        assert!(slots.take(&need(256, 1)) && slots.take(&need(256, 1)));
        assert!(!slots.take(&need(128, 1)));
        slots.force(&need(128, 1));
        assert_eq!(slots.free_mb(), -128);
        slots.give_back(&need(128, 1));
        slots.give_back(&need(256, 1));
        assert!(slots.take(&need(128, 1)));
        assert_eq!(Slots::new(100, 1, 128).free_mb(), 128);
    }

    /// K-61
    #[test]
    fn concurrent_activations_share_a_slot() {
        let mut slots = Slots::new(512, 1, 128);
        let shared = need(256, 2);
        assert!((0..4).all(|_| slots.take(&shared)) && !slots.take(&shared));
        slots.give_back(&shared);
        assert_eq!(slots.free_mb(), 0);
        slots.give_back(&shared);
        assert_eq!(slots.free_mb(), 256);
        slots.give_back(&shared);
        slots.give_back(&shared);
        assert_eq!(slots.free_mb(), 512);
    }

    /// K-65, K-66
    #[test]
    fn each_action_has_a_home_and_reaches_every_invoker_from_there() {
        for invokers in 1..40 {
            let mut walked = walk("guest", "guest/hello", invokers);
            assert_eq!(walked, walk("guest", "guest/hello", invokers));
            walked.sort_unstable();
            assert_eq!(walked, (0..invokers).collect::<Vec<_>>());
        }
        assert_eq!(java_hash("hello"), 99_162_322);
        assert_eq!(
            (split(1), split(2), split(20)),
            ((0..1, 0..1), (0..2, 1..2), (0..18, 18..20))
        );
    }
}
