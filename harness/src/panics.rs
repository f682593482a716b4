//! What a panic that was caught said, and how it goes on.

use std::{any::Any, panic::resume_unwind};

use tokio::task::JoinError;

/// Its message.
pub(crate) fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("it panicked without words").to_owned()
}

/// Whoever waits for a task that panicked panics as well.
pub(crate) fn pass_on<T>(ended: Result<T, JoinError>) {
    if let Err(error) = ended
        && let Ok(panic) = error.try_into_panic()
    {
        resume_unwind(panic);
    }
}
