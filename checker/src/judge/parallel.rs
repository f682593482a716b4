//! A bounded pool of threads for independent pieces of work.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Does `work` to each piece and gives the results in the order of the pieces. The largest are begun first, so that no thread
/// is left alone with one at the end. `work` is told the number of threads, which share what memory there is.
pub(crate) fn in_parallel<T: Sync, R: Send>(
    pieces: &[T],
    threads: Option<usize>,
    size: impl Fn(&T) -> usize,
    work: impl Fn(&T, usize) -> R + Sync,
) -> Vec<R> {
    let threads = threads.unwrap_or_else(|| thread::available_parallelism().map_or(1, NonZero::get));
    let threads = threads.clamp(1, pieces.len().max(1));
    if threads == 1 {
        return pieces.iter().map(|piece| work(piece, 1)).collect();
    }
    let mut order: Vec<usize> = (0..pieces.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(size(&pieces[index])));
    let next = AtomicUsize::new(0);
    let busy = || {
        let mut done = Vec::new();
        while let Some(&index) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            done.push((index, work(&pieces[index], threads)));
        }
        done
    };
    let mut results: Vec<(usize, R)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(busy)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker does not panic")).collect()
    });
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}
