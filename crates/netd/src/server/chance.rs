//! Numbers that nobody guesses: those of our questions, by which answers are known. And, from one of them, cheap ones for
//! the order of addresses.

use rustix::rand::{GetRandomFlags, getrandom};

/// How many bytes are asked of the kernel at once.
const STOCK: usize = 256;

/// A stock of them.
#[derive(Debug)]
pub(super) struct Chance {
    stock: [u8; STOCK],
    used: usize,
    cheap: u64,
}

impl Chance {
    pub(super) fn new() -> Self {
        let mut chance = Self { stock: [0; STOCK], used: STOCK, cheap: 0 };
        // The state of xorshift must not be 0.
        let seed = [(); 4].map(|()| chance.number());
        chance.cheap = seed.iter().fold(1, |all, part| (all << 16) | u64::from(*part)) | 1;
        chance
    }

    /// One that nobody guesses.
    pub(super) fn number(&mut self) -> u16 {
        if self.used + 2 > STOCK {
            self.used = 0;
            let mut filled = 0;
            while filled < STOCK {
                // It fails only where a signal comes in between, and none is handled here.
                filled += getrandom(&mut self.stock[filled..], GetRandomFlags::empty()).unwrap_or(0);
            }
        }
        let number = u16::from_ne_bytes([self.stock[self.used], self.stock[self.used + 1]]);
        self.used += 2;
        number
    }

    /// Puts a list into another order, each as likely as any (Fisher and Yates; Marsaglia's xorshift).
    pub(super) fn shuffle<T>(&mut self, list: &mut [T]) {
        for n in (1..list.len()).rev() {
            self.cheap ^= self.cheap << 13;
            self.cheap ^= self.cheap >> 7;
            self.cheap ^= self.cheap << 17;
            list.swap(n, (self.cheap >> 16) as usize % (n + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_comes_first_as_often() {
        let mut chance = Chance::new();
        let mut first = [0; 4];
        for _ in 0..4000 {
            let mut list = [0, 1, 2, 3];
            chance.shuffle(&mut list);
            first[list[0]] += 1;
        }
        assert!(first.iter().all(|count| (800..1200).contains(count)), "{first:?}");
    }
}
