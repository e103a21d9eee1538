//! The generators the workloads draw from: tiny, seeded, and the same on every machine.

/// xorshift32 with shifts 13, 17, 5: the generator of the random-mixed reference. State 0 would stay 0.
#[derive(Debug, Clone, Copy)]
pub struct XorShift32(u32);

impl XorShift32 {
    pub const fn new(state: u32) -> Self {
        Self(state)
    }

    /// The next draw, which is also the new state.
    #[inline(always)]
    pub fn draw(&mut self) -> u32 {
        let mut x = self.0;
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        self.0 = x;
        x
    }
}

/// xorshift64* for the other workloads: 64 bits of state, of which the better upper half is handed out.
#[derive(Debug, Clone, Copy)]
pub struct XorShift64(u64);

impl XorShift64 {
    /// A generator for one stream (a thread, a pass) of one seed; any seed will do, 0 too.
    pub fn new(seed: u64, stream: u64) -> Self {
        // One round of splitmix64 spreads neighbouring seeds and streams apart.
        let mut z = seed.wrapping_add((stream.wrapping_add(1)).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Self((z ^ (z >> 31)) | 1)
    }

    #[inline(always)]
    pub fn draw(&mut self) -> u32 {
        let mut x = self.0;
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.0 = x;
        (x.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) as u32
    }

    /// A number below `bound` (which is at least 1 and below 2³²), by multiplication instead of division.
    #[inline(always)]
    pub fn below(&mut self, bound: usize) -> usize {
        ((u64::from(self.draw()) * bound as u64) >> 32) as usize
    }

    /// A number from `low` to `high`, both included.
    #[inline(always)]
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// A number drawn evenly on a logarithmic scale, both ends included.
    pub fn log_between(&mut self, low: usize, high: usize) -> usize {
        let share = f64::from(self.draw()) / f64::from(u32::MAX);
        let number = low as f64 * (high as f64 / low as f64).powf(share);
        (number.round() as usize).clamp(low, high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xorshift32_by_hand() {
        // State 1: 1 ^ 1<<13 = 0x2001; >>17 is 0, so still 0x2001; ^ 0x2001<<5 (0x40020) = 0x42021.
        let mut g = XorShift32::new(1);
        assert_eq!(g.draw(), 0x42021);
        // 0x42021 ^ 0x84042000 = 0x84000021; ^ its >>17 (0x4200) = 0x84004221; ^ its <<5 (0x80084420) = 0x4080601.
        assert_eq!(g.draw(), 0x0408_0601);
        assert_eq!(g.draw(), 2_647_435_461);
        // State 0x80000000: <<13 leaves nothing; >>17 = 0x4000 -> 0x80004000; <<5 = 0x80000 -> 0x80084000.
        assert_eq!(XorShift32::new(0x8000_0000).draw(), 0x8008_4000);
        assert_eq!(XorShift32::new(0).draw(), 0);
    }

    #[test]
    fn bounds_are_kept_and_reached() {
        let mut g = XorShift64::new(0, 0);
        let (mut seen, mut below) = ([0u32; 7], 0);
        for _ in 0..10_000 {
            seen[g.between(16, 22) - 16] += 1;
            // Half the numbers lie below the geometric mean.
            below += usize::from(g.log_between(16, 16384) < 512);
        }
        assert!(seen.iter().all(|&n| (1200..1700).contains(&n)) && (4700..5300).contains(&below), "{seen:?} {below}");
    }
}
