//! How long the bytes of a link travel.

use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Endpoint, Link};

/// How long the bytes of a link travel, to the precision of the timer, which is a millisecond. Bytes never overtake
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
}

/// What a delay is drawn for: the same draw gives the same delay, whatever else is drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draw {
    pub(super) seed: u64,
    pub(super) link: Link,
    /// Number of the connection on its listener.
    pub(super) connection: u64,
    /// Number of the piece that was read from it.
    pub(super) piece: u64,
}

impl Delay {
    /// The delay of one piece.
    pub(super) fn draw(self, draw: Draw) -> Duration {
        match self {
            Self::Constant(delay) => delay,
            Self::Uniform { shortest, longest } => {
                draw.generator().random_range(shortest..=longest.max(shortest))
            }
        }
    }
}

impl Draw {
    fn generator(self) -> ChaCha8Rng {
        let from = match self.link.from {
            Endpoint::Node(node) => node,
            Endpoint::Client(client) => client | 1 << 63,
        };
        let mut seed = [0; 32];
        let words = [self.seed, from, self.link.to, self.connection];
        for (bytes, word) in seed.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        let mut generator = ChaCha8Rng::from_seed(seed);
        generator.set_stream(self.piece);
        generator
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_depends_on_nothing_but_what_it_is_for() {
        let delay = Delay::Uniform { shortest: Duration::from_millis(1), longest: Duration::from_secs(1) };
        let draw = Draw { seed: 1, link: Link::between(1, 2), connection: 1, piece: 1 };
        let others = [
            Draw { seed: 2, ..draw },
            Draw { link: Link::client(1, 2), ..draw },
            Draw { connection: 2, ..draw },
            Draw { piece: 2, ..draw },
        ];
        assert_eq!(delay.draw(draw), delay.draw(draw));
        for other in others {
            assert_ne!(delay.draw(draw), delay.draw(other), "{other:?}");
        }
        for piece in 0..1000 {
            let drawn = delay.draw(Draw { piece, ..draw });
            assert!((Duration::from_millis(1)..=Duration::from_secs(1)).contains(&drawn));
        }
    }
}
