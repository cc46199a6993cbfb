//! `run`: a command under a lock.
//!
//! ```text
//! obtain ──► child runs ──► ended: release ──► its status
//!    │          │ lost: SIGTERM … SIGKILL before the deadline
//!    └► signal: withdraw, 128+n;  conflict: -E;  no server: 69
//! ```

mod child;
mod family;
mod guardian;
mod signals;
mod supervise;

pub(crate) use guardian::{GUARD, guard};

use crate::args;
use crate::output::{Failure, USAGE, complain, explain};
use crate::show;
use child::{Guardian, status_of_signal};
use guardian::Order;
use indicatif::{ProgressBar, ProgressStyle};
use locktopus_client::protocol::pages::RequestState;
use locktopus_client::{Client, Error, Filter, Guard, Options, Pending, Resource};
use rustix::process::Signal;
use signals::Signals;
use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};
use supervise::Supervisor;
use tokio::time::{sleep, timeout};

/// Exit status if the server cannot be reached or refuses: `EX_UNAVAILABLE` of sysexits.h.
const UNAVAILABLE: u8 = 69;

/// Exit status if the command cannot be run, as a shell gives it.
const CANNOT_RUN: u8 = 126;

/// How long the withdrawal of a request may take. It needs no answer: the server reads it even if this process has
/// ended.
const WITHDRAWAL_TIMEOUT: Duration = Duration::from_millis(200);

/// How long the confirmation of a release may take.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the holder of the lock is looked up during the wait.
const HOLDER_INTERVAL: Duration = Duration::from_secs(1);

/// How many listings are read to find the holder of one of several paths.
const MAX_LISTINGS: usize = 4;

/// Why the lock was not granted.
enum NoLock {
    /// Another client holds the lock, or requested it earlier.
    Conflict(String),
    Failed(Error),
}

impl From<Error> for NoLock {
    fn from(error: Error) -> NoLock {
        NoLock::Failed(error)
    }
}

/// Runs the command, and returns the exit status. The timeout counts from `started`.
pub(crate) async fn run(args: &args::Run, command: &[OsString], started: Instant) -> u8 {
    let plan = match Plan::new(args, command, started) {
        Ok(plan) => plan,
        Err(failure) => {
            failure.complain();
            return USAGE;
        }
    };
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            complain(&format!("cannot listen for signals: {error}"));
            return UNAVAILABLE;
        }
    };
    // Before the lock is requested, since the file of this program may be replaced during the wait.
    let guardian = match Guardian::start() {
        Ok(guardian) => guardian,
        Err(error) => {
            complain(&format!(
                "cannot start the guardian of the command: {error}"
            ));
            return CANNOT_RUN;
        }
    };
    match plan.obtain_or_signal(&mut signals).await {
        Ok(Ok(guard)) => plan.run_under(guard, guardian, command, &mut signals).await,
        Ok(Err(NoLock::Conflict(text))) => {
            if !args.quiet {
                complain(&text);
            }
            args.conflict_status
        }
        Ok(Err(NoLock::Failed(error))) => {
            complain(&explain(&error));
            match error {
                Error::Options(_) => USAGE,
                _ => UNAVAILABLE,
            }
        }
        Err(signal) => status_of_signal(signal.as_raw()),
    }
}

/// The checked arguments.
struct Plan {
    options: Options,
    resources: Vec<Resource>,
    timeout: Option<Duration>,
    /// When the timeout is over. It covers connecting, asking and waiting.
    deadline: Option<Instant>,
    try_: bool,
    quiet: bool,
    grace: Duration,
}

impl Plan {
    fn new(args: &args::Run, command: &[OsString], started: Instant) -> Result<Plan, Failure> {
        let usage = |text: &str| Err(Failure::Usage(text.to_owned()));
        let Some(program) = command.first() else {
            return usage("no command; it comes after --");
        };
        let writes = args.write.iter().map(Resource::write);
        let reads = args.read.iter().map(Resource::read);
        let resources: Vec<Resource> = writes.chain(reads).collect();
        if resources.is_empty() {
            return usage("no path; at least one of -w PATH and -r PATH is required");
        }
        if args.try_ && args.timeout.is_some() {
            return usage("--try and --timeout exclude each other");
        }
        let mut options = args.options()?;
        let abandon_timeout = args.abandon_timeout.unwrap_or(options.abandon_timeout);
        if abandon_timeout < Duration::from_millis(100) {
            return usage(
                "the abandon timeout must be 100ms or more: a command needs time to stop",
            );
        }
        let longest = abandon_timeout / 2;
        let grace = args.grace.unwrap_or(longest.min(Duration::from_secs(10)));
        if grace > longest {
            return usage(&format!(
                "the grace is {grace:?}; at most half of the abandon timeout is allowed, {longest:?}"
            ));
        }
        // The client notices a server that has stopped answering within 5/12 of the abandon timeout. Together with the
        // grace that is at most 11/12.
        options.abandon_timeout = abandon_timeout;
        options.max_idle_connections = 1;
        options.client_name = args
            .name
            .clone()
            .or(options.client_name)
            .or_else(|| Some(default_name(program)));
        let timeout = args.timeout.filter(|time| !time.is_zero());
        Ok(Plan {
            options,
            resources,
            timeout,
            deadline: timeout.map(|time| started + time),
            // A timeout of zero would expire before the server can answer, so it means --try.
            try_: args.try_ || args.timeout == Some(Duration::ZERO),
            quiet: args.quiet,
            grace,
        })
    }

