//! What a world is made of: machines with their clock and disk, and the links between them.

use std::collections::VecDeque;

use store::{
    config::ClockSkew,
    core::{
        Config, LocalTime, Message, Node, Output,
        durable::{DurableState, Record},
    },
};

use super::MS;

const MILLION: i128 = 1_000_000;

/// A machine, and the node on it while it runs.
pub struct Machine {
    pub config: Config,
    pub node: Option<Node>,
    pub paused: bool,
    pub disk: DurableState,
    /// When each batch is durable, its number, and its records.
    pub syncing: VecDeque<(u64, u64, Vec<Record>)>,
    pub durable: u64,
    pub held: Vec<(u64, Output)>,
    pub clock: Clock,
    /// Nothing is synced.
    pub stalled: bool,
}

impl Machine {
    pub fn new(config: Config, clock: Clock) -> Self {
        Self {
            config,
            node: None,
            paused: false,
            disk: DurableState::default(),
            syncing: VecDeque::new(),
            durable: 0,
            held: Vec::new(),
            clock,
            stalled: false,
        }
    }
}

/// The way from one node to another.
#[derive(Default)]
pub struct Link {
    pub queue: VecDeque<(u64, Message)>,
    pub state: LinkState,
    /// Names of messages to lose, all of them.
    pub mute: Vec<String>,
    /// Names of messages to lose, the next of each.
    pub lose: Vec<String>,
    /// Names of messages to keep back until released, the next of each.
    pub keep: Vec<String>,
    pub kept: Vec<Message>,
    /// What an earlier connection still delivers, in its order, beside the present one.
    pub late: VecDeque<(u64, Message)>,
}

#[derive(Default, PartialEq, Eq, Clone, Copy)]
pub enum LinkState {
    #[default]
    Open,
    /// What is sent is lost.
    Cut,
    /// What is sent waits.
    Held,
}

/// A node's clock, as a line over common time.
#[derive(Clone, Copy)]
pub struct Clock {
    base_common: u64,
    base_local: u64,
    rate_ppm: i64,
}

impl Clock {
    pub fn new(skew: ClockSkew) -> Self {
        let base_local = 1_000_000 * MS + (skew.offset_ms + 100_000) as u64 * MS;
        Self { base_common: 0, base_local, rate_ppm: skew.rate_ppm }
    }

    pub fn set_rate(&mut self, common: u64, rate_ppm: i64) {
        *self = Self { base_common: common, base_local: self.local(common).0, rate_ppm };
    }

    pub fn local(&self, common: u64) -> LocalTime {
        let passed = i128::from(common) - i128::from(self.base_common);
        let local = i128::from(self.base_local) + passed * (MILLION + i128::from(self.rate_ppm)) / MILLION;
        LocalTime(u64::try_from(local).expect("clocks stay positive"))
    }

    /// The first common time at which the clock reads `local` or more.
    pub fn common(&self, local: LocalTime) -> u64 {
        let passed = i128::from(local.0) - i128::from(self.base_local);
        let rate = MILLION + i128::from(self.rate_ppm);
        let common = i128::from(self.base_common) + (passed * MILLION + rate - 1).div_euclid(rate);
        u64::try_from(common.max(0)).expect("times fit")
    }
}
