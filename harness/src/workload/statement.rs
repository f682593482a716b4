//! What must be true of a run beside its verdict: `[[expect.that]]`.

use std::fmt;

use serde::{Deserialize, Serialize};
use store::api::PartitionId;
use toml::Spanned;

use super::{Fault, Phases, Time, check::Scope, file, problem::suggestion};

/// Something that must be true of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// Its name.
    pub name: String,
    /// Of which partition; none: of each.
    pub partition: Option<PartitionId>,
    /// What.
    pub says: Says,
    /// From when on; none: from the run's beginning. What happens several times is looked at each time.
    pub after: Option<Moment>,
    /// Until when; none: to the run's end.
    pub until: Option<Moment>,
}

/// What must be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Says {
    /// No operation is asked and answered in that time.
    Silence,
    /// Every read that is asked and answered in that time is fast.
    FastReads,
    /// Within this time an answer comes from another leader than the last one before.
    OtherLeader {
        /// How soon.
        within: Time,
    },
    /// The partition gets another leader this often in that time.
    LeaderChanges(Often),
    /// A node takes the partition over this often in the whole run, and never comes to lead under that ballot.
    FailedElections(Often),
    /// Within this time an operation is asked and answered.
    Progress {
        /// How soon.
        within: Time,
    },
    /// Within this time a write is asked and answered: somebody leads, and a quorum accepts.
    Writes {
        /// How soon.
        within: Time,
    },
}

/// How often something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Often {
    /// At least.
    pub at_least: u64,
    /// At most; none: without bound.
    pub at_most: Option<u64>,
}

impl Often {
    /// Whether so many are as many as there should be.
    pub fn allows(self, count: u64) -> bool {
        count >= self.at_least && self.at_most.is_none_or(|most| count <= most)
    }
}

impl fmt::Display for Often {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.at_least, self.at_most) {
            (0, Some(most)) => write!(f, "at most {most}"),
            (least, None) => write!(f, "at least {least}"),
            (least, Some(most)) => write!(f, "{least} to {most}"),
        }
    }
}

/// A moment of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// What happens then.
    pub event: Event,
    /// How long after that.
    pub plus: Time,
}

/// What marks a moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// The named fault is in effect.
    FaultBegins(String),
    /// The named fault is undone.
    FaultEnds(String),
    /// The phase begins.
    Phase(String),
}

/// Checks the statements of a file. `faults` are the names of all faults.
pub fn check(
    scope: &Scope,
    faults: &[String],
    statements: Vec<Spanned<file::Statement>>,
) -> Result<Vec<Statement>, Fault> {
    let numbered = statements.into_iter().enumerate();
    numbered.map(|(index, statement)| check_one(scope, faults, index + 1, statement)).collect()
}

