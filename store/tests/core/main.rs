//! The pure core in simulated time: golden scripts and random schedules.

mod golden;
mod random_schedules;
mod telling;
mod world;
