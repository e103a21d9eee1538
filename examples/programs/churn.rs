//! A BTreeMap of strings, vectors and strings that grow, shrink, split and are replaced at random.
//! Argument: steps (default 1,000,000). Prints counts and a checksum of what is left.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, VecDeque};

#[derive(Default)]
struct World {
    map: BTreeMap<String, Vec<u8>>,
    lists: Vec<Vec<String>>,
    queue: VecDeque<Box<[u64]>>,
}

impl World {
    fn step(&mut self, rng: &mut SmallRng, n: usize) {
        let key = format!("key {:05}", rng.random_range(0..20_000));
        match rng.random_range(0..10) {
            0..=2 => self
                .map
                .entry(key)
                .or_default()
                .extend_from_slice(&n.to_le_bytes()),
            3 => {
                self.map
                    .insert(key, vec![n as u8; rng.random_range(1..2000)]);
            }
            4 => {
                self.map.remove(&key);
            }
            5 => {
                if let Some(bytes) = self.map.get_mut(&key) {
                    bytes.truncate(bytes.len() / 2);
                    bytes.shrink_to_fit();
                }
            }
            6 => {
                self.queue
                    .push_back(vec![n as u64; rng.random_range(1..300)].into_boxed_slice());
                if self.queue.len() > 500 {
                    self.queue.pop_front();
                }
            }
            7 => {
                let at = rng.random_range(0..200);
                if self.lists.len() <= at {
                    self.lists.resize_with(at + 1, Vec::new);
                }
                self.lists[at].push(key.repeat(1 + n % 3));
            }
            8 => {
                if let Some(list) = self.lists.get_mut(n % 200) {
                    list.sort();
                    list.dedup();
                    let rest = list.split_off(list.len() / 2);
                    self.lists.push(rest);
                }
            }
            _ if self.lists.len() > 400 => self.lists.truncate(200),
            _ => {
                let from = rng.random_range(0..20_000);
                let range = format!("key {from:05}")..format!("key {:05}", from + 20);
                let joined: String = self
                    .map
                    .range(range)
                    .map(|(key, bytes)| format!("{key}={};", bytes.len()))
                    .collect();
                self.map
                    .insert(joined.chars().take(30).collect(), joined.into_bytes());
            }
        }
    }

    fn checksum(&self) -> u64 {
        let bytes = self
            .map
            .iter()
            .flat_map(|(key, value)| key.bytes().chain(value.iter().copied()));
        let words = self.lists.iter().flatten().flat_map(|word| word.bytes());
        let numbers = self.queue.iter().flatten().map(|&n| n as u8);
        let mix = |sum: u64, byte: u8| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        bytes
            .chain(words)
            .chain(numbers)
            .fold(0xcbf2_9ce4_8422_2325, mix)
    }
}

pub fn main() {
    let argument = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "1000000".to_owned());
    let Some(steps) = argument.parse::<usize>().ok().filter(|&n| n > 0) else {
        eprintln!(
            "argument is {argument}: expected a number of steps above 0, as in: churn 1000000"
        );
        std::process::exit(2)
    };
    let mut rng = SmallRng::seed_from_u64(3);
    let mut world = World::default();
    for n in 0..steps {
        world.step(&mut rng, n);
    }
    let strings: usize = world.lists.iter().map(Vec::len).sum();
    println!(
        "{} keys, {strings} strings, {} boxes",
        world.map.len(),
        world.queue.len()
    );
    println!("checksum {:016x}", world.checksum());
}