    async fn obtain_or_signal(
        &self,
        signals: &mut Signals,
    ) -> Result<Result<Guard, NoLock>, Signal> {
        let mut client = None;
        let obtained = {
            let mut obtaining = std::pin::pin!(self.obtain(&mut client));
            loop {
                tokio::select! {
                    obtained = &mut obtaining => break Ok(obtained),
                    signal = signals.next() => match signal {
                        // No command runs yet that could receive them.
                        Signal::USR1 | Signal::USR2 => {}
                        signal => break Err(signal),
                    },
                }
            }
        };
        // The request is withdrawn before the process ends. Otherwise the server would have to notice the end.
        if !matches!(obtained, Ok(Ok(_)))
            && let Some(client) = client
        {
            let _ = timeout(WITHDRAWAL_TIMEOUT, client.close()).await;
        }
        obtained
    }

    async fn obtain(&self, client: &mut Option<Client>) -> Result<Guard, NoLock> {
        let client = client.insert(Client::new(self.options.clone())?);
        let resources = self.resources.iter().cloned();
        let pending = match self.deadline {
            Some(deadline) => client.enqueue_by(resources, deadline).await?,
            None => client.enqueue(resources).await?,
        };
        if pending.is_acquired() {
            return Ok(pending.acquired().await?);
        }
        let set = show::set(&self.resources);
        if self.try_ {
            pending.withdraw().await?;
            return Err(NoLock::Conflict(format!("{set}: held by another client")));
        }
        self.wait(client, pending)
            .await
            .map_err(|error| match error {
                Error::Timeout(_) => {
                    let time = self.timeout.unwrap_or_default();
                    NoLock::Conflict(format!("{set}: not granted within {time:?}"))
                }
                error => NoLock::Failed(error),
            })
    }

    /// Waits for the grant, and shows the holder meanwhile.
    async fn wait(&self, client: &Client, pending: Pending) -> Result<Guard, Error> {
        let id = pending.id().to_owned();
        let mut acquired = std::pin::pin!(async {
            match self.deadline {
                Some(deadline) => pending.acquired_by(deadline).await,
                None => pending.acquired().await,
            }
        });
        if self.quiet {
            return acquired.await;
        }
        let text = format!("waiting for {}", show::set(&self.resources));
        // The spinner is hidden if standard error is not a terminal.
        let spinner = ProgressBar::new_spinner().with_message(text.clone());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} [{elapsed}]") {
            spinner.set_style(style);
        }
        spinner.enable_steady_tick(Duration::from_millis(100));
        let show = async {
            loop {
                let holder = self.holder(client, &id).await;
                let held = holder.map_or(text.clone(), |holder| format!("{text}: {holder}"));
                if spinner.is_hidden() {
                    complain(&held);
                    return std::future::pending().await;
                }
                spinner.set_message(held);
                sleep(HOLDER_INTERVAL).await;
            }
        };
        let guard = tokio::select! {
            biased;
            guard = &mut acquired => guard,
            never = show => never,
        };
        spinner.finish_and_clear();
        guard
    }

    /// A description of the request for which ours waits. `None` if the server has no such page, or if the listing is
    /// cut.
    async fn holder(&self, client: &Client, id: &str) -> Option<String> {
        // The request in our way has a resource near one of our paths.
        for resource in self.resources.iter().take(MAX_LISTINGS) {
            let filter = Filter {
                path: Some(resource.path.clone()),
                ..Filter::default()
            };
            let locks = client.locks(&filter).await.ok()?;
            let find = |token: &str| locks.requests.iter().find(|request| request.token == token);
            let Some(holder) = find(id)
                .and_then(|ours| ours.waits_for.as_deref())
                .and_then(find)
            else {
                continue;
            };
            let does = match holder.state {
                RequestState::Acquired => "held",
                _ => "requested earlier",
            };
            let client = show::client(holder);
            return Some(match holder.since_ms {
                Some(since) => format!("{does} by {client} for {}", show::time(since)),
                None => format!("{does} by {client}"),
            });
        }
        None
    }

    /// Runs the command while the lock is held.
    async fn run_under(
        &self,
        guard: Guard,
        guardian: Guardian,
        command: &[OsString],
        signals: &mut Signals,
    ) -> u8 {
        // The process may have been stopped between the grant and now.
        if guard.deadline() <= Instant::now() {
            complain(
                "the lock was granted, but so long ago that it may be lost; the command was not run",
            );
            return UNAVAILABLE;
        }
        let order = Order {
            command: command.to_vec(),
            token: guard.id().to_owned(),
            resources: serde_json::to_string(&self.resources).unwrap_or_default(),
            own_group: guardian.own_group(),
            grace: self.grace,
        };
        let (status, lost) = match guardian.run(&order, signals).await {
            Ok(child) => {
                Supervisor::new(child, &guard, self.grace)
                    .outcome(signals)
                    .await
            }
            Err((status, text)) => {
                complain(&text);
                (status, false)
            }
        };
        if lost {
            return status;
        }
        match timeout(RELEASE_TIMEOUT, guard.release()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => complain(&format!("the lock was not released: {}", explain(&error))),
            Err(_) => complain("the lock was not released: the server does not confirm it"),
        }
        status
    }
}

/// The name that `locktopus locks` shows without --name: `backup.sh[1234]@host`.
fn default_name(program: &OsString) -> String {
    let name = Path::new(program)
        .file_name()
        .unwrap_or(program)
        .to_string_lossy();
    let system = rustix::system::uname();
    let host = system.nodename().to_string_lossy();
    format!("{name}[{}]@{host}", std::process::id())
}
