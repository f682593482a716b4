//! `[require]`: what can never come about is refused before the run, instead of leaving every run of it undecided.

use std::ops::Range;

use store::config::{ClusterConfig, ReadMode};
use toml::Spanned;

use super::{Clients, Fault, Require};

/// Checks what a run must contain against the cluster and the clients that it has.
pub fn check(
    cluster: &ClusterConfig,
    clients: &Clients,
    require: Option<Spanned<Require>>,
) -> Result<Require, Fault> {
    let Some(require) = require else { return Ok(Require::default()) };
    let place = require.span();
    let require = require.into_inner();
    if require.asked_again > 0 && !clients.sessions {
        return Err(never(place, "`asked_again`: clients without sessions never ask for the same again")
            .help("write `sessions = true` in `[clients]`, or remove `asked_again`"));
    }
    if (require.fast_reads > 0 || require.fast_read_near_expiry) && cluster.lease.is_none() {
        return Err(never(place, "fast reads: no leader has a lease")
            .help("write `lease = { duration_ms = 400, drift_ppm = 50000 }` in `[cluster]`, or remove what asks for fast reads"));
    }
    if require.local_reads > 0 && cluster.reads != ReadMode::Local {
        return Err(never(place, "`local_reads`: only leaders answer reads")
            .help("write `reads = \"local\"` in `[cluster]`, or remove `local_reads`"));
    }
    Ok(require)
}

fn never(place: Range<usize>, what: &'static str) -> Fault {
    Fault::new(place, "no run can contain what is required", what)
}
