//! The pure core in simulated time: golden scripts, the properties that it promises, and random schedules.

mod bootstrap;
mod clients;
mod cluster;
mod golden;
mod properties;
mod random_schedules;
mod sessions;
mod takeover;
mod telling;
mod trimming;
mod world;
