//! Which faults a run was to contain and did not: the same rule for real and simulated runs.
//!
//! | fault | what a run lacks without it |
//! |---|---|
//! | of a `[[nemesis]]` with `at` or `after`, or of a step | it must take effect |
//! | of a `[[nemesis]]` with `every` | one of its times must take effect |
//! | drawn by `[random]` | half of all that were drawn may come to nothing |
//!
//! A fault takes effect when it finds somebody to break, and, if it strikes one thing at a time, has struck one.

use std::collections::BTreeMap;

use checker::history::Nemesis;

use crate::{
    plan::{Origin, Plan},
    workload::{FaultSpec, Word},
};

/// What the run lacks, one line each. `faults` are those of its history.
pub fn lacking(plan: &Plan, faults: &[Nemesis]) -> Vec<String> {
    let mut lacking = Vec::new();
    for step in faults.iter().filter(|fault| fault.begins && fault.planned.is_none()) {
        if let Some(why) = in_vain(step, faults) {
            lacking.push(format!("the step's {} {} {why}", step.action, step.target));
        }
    }
    let mut again = BTreeMap::new();
    let (mut drawn, mut vain) = (0, Vec::new());
    for (number, planned) in (1..).zip(&plan.faults) {
        let why = match faults.iter().find(|fault| fault.begins && fault.planned == Some(number)) {
            Some(begun) => in_vain(begun, faults),
            None => Some("never began".to_owned()),
        };
        let why = why.map(|why| format!("{} {why}", called(number, &planned.spec)));
        match planned.origin {
            Origin::Once => lacking.extend(why),
            Origin::Every(entry) => {
                let always = again.entry(entry).or_insert_with(|| why.clone());
                if why.is_none() {
                    *always = None;
                }
            }
            Origin::Random => {
                drawn += 1;
                vain.extend(why);
            }
        }
    }
    lacking.extend(again.into_values().flatten().map(|why| format!("no time that it came: {why}")));
    if vain.len() > drawn / 2 {
        let first = vain.first().cloned().unwrap_or_default();
        lacking.push(format!("{} of {drawn} faults at random came to nothing: {first}", vain.len()));
    }
    lacking
}

/// Whether a fault that has begun took effect.
pub fn took_effect(begun: &Nemesis, faults: &[Nemesis]) -> bool {
    in_vain(begun, faults).is_none()
}

/// Why a fault that has begun did not take effect; none: it did.
fn in_vain(begun: &Nemesis, faults: &[Nemesis]) -> Option<String> {
    if begun.nodes.is_empty() && begun.action != Word::Heal.text() {
        return Some("found nobody to break".to_owned());
    }
    (struck(begun.fault, faults) == Some(0)).then(|| {
        let word = Word::ALL.iter().find(|word| word.text() == begun.action);
        format!("struck no {}", word.and_then(|word| word.strikes()).unwrap_or("thing"))
    })
}

/// How much a fault has struck in the end, where that is counted.
pub fn struck(fault: u64, faults: &[Nemesis]) -> Option<u64> {
    faults.iter().filter(|record| record.fault == fault).filter_map(|record| record.struck).max()
}

