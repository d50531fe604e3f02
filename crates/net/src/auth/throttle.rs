//! How often a wrong password may be tried.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Buckets kept; full ones are forgotten first, since they say nothing.
const MAX_BUCKETS: usize = 16_384;
/// How long an address counts as known to a user after it was right.
const KNOWN_FOR: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// So many tries at once, and one more each `refill`.
#[derive(Debug, Clone, Copy)]
struct Allowance {
    burst: f64,
    refill: Duration,
}

/// One user from one address: who mistypes, and who guesses.
const PAIR: Allowance = Allowance { burst: 10.0, refill: Duration::from_secs(6) };
/// Any users from one address: who tries one password with many names.
const ADDRESS: Allowance = Allowance { burst: 50.0, refill: Duration::from_secs(1) };
/// One user from any address: who guesses from many machines. Does not hold for addresses from
/// which this user was right lately, so that strangers cannot lock anyone out.
const USER: Allowance = Allowance { burst: 50.0, refill: Duration::from_secs(3) };
/// Lines in the audit log about wrong tokens from one address.
const TOLD: Allowance = Allowance { burst: 5.0, refill: Duration::from_secs(60) };

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Pair(Name, IpAddr),
    Address(IpAddr),
    User(Name),
    Told(IpAddr),
}

/// A user's name, hashed: strangers choose names, and must not choose how much they take.
type Name = [u8; 16];

#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
    allowance: Allowance,
    known_until: Option<Instant>,
}

impl Bucket {
    fn refill(&mut self, now: Instant) {
        let gained =
            now.duration_since(self.at).as_secs_f64() / self.allowance.refill.as_secs_f64();
        self.left = (self.left + gained).min(self.allowance.burst);
        self.at = now;
    }

    /// How long until there is one try.
    fn wait(&self) -> Duration {
        self.allowance.refill.mul_f64((1.0 - self.left).max(0.0))
    }
}

/// Tries left, by user and address.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    buckets: Mutex<HashMap<Key, Bucket>>,
}

/// A try that was let through; it counts unless it is said to have been right.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub(crate) struct Attempt {
    keys: [Key; 3],
}

impl Throttle {
    /// Takes one try for `user` from `address`.
    ///
    /// # Errors
    /// There is none; how long to wait.
    pub(crate) fn attempt(
        &self,
        user: &str,
        address: IpAddr,
        now: Instant,
    ) -> Result<Attempt, Duration> {
        let (name, address) = (name(user), network(address));
        let keys = [Key::Pair(name, address), Key::Address(address), Key::User(name)];
        let allowances = [PAIR, ADDRESS, USER];
        let mut buckets = self.buckets.lock();
        make_room(&mut buckets, now);
        let mut wait = Duration::ZERO;
        let mut is_known = false;
        for (key, allowance) in keys.iter().zip(allowances) {
            let fresh = || Bucket { left: allowance.burst, at: now, allowance, known_until: None };
            let bucket = buckets.entry(*key).or_insert_with(fresh);
            bucket.refill(now);
            is_known |= bucket.known_until.is_some_and(|until| until > now);
            let counts = !(is_known && matches!(key, Key::User(_)));
            if counts {
                wait = wait.max(bucket.wait());
            }
        }
        if !wait.is_zero() {
            return Err(wait);
        }
        for key in &keys {
            if let Some(bucket) = buckets.get_mut(key) {
                bucket.left = (bucket.left - 1.0).max(0.0);
            }
        }
        Ok(Attempt { keys })
    }

    /// The password was right: gives the try back, and knows the address from now on.
    pub(crate) fn succeeded(&self, attempt: Attempt, now: Instant) {
        let mut buckets = self.buckets.lock();
        for key in &attempt.keys {
            let Some(bucket) = buckets.get_mut(key) else { continue };
            bucket.left = (bucket.left + 1.0).min(bucket.allowance.burst);
            if matches!(key, Key::Pair(..)) {
                bucket.left = bucket.allowance.burst;
                bucket.known_until = Some(now + KNOWN_FOR);
            }
        }
    }

    /// Forgets all wrong tries: `user` has another password, which nobody can have guessed at, and
    /// may come from an address that has spent its tries on the old one.
    pub(crate) fn forgive(&self, user: &str) {
        let name = name(user);
        let mut buckets = self.buckets.lock();
        let tried: Vec<IpAddr> = buckets
            .keys()
            .filter_map(|key| match key {
                Key::Pair(of, address) if *of == name => Some(*address),
                _ => None,
            })
            .collect();
        for (key, bucket) in buckets.iter_mut() {
            let is_theirs = match key {
                Key::Pair(of, _) | Key::User(of) => *of == name,
                Key::Address(address) => tried.contains(address),
                Key::Told(_) => false,
            };
            if is_theirs {
                bucket.left = bucket.allowance.burst;
            }
        }
    }

