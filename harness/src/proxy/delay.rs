//! How long the bytes of a link travel, and where chance comes from: a hash of what it decides, so that the same decision
//! comes out the same whatever else was decided before it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Endpoint, Link};

/// How long the frames of a link travel, to the precision of the timer, which is a millisecond. Bytes never overtake
/// others of their connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delay {
    /// All as long.
    Constant(Duration),
    /// Anything from `shortest` to `longest`, equally likely.
    Uniform {
        /// At least this.
        shortest: Duration,
        /// At most this.
        longest: Duration,
    },
    /// Mostly short, now and then several times as long as usual.
    Exponential {
        /// The average.
        mean: Duration,
    },
    /// Around the median, with a long tail.
    Lognormal {
        /// Half are shorter.
        median: Duration,
        /// One in forty is longer, roughly: two standard deviations above the median.
        high: Duration,
    },
}

/// Nothing travels longer than this, however long the tail of a distribution is.
const LONGEST: Duration = Duration::from_mins(1);

/// What is decided by chance: the same draw gives the same result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// Seed of the run.
    pub seed: u64,
    /// The link.
    pub link: Link,
    /// Number of the connection on its listener.
    pub connection: u64,
    /// Number of the frame in its direction of the connection, or of the read where the protocol is not known.
    pub frame: u64,
    /// Tells apart what is decided about one frame.
    pub purpose: u64,
}

impl Delay {
    /// The delay of one frame.
    pub fn draw(self, draw: Draw) -> Duration {
        let seconds = match self {
            Self::Constant(delay) => return delay,
            Self::Uniform { shortest, longest } => {
                let span = longest.saturating_sub(shortest);
                return shortest + span.mul_f64(draw.fraction());
            }
            Self::Exponential { mean } => -mean.as_secs_f64() * (1.0 - draw.fraction()).ln(),
            Self::Lognormal { median, high } => {
                let deviation = (high.as_secs_f64() / median.as_secs_f64().max(1e-9)).max(1.0).ln() / 2.0;
                median.as_secs_f64() * (deviation * draw.normal()).exp()
            }
        };
        Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST).min(LONGEST)
    }
}

impl Draw {
    /// At least 0 and less than 1.
    pub fn fraction(self) -> f64 {
        // the 53 bits that a double holds
        (self.hash() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From the standard normal distribution, by Box and Muller's transform.
    fn normal(self) -> f64 {
        let other = Self { purpose: !self.purpose, ..self };
        let radius = (-2.0 * (1.0 - self.fraction()).ln()).sqrt();
        radius * (std::f64::consts::TAU * other.fraction()).cos()
    }

    fn hash(self) -> u64 {
        let end = |end: Endpoint| match end {
            Endpoint::Node(node) => node,
            Endpoint::Client(client) => client | 1 << 63,
        };
        let words = [end(self.link.from), end(self.link.to), self.connection, self.frame, self.purpose];
        words.into_iter().fold(mixed(self.seed), |hash, word| mixed(hash ^ mixed(word)))
    }
}

/// The finalizer of `SplitMix64` (Steele, Lea, Flood 2014): every bit of the input changes half of the output.
fn mixed(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAW: Draw = Draw {
        seed: 1,
        link: Link { from: Endpoint::Node(1), to: Endpoint::Node(2) },
        connection: 1,
        frame: 1,
        purpose: 1,
    };

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// The delays of many frames, shortest first.
    fn sorted(delay: Delay) -> Vec<Duration> {
        let mut all: Vec<_> = (0..10_000).map(|frame| delay.draw(Draw { frame, ..DRAW })).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn a_draw_depends_on_nothing_but_what_it_is_for() {
        let others = [
            Draw { seed: 2, ..DRAW },
            Draw { link: DRAW.link.backward(), ..DRAW },
            Draw { link: Link::client(1, 2), ..DRAW },
            Draw { connection: 2, ..DRAW },
            Draw { frame: 2, ..DRAW },
            Draw { purpose: 2, ..DRAW },
        ];
        assert_eq!(DRAW.hash(), DRAW.hash());
        for other in others {
            assert_ne!(DRAW.hash(), other.hash(), "{other:?}");
        }
    }

    #[test]
    fn delays_are_distributed_as_said() {
        let constant = sorted(Delay::Constant(millis(7)));
        assert_eq!((constant[0], constant[9_999]), (millis(7), millis(7)));

        let uniform = sorted(Delay::Uniform { shortest: millis(10), longest: millis(20) });
        assert!(uniform[0] >= millis(10) && uniform[9_999] <= millis(20));
        assert!((millis(14)..millis(16)).contains(&uniform[5_000]), "{:?}", uniform[5_000]);

        let exponential = sorted(Delay::Exponential { mean: millis(100) });
        let mean = exponential.iter().sum::<Duration>() / 10_000;
        assert!((millis(95)..millis(105)).contains(&mean), "{mean:?}");
        assert!((millis(65)..millis(74)).contains(&exponential[5_000]), "{:?}", exponential[5_000]);

        let lognormal = sorted(Delay::Lognormal { median: millis(10), high: millis(40) });
        assert!((millis(9)..millis(11)).contains(&lognormal[5_000]), "{:?}", lognormal[5_000]);
        let above = lognormal.iter().filter(|delay| **delay > millis(40)).count();
        assert!((180..280).contains(&above), "{above} of 10000 above two deviations, 228 are expected");
    }

    #[test]
    fn odd_parameters_do_no_harm() {
        let none = Duration::ZERO;
        assert_eq!(Delay::Lognormal { median: none, high: none }.draw(DRAW), none);
        assert_eq!(Delay::Exponential { mean: none }.draw(DRAW), none);
        assert_eq!(Delay::Uniform { shortest: millis(2), longest: millis(1) }.draw(DRAW), millis(2));
        assert!(Delay::Exponential { mean: Duration::MAX }.draw(DRAW) <= LONGEST);
    }
}
