//! A node's disk: batches become durable in groups, each batch wholly or not at all; a crash loses what was not synced, and
//! may keep a part of what was being written, in order.

use std::collections::VecDeque;

use store::{
    assertions,
    core::durable::{DurableState, Record},
};

use super::chance::Dice;

/// A disk and its log thread.
#[derive(Debug, Default)]
pub struct Disk {
    state: DurableState,
    /// Batches that are being written, then those that wait.
    batches: VecDeque<(u64, Vec<Record>)>,
    writing: usize,
}

impl Disk {
    /// What a starting node finds.
    pub fn state(&self) -> &DurableState {
        &self.state
    }

    /// Takes a batch. True when the disk was idle, so that a sync has to be begun.
    pub fn take(&mut self, number: u64, records: Vec<Record>) -> bool {
        self.batches.push_back((number, records));
        self.batches.len() == 1
    }

    /// Whether a sync is going on.
    pub fn is_writing(&self) -> bool {
        self.writing > 0
    }

    /// Whether something waits to be written.
    pub fn waits(&self) -> bool {
        self.batches.len() > self.writing
    }

    /// Begins to write everything that waits; false when nothing does.
    pub fn begin(&mut self) -> bool {
        self.writing = self.batches.len();
        self.writing > 0
    }

    /// What was being written is durable: the number of the last batch.
    pub fn synced(&mut self) -> u64 {
        self.keep(self.writing)
    }

    /// Nothing that is not durable by now will outlive the process, though it was being written.
    pub fn lose_unsynced(&mut self) {
        self.writing = 0;
    }

    /// The process dies.
    pub fn crash(&mut self, dice: &mut Dice) {
        let survive = dice.below(self.writing as u64 + 1) as usize;
        let survive = if dice.one_in(2) { survive } else { 0 };
        self.keep(survive);
        self.batches.clear();
        self.writing = 0;
    }

    fn keep(&mut self, batches: usize) -> u64 {
        let mut last = 0;
        for (number, records) in self.batches.drain(..batches) {
            for record in &records {
                assertions::core(|| self.state.apply(record));
            }
            last = number;
        }
        self.writing = 0;
        last
    }
}

#[cfg(test)]
mod tests {
    use store::api::Ballot;

    use super::*;

    fn promise(number: u64) -> Vec<Record> {
        vec![Record::Promised { partition: 1, ballot: Ballot { number, ..Ballot::BOTTOM } }]
    }

    fn promised(disk: &Disk) -> u64 {
        disk.state().groups.get(&1).map_or(0, |group| group.promised.number)
    }

    #[test]
    fn what_waits_becomes_durable_together() {
        let mut disk = Disk::default();
        assert!(disk.take(1, promise(1)));
        assert!(disk.begin());
        assert!(!disk.take(2, promise(2)) && !disk.take(3, promise(3)));
        assert_eq!((disk.synced(), promised(&disk)), (1, 1));
        assert!(disk.begin());
        assert_eq!((disk.synced(), promised(&disk)), (3, 3));
        assert!(!disk.begin());
    }

    #[test]
    fn a_crash_loses_what_waits_and_keeps_a_beginning_of_what_is_written() {
        let mut seen = [0; 4];
        for seed in 0..200 {
            let mut disk = Disk::default();
            for number in 1..=2 {
                disk.take(number, promise(number));
            }
            disk.begin();
            disk.take(3, promise(3));
            disk.crash(&mut Dice::new(seed));
            seen[promised(&disk) as usize] += 1;
        }
        assert!(seen[0] > 0 && seen[1] > 0 && seen[2] > 0, "{seen:?}");
        assert_eq!(seen[3], 0);
    }
}
