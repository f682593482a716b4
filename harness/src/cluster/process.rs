//! One process of a node, from its start until it is reaped.

use std::{
    fs::{File, OpenOptions},
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group, pidfd_send_signal};
use store::{api::NodeId, node::control::Command};
use tokio::{
    io::AsyncWriteExt,
    process::ChildStdin,
    sync::{Mutex, watch},
    time::sleep,
};

use super::{
    ControlError, Says, StartError, Watch,
    minder::log_tail,
    spawner::{Spawned, Spawner},
};
use crate::{
    clock::boottime_ns,
    proxy::Network,
    targets::{Input, Launch, Pipes, Target},
};

/// How to start a process.
pub(super) struct Start {
    pub(super) node: NodeId,
    pub(super) launch: Launch,
    pub(super) log: PathBuf,
    pub(super) target: Arc<dyn Target>,
}

/// A process, running or ended.
pub(super) struct Process {
    node: NodeId,
    id: u32,
    handle: OwnedFd,
    log: PathBuf,
    /// Where it takes commands, if it does.
    commands: Option<Mutex<Commands>>,
    paused: AtomicBool,
    /// The harness has killed it, or has told it to die: its end by SIGKILL is no surprise.
    killed: AtomicBool,
    said: watch::Receiver<Said>,
}

/// Where a process takes commands.
struct Commands {
    pipe: ChildStdin,
    /// How many were sent.
    sent: u64,
}

/// What is known of a process from what it printed and from its end.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    /// Where it listens.
    pub(super) address: Option<String>,
    /// It serves clients.
    pub(super) open: bool,
    /// Commands that have taken effect.
    pub(super) done: u64,
    /// The assertion of the core that it gave up over.
    pub(super) gave_up: Option<String>,
    /// What it said that no node of its kind says.
    pub(super) broke: Option<String>,
    /// Its end.
    pub(super) exit: Option<Exit>,
}

/// The end of a process.
#[derive(Clone, Debug)]
pub(super) struct Exit {
    /// When it was reaped.
    pub(super) at: u64,
    /// How it ended, in words.
    pub(super) status: String,
}

impl Process {
    /// Starts it and a task that watches it until its end.
    pub(super) async fn start(
        start: Start,
        spawner: &Spawner,
        (watch, network): (Arc<Watch>, Arc<Network>),
    ) -> Result<Arc<Self>, StartError> {
        let Start { node, launch, log, target } = start;
        let log_file = appended(&log).map_err(|error| StartError::File { path: log.clone(), error })?;
        let (program, arguments) = launch
            .command
            .split_first()
            .map_or(("", &launch.command[..]), |(program, rest)| (program.as_str(), rest));
        let failed = |error| StartError::Spawn { node, program: program.to_owned(), error };
        let mut child = tokio::process::Command::new(program);
        child.args(arguments).envs(launch.environment.iter().map(|(name, value)| (name, value)));
        child.stdin(launch.input.pipe()).stdout(Stdio::piped()).stderr(log_file);
        let Spawned { mut child, handle } = spawner.spawn(child).await.map_err(failed)?;
        let (mut input, Some(output), Some(id)) = (child.stdin.take(), child.stdout.take(), child.id())
        else {
            return Err(failed(io::Error::other("the child has no pipes")));
        };
        let commands = input.take_if(|_| launch.input == Input::Commands);
        let commands = commands.map(|pipe| Mutex::new(Commands { pipe, sent: 0 }));
        let (says, said) = watch::channel(Said::default());
        let (paused, killed) = (AtomicBool::new(false), AtomicBool::new(launch.doomed));
        let process = Arc::new(Self { node, id, handle, log, commands, paused, killed, said });
        let minder = Says::new(Arc::clone(&process), says, watch, network);
        if let Some(listens) = launch.listens {
            minder.listens(listens);
        }
        tokio::spawn(minder.mind(child, Pipes { input, output }, target));
        Ok(process)
    }

    /// Its number.
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// Kills it, if it still runs.
    pub(super) fn kill(&self) {
        if self.exit().is_none() {
            self.killed.store(true, Ordering::Relaxed);
        }
        // an error says that it has ended
        let _ = self.send(Signal::KILL);
    }

    /// Kills it for what it did: nobody had planned that.
    pub(super) fn kill_as_found(&self) {
        // an error says that it has ended
        let _ = self.send(Signal::KILL);
    }

    /// Its end by SIGKILL is no surprise from now on.
    pub(super) fn expect_end(&self) {
        self.killed.store(true, Ordering::Relaxed);
    }

    /// Stops it and waits until the kernel says that all its threads are stopped: a thread in a system call that cannot be
    /// interrupted, such as a sync, runs on until that is over.
    pub(super) async fn pause(&self) -> Result<(), ControlError> {
        self.signal(Signal::STOP, "stop")?;
        self.paused.store(true, Ordering::Relaxed);
        self.until_stopped(true).await
    }

    /// Lets it go on and waits until the kernel says so.
    pub(super) async fn resume(&self) -> Result<(), ControlError> {
        self.signal(Signal::CONT, "resume")?;
        self.paused.store(false, Ordering::Relaxed);
        self.until_stopped(false).await
    }

