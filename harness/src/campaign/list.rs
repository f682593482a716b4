//! What a campaign does, as one list: pieces of work in a fixed order.
//!
//! The list follows from the workloads, their order and the seeds alone: not from the time, not from what was found, and not
//! from how many shards there are. Shard K of N takes the pieces whose index is K modulo N. So all shards together do what one
//! campaign would do, and none does what another one does.
//!
//! Round 0 has a piece for each workload: a plan, a negative workload as a whole (it is over when its bug is found, and nobody
//! else may know when that is), and a few seeds of any other. Each later round has blocks of seeds of the others. A round begins
//! one workload further than the round before, so that no shard has always the same ones.

use std::{fmt, ops::Range};

use serde::{Deserialize, Serialize};

/// Seeds of a workload in round 0, which is run whatever time it takes.
const FIRST: u64 = 2;

/// Seeds of a block.
const BLOCK: u64 = 16;

/// How a workload is divided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Its seeds.
    pub seeds: Range<u64>,
    /// It is one piece: a plan, or a negative workload.
    pub whole: bool,
    /// Blocks of each round.
    pub weight: u64,
}

/// A piece of work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its place in the list.
    pub index: u64,
    /// The round.
    pub round: u64,
    /// The workload's place among all.
    pub case: usize,
    /// Its seeds.
    pub seeds: Range<u64>,
}

/// Which pieces one of several campaigns takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    /// Its number, from 1; 0: all of them, merged.
    pub number: u64,
    /// How many there are.
    pub of: u64,
}

impl Shard {
    /// Whether the piece with this index is this shard's.
    pub fn has(self, index: u64) -> bool {
        index % self.of == self.number % self.of
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

/// All pieces.
pub fn pieces(shares: Vec<Share>) -> impl Iterator<Item = Piece> {
    let rounds = (0..).map(move |round| of_round(&shares, round)).take_while(|pieces| !pieces.is_empty());
    rounds.flatten().zip(0..).map(|(piece, index)| Piece { index, ..piece })
}

fn of_round(shares: &[Share], round: u64) -> Vec<Piece> {
    let begins = (round % shares.len().max(1) as u64) as usize;
    let order = (begins..shares.len()).chain(0..begins);
    let blocks = order.flat_map(|case| blocks(&shares[case], round).map(move |seeds| (case, seeds)));
    blocks.map(|(case, seeds)| Piece { index: 0, round, case, seeds }).collect()
}

/// Blocks of a workload in a round.
fn blocks(share: &Share, round: u64) -> impl Iterator<Item = Range<u64>> {
    let Range { start, end } = share.seeds;
    let (from, size, count) = match (round, share.whole) {
        (0, true) => (start, end - start, 1),
        (0, false) => (start, FIRST, 1),
        (_, true) => (end, 0, 0),
        (_, false) => (start + FIRST + (round - 1) * share.weight * BLOCK, BLOCK, share.weight),
    };
    let blocks = (0..count).map(move |block| from + block * size);
    blocks.map(move |from| from..end.min(from + size)).filter(|seeds| !seeds.is_empty())
}

/// `K/N` of the command line.
pub fn shard(text: &str) -> Result<Shard, String> {
    let numbers =
        text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
    match numbers {
        Some((number, of)) if (1..=of).contains(&number) => Ok(Shard { number, of }),
        _ => Err("write K/N, such as 2/5 for the second of five".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares() -> Vec<Share> {
        let share = |seeds, whole, weight| Share { seeds, whole, weight };
        vec![
            share(7..8, true, 1),
            share(100..400, true, 1),
            share(100..400, false, 1),
            share(100..400, false, 3),
            share(100..103, false, 1),
        ]
    }

    const ALL: Shard = Shard { number: 1, of: 1 };

    fn taken(shard: Shard) -> Vec<Piece> {
        pieces(shares()).filter(|piece| shard.has(piece.index)).collect()
    }

    #[test]
    fn every_seed_of_every_workload_comes_once() {
        let all = taken(ALL);
        assert!(all.iter().zip(0..).all(|(piece, index)| piece.index == index));
        for (case, share) in shares().into_iter().enumerate() {
            let mut seeds: Vec<u64> =
                all.iter().filter(|piece| piece.case == case).flat_map(|piece| piece.seeds.clone()).collect();
            seeds.sort_unstable();
            assert_eq!(seeds, share.seeds.collect::<Vec<_>>(), "workload {case}");
        }
    }

    #[test]
    fn round_0_has_every_workload_and_new_ones_get_more_later() {
        let all = taken(ALL);
        let round = |round| -> Vec<usize> {
            all.iter().filter(|piece| piece.round == round).map(|piece| piece.case).collect()
        };
        assert_eq!(round(0), [0, 1, 2, 3, 4]);
        assert_eq!(round(1), [2, 3, 3, 3, 4]);
        assert_eq!(round(3), [3, 3, 3, 2]);
    }

    #[test]
    fn shards_together_are_the_whole_list_and_none_overlap() {
        for of in 1..=5 {
            let mut together: Vec<Piece> = (1..=of).flat_map(|number| taken(Shard { number, of })).collect();
            together.sort_by_key(|piece| piece.index);
            assert_eq!(together, taken(ALL), "{of} shards");
        }
    }

    #[test]
    fn a_shard_is_one_of_so_many() {
        assert_eq!(shard("2/5"), Ok(Shard { number: 2, of: 5 }));
        for wrong in ["0/5", "6/5", "1/0", "2", "a/b", "-1/2", ""] {
            assert!(shard(wrong).is_err(), "{wrong}");
        }
    }
}
