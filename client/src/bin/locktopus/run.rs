//! `run`: a command under a lock.
//!
//! ```text
//! obtain ──► Running ──► ended: release ──► its status
//!    │          │ lost: SIGTERM … SIGKILL before the deadline
//!    └► signal: withdraw, 128+n;  conflict: -E;  no server: 69
//! ```

use crate::args;
use crate::child::{Running, status_of_signal};
use crate::http;
use crate::locks::{span, whose};
use crate::paths::show_set;
use crate::signals::Signals;
use crate::watch::Watch;
use crate::{USAGE, complain};
use indicatif::{ProgressBar, ProgressStyle};
use locktopus_client::protocol::path;
use locktopus_client::{Client, Error, Guard, Options, Pending, Resource};
use rustix::process::Signal;
use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// Exit status where the server cannot be reached or refuses: `EX_UNAVAILABLE` of sysexits.h.
const UNAVAILABLE: u8 = 69;

/// How long the confirmation of a release may take.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the wait looks who holds the lock.
const HOLDER_INTERVAL: Duration = Duration::from_secs(1);

/// Why there is no lock.
enum NoLock {
    /// Others hold it.
    Conflict(String),
    Failed(Error),
}

impl From<Error> for NoLock {
    fn from(error: Error) -> NoLock {
        NoLock::Failed(error)
    }
}

