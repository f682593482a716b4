//! Small random histories of any model, and trying every order of them.

#![allow(dead_code, reason = "not every test draws")]

use rustc_hash::FxHashMap;

use checker::general::{Model, Recorded};
use stateright::semantics::SequentialSpec;

use super::Random;

pub type History<M> = Vec<Recorded<<M as SequentialSpec>::Op, <M as SequentialSpec>::Ret>>;

/// One operation in progress: where it is in the history, and the answer once it took effect.
struct Open<R> {
    place: usize,
    answer: Option<R>,
}

/// Processes that run at random against an object; answers get lost, and now and then one is that of another moment. In every
/// other history several things happen at one moment, which does not order them.
pub fn history<M: Model>(random: &mut Random, model: &M, ask: &impl Fn(&mut Random) -> M::Op) -> History<M> {
    let processes = 1 + random.below(5) as usize;
    let (unknown, lies, crowded) = (random.below(4), random.below(3), random.below(2) == 0);
    // what shares its moments overlaps more, and to try every order of it takes for ever
    let operations = 2 + random.below(if crowded { 9 } else { 15 }) as usize;
    let mut open: Vec<Option<Open<M::Ret>>> = (0..processes).map(|_| None).collect();
    let mut history: History<M> = Vec::new();
    let (mut object, mut earlier) = (model.clone(), model.clone());
    let (mut moment, mut lost) = (0, 0);
    while history.len() < operations || open.iter().any(Option::is_some) {
        let slot = &mut open[random.below(processes as u64) as usize];
        moment += usize::from(!crowded || random.below(3) > 0);
        *slot = match slot.take() {
            None if history.len() < operations => {
                history.push(Recorded::unknown(ask(random), moment));
                Some(Open { place: history.len() - 1, answer: None })
            }
            None => None,
            // its outcome stays unknown, whether it took effect or not
            Some(_) if lost < 4 && random.below(20) < unknown => {
                lost += 1;
                None
            }
            Some(Open { place, answer: None }) => {
                if random.below(3) == 0 {
                    earlier = object.clone();
                }
                Some(Open { place, answer: Some(object.invoke(&history[place].op)) })
            }
            Some(Open { place, answer: Some(answer) }) => {
                let mut past = if random.below(2) == 0 { earlier.clone() } else { model.clone() };
                let stale = past.invoke(&history[place].op);
                let answer = if random.below(8) < lies { stale } else { answer };
                history[place].returned = Some((moment, answer));
                None
            }
        };
    }
    history
}

/// What comes of trying every order.
#[derive(Clone, Copy)]
pub struct Orders {
    /// One of them explains the history.
    pub any: bool,
    /// How many beginnings of orders there are: what it costs whoever does not remember what was tried.
    pub tried: u64,
}

/// With more beginnings of orders than this, whoever does not remember what was tried is not asked.
pub const MANY: u64 = 20_000;

/// Trying every order, or at least many if one was found; what is left after the same operations and in the same state is tried once.
pub fn orders<M: Model>(history: &History<M>, object: &M) -> Orders {
    after(history, 0, object, &mut FxHashMap::default())
}

/// Orders of what is left after those that are `placed`, a set of places.
fn after<M: Model>(
    history: &History<M>,
    placed: u32,
    object: &M,
    known: &mut FxHashMap<(u32, M), Orders>,
) -> Orders {
    let left = || (0..history.len()).filter(|place| placed & (1 << place) == 0);
    let Some(end) = left().filter_map(|place| history[place].returned.as_ref().map(|(ret, _)| *ret)).min()
    else {
        return Orders { any: true, tried: 1 };
    };
    let key = (placed, object.clone());
    if let Some(orders) = known.get(&key) {
        return *orders;
    }
    let mut orders = Orders { any: false, tried: 1 };
    for place in left().filter(|&place| history[place].called <= end) {
        if orders.any && orders.tried > MANY {
            break;
        }
        let mut next = object.clone();
        let fits = if let Some((_, answer)) = &history[place].returned {
            next.is_valid_step(&history[place].op, answer)
        } else {
            next.invoke(&history[place].op);
            next != *object
        };
        if fits {
            let Orders { any, tried } = after(history, placed | 1 << place, &next, known);
            orders = Orders { any: orders.any || any, tried: orders.tried.saturating_add(tried) };
        }
    }
    known.insert(key, orders);
    orders
}
