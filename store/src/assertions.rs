//! Tells an assertion of the core that fails from every other panic. The one shows that the protocol went wrong, and is found
//! like a violation of an invariant; any other shows that whatever runs the core has failed.
//!
//! Whoever runs the core calls it through [`core()`], has a panic hook that asks [`heed`], and asks for the [`last_words`] when
//! a call has unwound.

use std::{
    cell::{Cell, RefCell},
    panic::PanicHookInfo,
};

thread_local! {
    static IN_CORE: Cell<bool> = const { Cell::new(false) };
    static LAST_WORDS: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs a piece of the core: a panic in it is an assertion of the core.
pub fn core<T>(body: impl FnOnce() -> T) -> T {
    IN_CORE.set(true);
    let done = body();
    IN_CORE.set(false);
    done
}

/// For a panic hook: whether this panic is an assertion of the core. Its words are kept.
pub fn heed(panic: &PanicHookInfo<'_>) -> bool {
    let is_core = IN_CORE.replace(false);
    if is_core {
        LAST_WORDS.set(Some(panic.to_string().replacen(":\n", ": ", 1)));
    }
    is_core
}

/// The words of the core's assertion that has failed on this thread, once; none: it was another panic.
pub fn last_words() -> Option<String> {
    LAST_WORDS.take()
}
