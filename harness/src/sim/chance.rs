//! Everything that chance decides in a simulated run: one stream from the seed, and the run's weather.

/// A stream of random numbers (splitmix64): small, fast, and the same on every machine for ever.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`, which is above 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from `span`, its end excluded.
    pub fn within(&mut self, span: Span) -> u64 {
        span.from + self.below(span.to - span.from)
    }

    /// True once in `many` times.
    pub fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let value = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }
}

/// From here up to, and without, there; nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    from: u64,
    to: u64,
}

const fn micros(from: u64, to: u64) -> Span {
    Span { from: from * 1000, to: to * 1000 }
}

/// How long something takes: mostly this, and once in a while that.
#[derive(Clone, Copy, Debug)]
pub struct Delay {
    usual: Span,
    rare: Span,
    one_in: u64,
}

impl Delay {
    /// The next delay.
    pub fn draw(&self, dice: &mut Dice) -> u64 {
        let span = if dice.one_in(self.one_in) { self.rare } else { self.usual };
        dice.within(span)
    }
}

/// How fast links, disks and processors are in one run.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Its name.
    pub name: &'static str,
    /// A message between nodes, or between a client and a node.
    pub message: Delay,
    sync: Delay,
    /// From the moment that a node has something to do until it does it; what comes meanwhile is done in the same turn.
    pub wake: Delay,
    /// From the start of a process until its core starts.
    pub start: Delay,
    /// Until a broken connection is dialed again.
    pub redial: Delay,
}

/// How late a message of a severed connection comes.
pub const STRAGGLING: Span = micros(1_000, 1_500_000);

const START: Delay = Delay { usual: micros(2_000, 40_000), rare: micros(40_000, 400_000), one_in: 10 };

const REDIAL: Delay = Delay { usual: micros(100, 20_000), rare: micros(20_000, 60_000), one_in: 20 };

/// A disk on which writes wait long enough to be lost.
const SLOW_DISK: Delay = Delay { usual: micros(4_000, 60_000), rare: micros(60_000, 400_000), one_in: 40 };

const STILL: Weather = Weather {
    name: "still",
    message: Delay { usual: micros(40, 250), rare: micros(250, 2_000), one_in: 1_000 },
    sync: Delay { usual: micros(80, 900), rare: micros(900, 4_000), one_in: 500 },
    wake: Delay { usual: micros(2, 30), rare: micros(30, 1_000), one_in: 5_000 },
    start: START,
    redial: REDIAL,
};

const CALM: Weather = Weather {
    name: "calm",
    message: Delay { usual: micros(40, 250), rare: micros(250, 20_000), one_in: 2_000 },
    sync: Delay { usual: micros(80, 900), rare: micros(900, 30_000), one_in: 500 },
    wake: Delay { usual: micros(2, 30), rare: micros(30, 10_000), one_in: 5_000 },
    start: START,
    redial: REDIAL,
};

const BREEZY: Weather = Weather {
    name: "breezy",
    message: Delay { usual: micros(100, 2_000), rare: micros(2_000, 60_000), one_in: 500 },
    sync: Delay { usual: micros(100, 3_000), rare: micros(3_000, 60_000), one_in: 300 },
    wake: Delay { usual: micros(2, 100), rare: micros(100, 30_000), one_in: 3_000 },
    start: START,
    redial: REDIAL,
};

const ROUGH: Weather = Weather {
    name: "rough",
    message: Delay { usual: micros(100, 4_000), rare: micros(4_000, 180_000), one_in: 300 },
    sync: Delay { usual: micros(200, 5_000), rare: micros(5_000, 120_000), one_in: 150 },
    wake: Delay { usual: micros(5, 300), rare: micros(300, 60_000), one_in: 2_000 },
    start: START,
    redial: REDIAL,
};

impl Weather {
    /// One sync of a node's disk: one disk in six is slow, whatever the weather.
    pub fn disk(&self, dice: &mut Dice) -> Delay {
        if !self.is_still() && dice.one_in(6) { SLOW_DISK } else { self.sync }
    }

    fn is_still(&self) -> bool {
        self.name == STILL.name
    }

    /// The weather of a run: calm in half of them, and without great delays when that is asked for.
    pub fn draw(dice: &mut Dice, still: bool) -> Self {
        match dice.below(4) {
            _ if still => STILL,
            0 | 1 => CALM,
            2 => BREEZY,
            _ => ROUGH,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_never_changes() {
        let mut dice = Dice::new(7);
        let drawn: Vec<u64> = (0..4).map(|_| dice.below(1000)).collect();
        let mut again = Dice::new(7);
        assert_eq!(drawn, (0..4).map(|_| again.below(1000)).collect::<Vec<_>>());
        assert!(drawn.iter().all(|number| *number < 1000));
    }

    #[test]
    fn delays_stay_within_their_spans() {
        let mut dice = Dice::new(1);
        let delay = Delay { usual: micros(1, 2), rare: micros(5, 6), one_in: 4 };
        let drawn: Vec<u64> = (0..1000).map(|_| delay.draw(&mut dice)).collect();
        assert!(drawn.iter().all(|nanos| (1000..2000).contains(nanos) || (5000..6000).contains(nanos)));
        let rare = drawn.iter().filter(|nanos| **nanos >= 5000).count();
        assert!((150..350).contains(&rare), "{rare}");
    }
}
