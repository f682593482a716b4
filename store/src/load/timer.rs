//! A timer that is precise to some ten microseconds, where the runtime's is to a millisecond.

use std::{io, os::fd::OwnedFd};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::{Interest, unix::AsyncFd};

/// The timer.
#[derive(Debug)]
pub struct Timer {
    fd: AsyncFd<OwnedFd>,
    set: u64,
}

impl Timer {
    #[expect(
        deprecated,
        reason = "what replaces it is unsafe; an owned descriptor stays open while it is registered"
    )]
    pub fn new() -> io::Result<Self> {
        let fd = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        Ok(Self { fd: AsyncFd::with_interest(fd, Interest::READABLE)?, set: 0 })
    }

    /// Waits until the machine's clock reads `time`.
    pub async fn until(&mut self, time: u64) -> io::Result<()> {
        if self.set != time {
            let at =
                Timespec { tv_sec: (time / 1_000_000_000) as i64, tv_nsec: (time % 1_000_000_000) as i64 };
            let spec = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: at };
            timerfd_settime(self.fd.get_ref(), TimerfdTimerFlags::ABSTIME, &spec)?;
            self.set = time;
        }
        loop {
            let mut ready = self.fd.readable().await?;
            let mut count = [0; 8];
            match ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut count)?)) {
                Ok(read) => return read.map(drop),
                // it was set anew since
                Err(_would_block) => {}
            }
        }
    }
}