fn called(number: u64, spec: &FaultSpec) -> String {
    format!("fault {number} of the plan ({} {})", spec.word.text(), spec.target)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::workload;

    fn plan(faults: &str) -> Plan {
        let text = format!(
            "[cluster]\nnodes = 3\npartitions = [{{}}]\nlease = 'off'\n[phases]\nfaults = '10s'\n{faults}"
        );
        let workload = workload::parse(Path::new("w.toml"), &text);
        Plan::new(workload.unwrap_or_else(|problem| panic!("{problem}")), 1)
    }

    fn record(plan: &Plan, planned: Option<u64>, nodes: &[u64], struck: Option<u64>) -> Nemesis {
        let spec = planned.map(|planned| &plan.faults[planned as usize - 1].spec);
        Nemesis {
            time: 0,
            requested: 0,
            fault: planned.unwrap_or(99),
            begins: true,
            action: spec.map_or("kill", |spec| spec.word.text()).to_owned(),
            target: spec.map_or_else(|| "leader(1)".to_owned(), |spec| spec.target.to_string()),
            nodes: nodes.to_vec(),
            name: None,
            planned,
            struck,
            instant: false,
        }
    }

    const NOTHING: [&str; 0] = [];
    const KILL: &str = "action = 'kill'\ntarget = 'leader(1)'\nfor = '200ms'\n";

    #[test]
    fn a_planned_fault_must_take_effect() {
        let plan = plan(&format!("[[nemesis]]\nat = '1s'\n{KILL}"));
        assert_eq!(lacking(&plan, &[]), ["fault 1 of the plan (kill leader(1)) never began"]);
        let vacant = record(&plan, Some(1), &[], None);
        let nobody = "fault 1 of the plan (kill leader(1)) found nobody to break";
        assert_eq!(lacking(&plan, &[vacant]), [nobody]);
        assert_eq!(lacking(&plan, &[record(&plan, Some(1), &[2], None)]), NOTHING);
    }

    #[test]
    fn a_trigger_that_does_not_fire_is_a_fault_that_never_began() {
        let plan = plan(&format!("[[nemesis]]\nafter = {{ leader_change = 1 }}\n{KILL}"));
        assert_eq!(lacking(&plan, &[]), ["fault 1 of the plan (kill leader(1)) never began"]);
    }

    #[test]
    fn the_slack_of_random_faults_excuses_no_other() {
        let random =
            "[random]\nevery = '1s'\n[[random.fault]]\naction = 'pause'\ntarget = 'random'\nfor = '1s'\n";
        let plan = plan(&format!("[[nemesis]]\nat = '1ms'\n{KILL}{random}"));
        let drawn = plan.faults.iter().filter(|fault| fault.origin == Origin::Random).count() as u64;
        assert!(drawn >= 6 && plan.faults[0].origin == Origin::Once, "{:?}", plan.faults);
        // all that were drawn, the first `vain` of them in vain; and the planned one, which finds nobody
        let run = |vain: u64, planned: &[u64]| {
            let nodes = |number: u64| if number < 2 + vain { vec![] } else { vec![1] };
            let drawn = (2..2 + drawn).map(|number| record(&plan, Some(number), &nodes(number), None));
            let faults: Vec<_> = drawn.chain([record(&plan, Some(1), planned, None)]).collect();
            lacking(&plan, &faults)
        };
        assert_eq!(run(drawn / 2, &[2]), NOTHING);
        assert_eq!(run(0, &[]), ["fault 1 of the plan (kill leader(1)) found nobody to break"]);
        let (vain, first) = (drawn / 2 + 1, "fault 2 of the plan (pause random) found nobody to break");
        assert_eq!(run(vain, &[2]), [format!("{vain} of {drawn} faults at random came to nothing: {first}")]);
    }

    #[test]
    fn of_a_fault_that_comes_again_and_again_one_must_take_effect() {
        let plan = plan(&format!("[[nemesis]]\nevery = '2s'\n{KILL}"));
        let times = plan.faults.len() as u64;
        assert!(times > 2);
        let vain = "no time that it came: fault 1 of the plan (kill leader(1)) found nobody to break";
        let vacant = |number| record(&plan, Some(number), &[], None);
        assert_eq!(lacking(&plan, &(1..=times).map(vacant).collect::<Vec<_>>()), [vain]);
        let hit = record(&plan, Some(times), &[3], None);
        assert_eq!(lacking(&plan, &[vacant(1), hit]), NOTHING, "that others never began is no matter");
    }

    #[test]
    fn what_strikes_one_thing_at_a_time_must_have_struck_one() {
        let plan = plan("[[nemesis]]\nat = '1s'\naction = 'frame-drop'\ntarget = 'all'\nfor = '1s'\n");
        let begun = record(&plan, Some(1), &[1, 2, 3], Some(0));
        let ended = |struck| Nemesis { begins: false, struck: Some(struck), ..begun.clone() };
        let vain = "fault 1 of the plan (frame-drop all) struck no message";
        assert_eq!(lacking(&plan, &[begun.clone(), ended(0)]), [vain]);
        assert_eq!(lacking(&plan, &[begun.clone(), ended(2)]), NOTHING);
    }

    #[test]
    fn a_fault_of_a_step_must_take_effect() {
        let plan = plan("");
        let vain = "the step's kill leader(1) found nobody to break";
        assert_eq!(lacking(&plan, &[record(&plan, None, &[], None)]), [vain]);
        assert_eq!(lacking(&plan, &[record(&plan, None, &[1], None)]), NOTHING);
    }
}