fn check_one(
    scope: &Scope,
    faults: &[String],
    number: usize,
    statement: Spanned<file::Statement>,
) -> Result<Statement, Fault> {
    let span = statement.span();
    let file::Statement { name, says, partition, after, until, within, at_least, at_most } =
        statement.into_inner();
    if let Some(partition) = &partition {
        scope.partition(*partition.get_ref(), partition.span())?;
    }
    let soon = |within: Option<Spanned<Time>>| {
        within.map(Spanned::into_inner).ok_or_else(|| {
            Fault::new(span.clone(), "within what time?", "needs `within`").help("add `within = \"5s\"`")
        })
    };
    let stray = |key: &str, place: std::ops::Range<usize>| {
        let title = format!("`{key}` does not go with `says = \"{}\"`", says.get_ref().text());
        Err(Fault::new(place, title, "has no meaning here").help("remove it"))
    };
    let word = *says.get_ref();
    if let Some(within) = &within
        && !matches!(word, file::Says::OtherLeader | file::Says::Progress | file::Says::Writes)
    {
        return stray("within", within.span());
    }
    if let Some(until) = &until
        && !matches!(word, file::Says::Silence | file::Says::FastReads | file::Says::LeaderChanges)
    {
        return stray("until", until.span());
    }
    let counts = matches!(word, file::Says::LeaderChanges | file::Says::FailedElections);
    for (key, value) in [("at_least", &at_least), ("at_most", &at_most)] {
        if let Some(value) = value.as_ref().filter(|_| !counts) {
            return stray(key, value.span());
        }
    }
    if let Some(after) = after.as_ref().filter(|_| word == file::Says::FailedElections) {
        return stray("after", after.span());
    }
    let moment =
        |moment: Option<Spanned<file::Moment>>| moment.map(|of| check_moment(faults, &of)).transpose();
    let mut after = moment(after)?;
    let says = match word {
        file::Says::Silence => Says::Silence,
        file::Says::FastReads => Says::FastReads,
        file::Says::OtherLeader => {
            if after.is_none() {
                return Err(Fault::new(span, "another leader than when?", "needs `after`")
                    .help("add `after = { fault = \"name\" }`"));
            }
            Says::OtherLeader { within: soon(within)? }
        }
        file::Says::LeaderChanges => Says::LeaderChanges(often(at_least, at_most, span)?),
        file::Says::FailedElections => Says::FailedElections(often(at_least, at_most, span)?),
        file::Says::Progress | file::Says::Writes => {
            let healed = Moment { event: Event::Phase("heal".to_owned()), plus: Time::default() };
            after.get_or_insert(healed);
            let within = soon(within)?;
            if word == file::Says::Writes { Says::Writes { within } } else { Says::Progress { within } }
        }
    };
    Ok(Statement {
        name: name.unwrap_or_else(|| format!("{} ({number})", word.text())),
        partition: partition.map(Spanned::into_inner),
        says,
        after,
        until: moment(until)?,
    })
}

fn often(
    at_least: Option<Spanned<u64>>,
    at_most: Option<Spanned<u64>>,
    span: std::ops::Range<usize>,
) -> Result<Often, Fault> {
    if at_least.is_none() && at_most.is_none() {
        return Err(
            Fault::new(span, "how often?", "needs `at_least` or `at_most`").help("add `at_least = 1`")
        );
    }
    let least = at_least.map_or(0, Spanned::into_inner);
    if let Some(most) = at_most.as_ref().filter(|most| *most.get_ref() < least) {
        return Err(Fault::new(most.span(), "less than at least", format!("`at_least` is {least}"))
            .help(format!("write {least} or more")));
    }
    Ok(Often { at_least: least, at_most: at_most.map(Spanned::into_inner) })
}

fn check_moment(faults: &[String], moment: &Spanned<file::Moment>) -> Result<Moment, Fault> {
    let file::Moment { fault, ends, phase, plus } = moment.get_ref();
    let event = match (fault, ends, phase) {
        (Some(name), ends, None) => {
            if !faults.contains(name.get_ref()) {
                let title = format!("no fault is called `{}`", name.get_ref());
                let help = suggestion(name.get_ref(), faults, "names of faults");
                return Err(Fault::new(name.span(), title, "named here").help(help));
            }
            let name = name.get_ref().clone();
            if *ends { Event::FaultEnds(name) } else { Event::FaultBegins(name) }
        }
        (None, false, Some(phase)) => {
            if !Phases::NAMES.contains(&phase.get_ref().as_str()) {
                let title = format!("there is no phase `{}`", phase.get_ref());
                let help = suggestion(phase.get_ref(), Phases::NAMES, "phases");
                return Err(Fault::new(phase.span(), title, "named here").help(help));
            }
            Event::Phase(phase.get_ref().clone())
        }
        _ => {
            return Err(Fault::new(moment.span(), "when?", "neither a fault nor a phase, or both").help(
                "write `{ fault = \"name\" }`, `{ fault = \"name\", ends = true }` or `{ phase = \"heal\" }`; `plus` may go \
                 with each",
            ));
        }
    };
    Ok(Moment { event, plus: *plus })
}