    /// Whether to write a line about a wrong token from `address`.
    pub(crate) fn may_tell(&self, address: IpAddr, now: Instant) -> bool {
        let key = Key::Told(network(address));
        let mut buckets = self.buckets.lock();
        make_room(&mut buckets, now);
        let fresh = || Bucket { left: TOLD.burst, at: now, allowance: TOLD, known_until: None };
        let bucket = buckets.entry(key).or_insert_with(fresh);
        bucket.refill(now);
        let may = bucket.left >= 1.0;
        if may {
            bucket.left -= 1.0;
        }
        may
    }
}

fn make_room(buckets: &mut HashMap<Key, Bucket>, now: Instant) {
    if buckets.len() + 3 <= MAX_BUCKETS {
        return;
    }
    buckets.retain(|_, bucket| {
        bucket.refill(now);
        bucket.left < bucket.allowance.burst || bucket.known_until.is_some_and(|until| until > now)
    });
    if buckets.len() + 3 > MAX_BUCKETS {
        // Thousands of addresses at once: keep what they all share, the users.
        buckets.retain(|key, _| matches!(key, Key::User(_)));
    }
    if buckets.len() + 3 > MAX_BUCKETS {
        buckets.clear();
    }
}

fn name(user: &str) -> Name {
    let mut name = [0; 16];
    name.copy_from_slice(&blake3::hash(user.as_bytes()).as_bytes()[..16]);
    name
}

/// One customer has 2⁶⁴ addresses of IPv6, and one of IPv4, which may come in IPv6's form.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("a valid address")
    }

    #[test]
    fn a_reset_password_can_be_used_at_once() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        let home = address("192.0.2.1");
        for user in ["ann", "bob"] {
            while throttle.attempt(user, home, now).is_ok() {}
        }
        throttle.forgive("ann");
        let _ = throttle.attempt("ann", home, now).expect("forgiven");
        throttle.attempt("bob", home, now).expect_err("is not");
    }

    #[test]
    fn a_guesser_waits_and_a_user_who_is_right_does_not() {
        let throttle = Throttle::default();
        let mut now = Instant::now();
        let (home, evil) = (address("192.0.2.1"), address("192.0.2.66"));
        for _ in 0..100 {
            let attempt = throttle.attempt("ann", home, now).expect("always right");
            throttle.succeeded(attempt, now);
        }
        for _ in 0..10 {
            let _ = throttle.attempt("ann", evil, now).expect("the first are free");
        }
        let wait = throttle.attempt("ann", evil, now).expect_err("guesses");
        assert!(wait > Duration::from_secs(5) && wait <= Duration::from_secs(6), "{wait:?}");
        now += wait;
        let _ = throttle.attempt("ann", evil, now).expect("waited");
        throttle.attempt("ann", evil, now).expect_err("only one");
        // Another name from there still passes, until the address has had its share.
        let tried = (0..100)
            .take_while(|number| throttle.attempt(&format!("user{number}"), evil, now).is_ok());
        assert!((30..60).contains(&tried.count()));
        let _ = throttle.attempt("ann", home, now).expect("is not locked out");
    }

    #[test]
    fn guessing_from_many_addresses_is_slowed_but_does_not_lock_out() {
        let throttle = Throttle::default();
        let now = Instant::now();
        let home = address("2001:db8:1::1");
        let attempt = throttle.attempt("ann", home, now).expect("the first");
        throttle.succeeded(attempt, now);
        let passed = (0..200_u32)
            .filter(|number| {
                let address = IpAddr::V4((0xc000_0200 + number).into());
                throttle.attempt("ann", address, now).is_ok()
            })
            .count();
        assert!((45..=50).contains(&passed), "{passed}");
        let _ = throttle.attempt("ann", home, now).expect("known");
        // The same network in other words.
        let _ = throttle.attempt("ann", address("2001:db8:1::2"), now).expect("known");
        throttle.attempt("ann", address("2001:db8:2::1"), now).expect_err("unknown");
    }

    #[test]
    fn memory_is_bounded_and_lines_are_few() {
        let throttle = Throttle::default();
        let now = Instant::now();
        for number in 0..3 * MAX_BUCKETS as u32 {
            let _ = throttle.attempt(&number.to_string(), IpAddr::V4(number.into()), now);
        }
        assert!(throttle.buckets.lock().len() <= MAX_BUCKETS);
        let told = (0..100).filter(|_| throttle.may_tell(address("::ffff:192.0.2.1"), now));
        assert_eq!(told.count(), 5);
        assert!(!throttle.may_tell(address("192.0.2.1"), now), "the same address");
    }
}
