//! The one thread that starts nodes, so that no node outlives the harness.
//!
//! A node exits when its standard input closes, but one that is stopped cannot: the kernel wakes it with a hang-up when its
//! parent dies, and it would run on for a moment, or for good where hang-ups are ignored. So each also asks the kernel for
//! SIGKILL at its parent's death. Parent means the thread that started it, not the process: hence one thread, which
//! lives as long as the cluster.

use std::{
    io,
    os::fd::OwnedFd,
    sync::mpsc::{Receiver, Sender, channel},
};

use rustix::process::{
    Pid, PidfdFlags, Signal, getpid, getppid, pidfd_open, set_parent_process_death_signal,
};
use tokio::{
    process::{Child, Command},
    runtime::Handle,
    sync::oneshot,
};

/// A child that was just started, and a handle of it that stays with this very process when its number is used again.
pub(super) struct Spawned {
    pub(super) child: Child,
    pub(super) handle: OwnedFd,
}

struct Request {
    command: Command,
    reply: oneshot::Sender<io::Result<Spawned>>,
}

/// Starts processes on its thread, which ends when this is dropped.
pub(super) struct Spawner(Sender<Request>);

impl Spawner {
    /// Starts the thread. Must be called in a tokio runtime, which will reap the children.
    pub(super) fn start() -> io::Result<Self> {
        let (requests, receiver) = channel();
        let runtime = Handle::current();
        std::thread::Builder::new().name("spawner".to_owned()).spawn(move || serve(&receiver, &runtime))?;
        Ok(Self(requests))
    }

    /// Starts `command`, which dies with the spawner.
    pub(super) async fn spawn(&self, command: Command) -> io::Result<Spawned> {
        let (reply, spawned) = oneshot::channel();
        let gone = || io::Error::other("the spawning thread is gone");
        self.0.send(Request { command, reply }).map_err(|_| gone())?;
        spawned.await.map_err(|_| gone())?
    }
}

fn serve(requests: &Receiver<Request>, runtime: &Handle) {
    let _entered = runtime.enter();
    while let Ok(Request { command, reply }) = requests.recv() {
        // a child that nobody waits for any more is killed by being dropped
        let _ = reply.send(spawn(command));
    }
}

fn spawn(mut command: Command) -> io::Result<Spawned> {
    die_with_parent(&mut command);
    // its own process group: Ctrl-C in a terminal is for the harness, which has things to record first
    let mut child = command.process_group(0).kill_on_drop(true).spawn()?;
    let id = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    match id.map(|id| pidfd_open(id, PidfdFlags::empty())) {
        Some(Ok(handle)) => Ok(Spawned { child, handle }),
        Some(Err(error)) => {
            child.start_kill()?;
            Err(error.into())
        }
        None => Err(io::Error::other("the child was reaped before its start was complete")),
    }
}

#[expect(unsafe_code, reason = "the parent-death signal can only be set in the child, between fork and exec")]
fn die_with_parent(command: &mut Command) {
    let parent = getpid();
    let in_child = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // the parent may have died before the signal was set
        if getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    };
    // SAFETY: after a fork of a threaded process only async-signal-safe work is allowed: the closure makes two system calls
    // and neither allocates nor locks.
    unsafe { command.pre_exec(in_child) };
}