/// Runs the command, and gives our exit status.
pub(crate) async fn run(args: args::Run, command: Vec<OsString>) -> u8 {
    let plan = match Plan::new(&args, &command) {
        Ok(plan) => plan,
        Err(error) => {
            complain(&error.to_string());
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
    match plan.obtain_or_signal(&mut signals).await {
        Ok(Ok(guard)) => plan.under(guard, &command, &mut signals).await,
        Ok(Err(NoLock::Conflict(what))) => {
            if !args.quiet {
                complain(&what);
            }
            args.conflict_status
        }
        Ok(Err(NoLock::Failed(error))) => {
            complain(&error.to_string());
            match error {
                Error::Options(_) => USAGE,
                _ => UNAVAILABLE,
            }
        }
        Err(signal) => status_of_signal(signal.as_raw()),
    }
}

/// What is to be done, checked.
struct Plan {
    options: Options,
    resources: Vec<Resource>,
    timeout: Option<Duration>,
    try_: bool,
    quiet: bool,
    grace: Duration,
}

impl Plan {
    fn new(args: &args::Run, command: &[OsString]) -> Result<Plan, Error> {
        let Some(program) = command.first() else {
            return Err(Error::Options("no command; it comes after --".to_owned()));
        };
        let writes = args.write.iter().map(Resource::write);
        let reads = args.read.iter().map(Resource::read);
        let resources: Vec<Resource> = writes.chain(reads).collect();
        if resources.is_empty() {
            return Err(Error::Options(
                "no path; at least one of -w PATH and -r PATH is required".to_owned(),
            ));
        }
        if args.try_ && args.timeout.is_some() {
            return Err(Error::Options(
                "--try and --timeout exclude each other".to_owned(),
            ));
        }
        let mut options = args::server(
            args.url.as_deref(),
            args.namespace.as_deref(),
            args.token.as_deref(),
            args.ca_file.clone(),
        )?;
        let abandon_timeout = args.abandon_timeout.unwrap_or(options.abandon_timeout);
        if abandon_timeout < Duration::from_millis(100) {
            return Err(Error::Options(
                "the abandon timeout must be 100ms or more: a command needs time to stop"
                    .to_owned(),
            ));
        }
        let most = abandon_timeout / 2;
        let grace = args.grace.unwrap_or(most.min(Duration::from_secs(10)));
        if grace > most {
            return Err(Error::Options(format!(
                "the grace is {grace:?}; at most half of the abandon timeout is allowed, {most:?}"
            )));
        }
        options.abandon_timeout = abandon_timeout;
        // An end without a word is noticed after the limit and two intervals at the latest. That
        // and the grace are 11/12 of the abandon timeout at most.
        options.silence_limit = options.silence_limit.min(abandon_timeout / 4);
        options.ping_interval = options.ping_interval.min(abandon_timeout / 12);
        options.max_idle_connections = 1;
        options.client_name = args
            .name
            .clone()
            .or(options.client_name)
            .or_else(|| Some(name(program)));
        Ok(Plan {
            options,
            resources,
            timeout: args.timeout.filter(|time| !time.is_zero()),
            // No time at all is no time to ask, either; who says so means this.
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
            let mut obtaining = std::pin::pin!(self.obtain_in_time(&mut client));
            loop {
                tokio::select! {
                    obtained = &mut obtaining => break Ok(obtained),
                    signal = signals.next() => match signal {
                        // There is nobody yet whom they could tell something.
                        Signal::USR1 | Signal::USR2 => {}
                        signal => break Err(signal),
                    },
                }
            }
        };
        // A request that is given up is withdrawn before we go, or its end would be the server's
        // to find out.
        if !matches!(obtained, Ok(Ok(_)))
            && let Some(client) = client
        {
            let _ = timeout(RELEASE_TIMEOUT, client.close()).await;
        }
        obtained
    }

    async fn obtain_in_time(&self, client: &mut Option<Client>) -> Result<Guard, NoLock> {
        let Some(time) = self.timeout else {
            return self.obtain(client).await;
        };
        match timeout(time, self.obtain(client)).await {
            Ok(obtained) => obtained,
            // A server that does not answer is not somebody who holds the lock.
            Err(_) if client.is_none() => {
                let what = format!("no answer within {time:?}");
                Err(NoLock::Failed(Error::Connect(what)))
            }
            Err(_) => {
                let what = show_set(&self.resources);
                let what = format!("{what}: not granted within {time:?}");
                Err(NoLock::Conflict(what))
            }
        }
    }

    async fn obtain(&self, client: &mut Option<Client>) -> Result<Guard, NoLock> {
        let client = client.insert(Client::connect(self.options.clone()).await?);
        let pending = client.enqueue(self.resources.iter().cloned()).await?;
        if pending.is_acquired() {
            return Ok(pending.acquired().await?);
        }
        if self.try_ {
            let what = show_set(&self.resources);
            pending.withdraw().await?;
            return Err(NoLock::Conflict(format!("{what}: held by another")));
        }
        self.wait(pending).await
    }

    /// Waits, and shows for whom meanwhile.
    async fn wait(&self, pending: Pending) -> Result<Guard, NoLock> {
        let id = pending.id().to_owned();
        let mut acquired = std::pin::pin!(pending.acquired());
        if self.quiet {
            return Ok(acquired.await?);
        }
        let what = format!("waiting for {}", show_set(&self.resources));
        // It is hidden where standard error is no terminal.
        let spinner = ProgressBar::new_spinner().with_message(what.clone());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} [{elapsed}]") {
            spinner.set_style(style);
        }
        spinner.enable_steady_tick(Duration::from_millis(100));
        let show = async {
            loop {
                let holder = self.holder(&id).await;
                let held = holder.map_or(what.clone(), |holder| format!("{what}: {holder}"));
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
        Ok(guard?)
    }

    /// Who has what we wait for; nobody knows if the server has no such page.
    async fn holder(&self, id: &str) -> Option<String> {
        // Who is in the way of one path is near it; of several paths, nobody knows near which.
        let path = match &*self.resources {
            [one] => vec![("path", path::write(&one.path))],
            _ => vec![],
        };
        let text = http::locks_text(&self.options, &path).await.ok()?;
        let locks: http::Locks = http::decode(&text).ok()?;
        let find = |token: &str| locks.requests.iter().find(|request| request.token == token);
        let before = find(find(id)?.waits_for.as_deref()?)?;
        let does = if before.state == "acquired" {
            "held"
        } else {
            "wanted before us"
        };
        let whose = whose(before);
        Some(match before.since_ms {
            Some(since) => format!("{does} by {whose} for {}", span(since)),
            None => format!("{does} by {whose}"),
        })
    }

    /// Runs the command while we hold the lock.
    async fn under(&self, guard: Guard, command: &[OsString], signals: &mut Signals) -> u8 {
        let resources = serde_json::to_string(&self.resources).unwrap_or_default();
        let environment = [
            ("LOCKTOPUS_TOKEN", guard.id().to_owned()),
            ("LOCKTOPUS_RESOURCES", resources),
        ];
        // We may have been stopped between the grant and now.
        if guard.deadline() <= Instant::now() {
            complain("the lock was granted, but too long ago to be surely ours still; not run");
            return UNAVAILABLE;
        }
        let (status, lost) = match Running::start(command, &environment, signals) {
            Ok(running) => {
                let watch = Watch::new(running, &guard, self.grace);
                watch.outcome(signals).await
            }
            Err((status, what)) => {
                complain(&what);
                (status, false)
            }
        };
        if lost {
            return status;
        }
        match timeout(RELEASE_TIMEOUT, guard.release()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => complain(&format!("the lock was not released: {error}")),
            Err(_) => complain("the lock was not released: the server does not confirm it"),
        }
        status
    }
}

/// What `locktopus locks` shows for us: `backup.sh[1234]@host`.
fn name(program: &OsString) -> String {
    let name = Path::new(program)
        .file_name()
        .unwrap_or(program)
        .to_string_lossy();
    let system = rustix::system::uname();
    let host = system.nodename().to_string_lossy();
    format!("{name}[{}]@{host}", std::process::id())
}
