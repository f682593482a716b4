//! What a small plan is made of, so that two of the same shape are taken for the same failure.

use std::collections::BTreeSet;

use crate::{
    generator,
    plan::Plan,
    workload::{Action, Ask},
};

/// The plan's faults and the kinds of its operations, each once: `isolate, kill: get, put`.
pub fn shape(plan: &Plan) -> String {
    let faults = plan.faults.iter().map(|fault| fault.spec.word.text());
    let in_steps = plan.steps.iter().filter_map(|step| match &step.action {
        Action::Fault(fault) => Some(fault.word.text()),
        _ => None,
    });
    let listed = plan.clients.iter().filter_map(|client| client.asks.as_ref()).flatten();
    let listed = listed.map(|asked| match asked.ask {
        generator::Ask::Get(_) => "get",
        generator::Ask::Put(..) => "put",
        generator::Ask::Cas(..) => "cas",
        generator::Ask::Delete(_) => "delete",
    });
    let asked = plan.steps.iter().filter_map(|step| match &step.action {
        Action::Operation(operation) => Some(match operation.ask {
            Ask::Get => "get",
            Ask::Put { .. } => "put",
            Ask::Cas { .. } => "cas",
            Ask::Delete => "delete",
        }),
        _ => None,
    });
    let endless = plan.clients.iter().any(|client| client.asks.is_none());
    let operations = listed.chain(asked).chain(endless.then_some("any operations"));
    format!("{}: {}", in_words(faults.chain(in_steps)), in_words(operations))
}

fn in_words<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: BTreeSet<&str> = words.collect();
    if words.is_empty() {
        return "nothing".to_owned();
    }
    words.into_iter().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::workload;

    #[test]
    fn a_shape_is_what_breaks_and_what_is_asked() {
        let text = "[cluster]\nnodes = 3\npartitions = [{}]\nlease = 'off'\n\
            [clients]\ncount = 1\n[operations]\nmix = { get = 1 }\nkeys = { count = 1 }\n\
            [[nemesis]]\nat = '2s'\naction = 'kill'\ntarget = 'node 1'\nfor = '1s'\n\
            [[nemesis]]\nat = '1s'\naction = 'isolate'\ntarget = 'node 1'\nfor = '1s'\n\
            [[nemesis]]\nat = '5s'\naction = 'kill'\ntarget = 'node 2'\nfor = '1s'\n";
        let workload = workload::parse(Path::new("w.toml"), text).unwrap_or_else(|told| panic!("{told}"));
        let mut plan = Plan::new(workload, 3);
        assert_eq!(shape(&plan), "isolate, kill: any operations");
        plan.clients[0].asks = Some(Vec::new());
        plan.faults.clear();
        assert_eq!(shape(&plan), "nothing: nothing");
    }
}
