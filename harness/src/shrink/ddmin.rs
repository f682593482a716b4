//! Delta debugging: a list made as short as it goes by leaving out ever smaller pieces of it.

/// A list that is as short as leaving out one piece after another makes it: `fails` says whether what is kept still fails
/// (`None`: there is no time left to say), and the whole list is known to. Once every single item is needed, no more is tried (Zeller & Hildebrandt 2002, "Simplifying and
/// Isolating Failure-Inducing Input", section 3: 1-minimal, if `fails` says the same each time).
pub fn minimize<T: Clone>(mut items: Vec<T>, mut fails: impl FnMut(&[T]) -> Option<bool>) -> Vec<T> {
    if items.is_empty() || fails(&[]) == Some(true) {
        return Vec::new();
    }
    let mut piece = items.len().div_ceil(2);
    loop {
        let before = items.len();
        let mut start = 0;
        while start < items.len() {
            let end = (start + piece).min(items.len());
            let mut kept = items.clone();
            kept.drain(start..end);
            // the empty list was tried above
            let smaller = if kept.is_empty() { Some(false) } else { fails(&kept) };
            match smaller {
                Some(true) => items = kept,
                Some(false) => start = end,
                None => return items,
            }
        }
        if piece == 1 && items.len() == before {
            return items;
        }
        piece = piece.div_ceil(2).min(items.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_is_left_and_nothing_else() {
        for needed in [vec![], vec![0], vec![99], vec![3, 4], vec![0, 50, 99], (20..40).collect()] {
            let all: Vec<u32> = (0..100).collect();
            let mut tried = 0;
            let left = minimize(all, |kept| {
                tried += 1;
                Some(needed.iter().all(|item| kept.contains(item)))
            });
            assert_eq!(left, needed);
            assert!(tried < 400, "{tried} were tried for {needed:?}");
        }
    }

    #[test]
    fn one_of_two_is_enough() {
        let left =
            minimize(vec!['a', 'b', 'c', 'd'], |kept| Some(kept.contains(&'b') || kept.contains(&'d')));
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn when_the_time_is_up_nothing_more_is_tried() {
        let mut left = 3;
        let shortened = minimize((0..100).collect::<Vec<u32>>(), |kept| {
            assert!(left > 0, "it was said that there is no time left");
            left -= 1;
            (left > 0).then(|| kept.contains(&99))
        });
        assert_eq!(shortened, (50..100).collect::<Vec<u32>>());
    }

    #[test]
    fn a_list_of_nothing_stays() {
        let nothing: Vec<u8> = Vec::new();
        assert_eq!(minimize(nothing.clone(), |_| panic!("there is nothing to try")), nothing);
    }
}
