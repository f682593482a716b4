//! A plan whose clients ask from a list what they asked in a run, so that single operations can be left out.

use std::{collections::BTreeMap, time::Duration};

use checker::history::{Function, Kind, Record};

use crate::{
    generator::Ask,
    plan::{Plan, PlannedAsk, PlannedEntry},
    workload::Time,
};

/// The plan of a run with every operation that its clients have asked listed, at the time at which it was asked: to the
/// nanosecond, so that a simulated run of it is the same run.
pub fn listed(plan: &Plan, history: &[Record]) -> Plan {
    let mut began = 0;
    let mut asked: BTreeMap<u64, Vec<PlannedAsk>> = BTreeMap::new();
    for record in history {
        match record {
            Record::Phase(phase) if phase.name == "warm-up" => began = phase.time,
            Record::Op(op) if op.kind == Kind::Invoke => {
                let at = Time(Duration::from_nanos(op.time.saturating_sub(began)));
                let ask = ask_of(&op.function);
                asked.entry(op.client).or_default().push(PlannedAsk { at, ask, node: Some(op.node) });
            }
            _ => {}
        }
    }
    let mut plan = plan.clone();
    for client in &mut plan.clients {
        let mut asks = asked.remove(&client.client).unwrap_or_default();
        if client.entry == PlannedEntry::Leader {
            for ask in &mut asks {
                ask.node = None;
            }
        }
        client.asks = Some(asks);
    }
    plan
}

fn ask_of(function: &Function) -> Ask {
    match function.clone() {
        Function::Get { key } => Ask::Get(key),
        Function::Put { key, value } => Ask::Put(key, value),
        // what it expects is what the client last saw, here as there
        Function::Cas { key, new, .. } => Ask::Cas(key, new),
        Function::Delete { key } => Ask::Delete(key),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{sim, workload};

    #[test]
    fn a_run_from_the_list_is_the_same_run() {
        let text = "[cluster]\nnodes = 3\npartitions = [{}]\nlease = 'off'\n[clients]\ncount = 4\n\
                    [operations]\nmix = { get = 2, put = 2, cas = 2, delete = 1 }\nkeys = { count = 3 }\nrate = 50\n\
                    [phases]\nwarm_up = '1s'\nfaults = '4s'\n\
                    [[nemesis]]\nat = '1s'\naction = 'kill'\ntarget = 'leader(1)'\nfor = '500ms'\n";
        let workload =
            workload::parse(Path::new("w.toml"), text).unwrap_or_else(|problem| panic!("{problem}"));
        let plan = Plan::new(workload, 3);
        let history = sim::history(&plan);
        let listed = listed(&plan, &history);
        let asks: usize = listed.clients.iter().filter_map(|client| client.asks.as_ref()).map(Vec::len).sum();
        assert!(asks > 200, "{asks} operations are listed");
        assert_eq!(sim::history(&listed), history);
        let text = toml::to_string(&listed).expect("TOML");
        assert_eq!(toml::from_str::<Plan>(&text).expect("a plan"), listed);
    }
}