    /// The kernel offers nobody but a tracer an event for this, so it is asked every millisecond.
    async fn until_stopped(&self, stopped: bool) -> Result<(), ControlError> {
        while all_threads_stopped(self.id).map_err(|error| self.failed("look at", error))? != stopped {
            if let Some(exit) = self.exit() {
                return Err(self.ended(exit));
            }
            sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// Which node it is.
    pub(super) fn node(&self) -> NodeId {
        self.node
    }

    /// True when the harness has killed it or has told it to die, whether it has died of that or before it.
    pub(super) fn was_killed(&self) -> bool {
        self.killed.load(Ordering::Relaxed)
    }

    /// True between a pause and its resumption.
    pub(super) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// Sends a command and waits until it has taken effect.
    pub(super) async fn command(&self, command: &Command) -> Result<(), ControlError> {
        let mut line = serde_json::to_vec(command).map_err(|error| self.failed("command", error.into()))?;
        line.push(b'\n');
        let commands = self
            .commands
            .as_ref()
            .ok_or_else(|| self.failed("command", io::Error::other("it takes no commands")))?;
        let number = {
            let mut input = commands.lock().await;
            // a pipe takes a line this short whole or not at all, so a cancelled write leaves nothing and counts for nothing
            input.pipe.write_all(&line).await.map_err(|error| self.failed("command", error))?;
            input.sent += 1;
            input.sent
        };
        self.until(|said| (said.done >= number).then_some(())).await.map_err(|exit| self.ended(exit))
    }

    /// Waits until it says where it listens.
    pub(super) async fn listening(&self) -> Result<SocketAddr, StartError> {
        let address = self.until(|said| said.address.clone()).await;
        let address = address.map_err(|exit| StartError::Exited {
            node: self.node,
            status: exit.status,
            log: self.log_tail(),
        })?;
        address.parse().map_err(|_| StartError::Address { node: self.node, address })
    }

    /// Waits until it serves clients.
    pub(super) async fn opened(&self) -> Result<(), ControlError> {
        self.until(|said| said.open.then_some(())).await.map_err(|exit| self.ended(exit))
    }

    /// Waits for its end.
    pub(super) async fn exited(&self) -> Exit {
        match self.until(|_| None::<Exit>).await {
            Ok(exit) | Err(exit) => exit,
        }
    }

    /// What it said that no node of its kind says, if it did.
    pub(super) fn broke(&self) -> Option<String> {
        self.said.borrow().broke.clone()
    }

    /// The assertion of the core that it gave up over, if it said so.
    pub(super) fn gave_up(&self) -> Option<String> {
        self.said.borrow().gave_up.clone()
    }

    /// Its end, if it has ended.
    pub(super) fn exit(&self) -> Option<Exit> {
        self.said.borrow().exit.clone()
    }

    /// Its log, at the end of which there is more to come.
    pub(super) fn log(&self) -> io::Result<File> {
        appended(&self.log)
    }

    /// The last lines of its log.
    pub(super) fn log_tail(&self) -> String {
        log_tail(&self.log)
    }

    /// Waits until `wanted` finds something in what it said, or for its end.
    async fn until<T>(&self, mut wanted: impl FnMut(&Said) -> Option<T>) -> Result<T, Exit> {
        let mut said = self.said.clone();
        let mut found = None;
        let last = said.wait_for(|said| {
            found = wanted(said);
            found.is_some() || said.exit.is_some()
        });
        let exit = last.await.map(|said| said.exit.clone());
        let unknown = || Exit { at: boottime_ns(), status: "was no longer watched".to_owned() };
        found.ok_or_else(|| exit.ok().flatten().unwrap_or_else(unknown))
    }

    fn signal(&self, signal: Signal, action: &'static str) -> Result<(), ControlError> {
        self.send(signal).map_err(|error| self.failed(action, error.into()))
    }

    /// To the process, and to its children, if it has some: it leads a group.
    fn send(&self, signal: Signal) -> rustix::io::Result<()> {
        pidfd_send_signal(&self.handle, signal)?;
        if let Some(group) = Pid::from_raw(self.id as i32) {
            // an error says that nobody is left
            let _ = kill_process_group(group, signal);
        }
        Ok(())
    }

    fn failed(&self, action: &'static str, error: io::Error) -> ControlError {
        match self.exit() {
            Some(exit) => self.ended(exit),
            None => ControlError::Io { node: self.node, action, error },
        }
    }

    fn ended(&self, exit: Exit) -> ControlError {
        ControlError::Exited { node: self.node, status: exit.status }
    }
}

/// A file at whose end something is written.
fn appended(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// True when every thread of process `id` is in state `T`. The leading thread alone does not tell: the kernel stops each one
/// when that next leaves the kernel.
fn all_threads_stopped(id: u32) -> io::Result<bool> {
    let threads = match std::fs::read_dir(format!("/proc/{id}/task")) {
        Ok(threads) => threads,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    for thread in threads {
        match std::fs::read_to_string(thread?.path().join("stat")) {
            // the name, in parentheses, may contain anything; the state follows the last one
            Ok(stat) if stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T')) => {}
            Ok(_) => return Ok(false),
            // a thread that ended meanwhile
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}
