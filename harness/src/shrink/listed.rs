//! A plan whose clients ask from a list what they asked in a run, so that single operations can be left out.

use std::{collections::BTreeMap, time::Duration};

use checker::history::{Function, Kind, Record};

use crate::{
    generator::Ask,
    plan::{Plan, PlannedAsk, PlannedEntry},
    workload::Time,
};

/// The plan of a run with every operation that its clients have asked listed, at the time at which it was asked (in whole
/// milliseconds, as plans write them).
pub fn listed(plan: &Plan, history: &[Record]) -> Plan {
    let mut began = 0;
    let mut asked: BTreeMap<u64, Vec<PlannedAsk>> = BTreeMap::new();
    for record in history {
        match record {
            Record::Phase(phase) if phase.name == "warm-up" => began = phase.time,
            Record::Op(op) if op.kind == Kind::Invoke => {
                let at = Time(Duration::from_millis(op.time.saturating_sub(began) / 1_000_000));
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
