//! The processes that a command has started, wherever they have gone.
//!
//! A process can leave the process group of the command, and its parent can end. But the guardian is a *subreaper*: it
//! adopts each process below it whose parent ends. So every process that the command has started descends from the
//! guardian, until the guardian ends. Only Linux has subreapers, and `/proc` with the parents of all processes;
//! elsewhere, the process group is all that can be found.

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, getpgrp, getpid, kill_process, kill_process_group, test_kill_process_group,
};
use std::collections::{HashMap, HashSet};
use std::io;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// How many lists without a member show that there is none. A list is not made in one moment, so a process can be
/// missing in one of them.
const EMPTY_ROUNDS: usize = 2;

/// The processes that a signal is for.
pub(crate) struct Family {
    /// The process from which all others descend; it is not a member itself.
    pub(crate) root: Pid,
    /// `None` if it is not known whether it runs.
    pub(crate) command: Option<Pid>,
    /// Whether the command leads a process group of its own.
    pub(crate) own_group: bool,
    /// Whether the job of this process belongs to it: the other members of its process group, except the ancestors of
    /// this process, which only wait for its end.
    pub(crate) with_job: bool,
}

impl Family {
    /// Sends a signal to all members, once to each.
    ///
    /// # Errors
    /// If we have no permission for one of them, as for a command of another user under `sudo`.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        let Some(all) = Processes::read() else {
            return match self.own_group {
                true => self.signal_group(signal),
                false => self.signal_command(signal),
            };
        };
        let members = self.members(&all);
        signal_each(&all, &members, |_| true, signal)
    }

    /// Sends a signal to the command alone.
    pub(crate) fn signal_command(&self, signal: Signal) -> io::Result<()> {
        sent(self.command.map_or(Ok(()), |pid| kill_process(pid, signal)))
    }

    /// Sends a signal to the process group that the command leads.
    pub(crate) fn signal_group(&self, signal: Signal) -> io::Result<()> {
        sent(
            self.command
                .map_or(Ok(()), |pid| kill_process_group(pid, signal)),
        )
    }

    /// Sends SIGKILL to all members, and to those that they start meanwhile. Returns when every member has it: a
    /// process with a pending SIGKILL starts no other.
    ///
    /// # Errors
    /// As for [`signal`](Family::signal).
    pub(crate) fn kill(&self) -> io::Result<()> {
        /// Each round kills a generation of a family that only forks and ends. No family is that fast for that long.
        const MAX_ROUNDS: usize = 10_000;
        let mut killed = HashSet::new();
        let mut empty = 0;
        let mut result = Ok(());
        for _ in 0..MAX_ROUNDS {
            let Some(all) = Processes::read() else {
                return self.signal(Signal::KILL);
            };
            let members = self.members(&all);
            let new = |pid: Pid| !killed.contains(&(pid, all.0[&pid].start));
            if !members.iter().any(|pid| new(*pid)) {
                empty += 1;
                if empty == EMPTY_ROUNDS {
                    break;
                }
                continue;
            }
            empty = 0;
            result = result.and(signal_each(&all, &members, new, Signal::KILL));
            killed.extend(members.iter().map(|pid| (*pid, all.0[pid].start)));
        }
        result
    }

    /// Waits until no member runs, but not for long: a process that waits for a broken disk takes its SIGKILL late.
    pub(crate) async fn gone(&self) {
        const INTERVAL: Duration = Duration::from_millis(2);
        const LONGEST: Duration = Duration::from_secs(1);
        let start = Instant::now();
        while self.lives() && start.elapsed() < LONGEST {
            sleep(INTERVAL).await;
        }
    }

    /// Whether a member still runs.
    pub(crate) fn lives(&self) -> bool {
        // A list that was not made in one moment can miss a process that was adopted meanwhile.
        (0..EMPTY_ROUNDS).any(|_| self.is_listed())
    }

    fn is_listed(&self) -> bool {
        match Processes::read() {
            Some(all) => !self.members(&all).is_empty(),
            // A permission error means that the process exists.
            None => {
                let lives = |pid| test_kill_process_group(pid) != Err(Errno::SRCH);
                self.own_group && self.command.is_some_and(lives)
            }
        }
    }

    fn members(&self, all: &Processes) -> HashSet<Pid> {
        let mut members = all.descendants(self.root);
        if self.with_job {
            let ancestors = all.ancestors(getpid());
            let job = all
                .0
                .iter()
                .filter(|(_, process)| process.group == getpgrp());
            members.extend(
                job.map(|(pid, _)| *pid)
                    .filter(|pid| *pid != self.root && !ancestors.contains(pid)),
            );
        }
        members.retain(|pid| !all.0[pid].ended);
        members
    }
}

/// Sends a signal to those members that satisfy the condition, and to the process groups that consist of members.
fn signal_each(
    all: &Processes,
    members: &HashSet<Pid>,
    condition: impl Fn(Pid) -> bool,
    signal: Signal,
) -> io::Result<()> {
    let mut result = Ok(());
    let mut groups = HashSet::new();
    for &pid in members.iter().filter(|pid| condition(**pid)) {
        let group = all.0[&pid].group;
        // A signal to a whole group reaches even a process that is only being forked. The group of a process that is
        // no member has others in it.
        let ours = group != getpgrp() && (members.contains(&group) || !all.0.contains_key(&group));
        if ours && groups.insert(group) {
            result = result.and(sent(kill_process_group(group, signal)));
        }
        // The process may have left its group since it was listed. Only SIGKILL may be sent twice.
        if !ours || signal == Signal::KILL {
            result = result.and(sent(kill_process(pid, signal)));
        }
    }
    result
}

/// The receiver may just have ended, which is not an error.
fn sent(result: Result<(), Errno>) -> io::Result<()> {
    match result {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// All processes of the system.
struct Processes(HashMap<Pid, Process>);

struct Process {
    parent: Option<Pid>,
    group: Pid,
    /// A later process with the same id has another start.
    start: u64,
    /// Whether only its exit status is left.
    ended: bool,
}

impl Processes {
    /// `None` where the system does not list them in `/proc`.
    fn read() -> Option<Processes> {
        let mut all = HashMap::new();
        for entry in std::fs::read_dir("/proc").ok()?.flatten() {
            let id = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            // A process can end at any moment.
            if let Some(pid) = id.and_then(Pid::from_raw)
                && let Ok(stat) = std::fs::read(entry.path().join("stat"))
                && let Some(process) = Process::parse(&stat)
            {
                all.insert(pid, process);
            }
        }
        all.contains_key(&getpid()).then_some(Processes(all))
    }

    fn descendants(&self, root: Pid) -> HashSet<Pid> {
        let mut children: HashMap<Pid, Vec<Pid>> = HashMap::new();
        for (pid, process) in &self.0 {
            if let Some(parent) = process.parent {
                children.entry(parent).or_default().push(*pid);
            }
        }
        let mut found = HashSet::new();
        let mut left = vec![root];
        while let Some(parent) = left.pop() {
            // A list that was not made in one moment could have a circle.
            let new = children.remove(&parent).unwrap_or_default();
            left.extend(&new);
            found.extend(new);
        }
        found
    }

    /// A process and all above it.
    fn ancestors(&self, pid: Pid) -> HashSet<Pid> {
        let mut found = HashSet::new();
        let mut next = Some(pid);
        while let Some(pid) = next.filter(|pid| found.insert(*pid)) {
            next = self.0.get(&pid).and_then(|process| process.parent);
        }
        found
    }
}

impl Process {
    /// Reads `/proc/PID/stat`. The name of the program, in parentheses, can have any bytes.
    fn parse(stat: &[u8]) -> Option<Process> {
        let end = stat.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        Some(Process {
            parent: Pid::from_raw(fields.get(1)?.parse().ok()?),
            group: Pid::from_raw(fields.get(2)?.parse().ok()?)?,
            start: fields.get(19)?.parse().ok()?,
            ended: ["Z", "X"].contains(fields.first()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_parentheses_and_spaces_is_no_field() {
        let stat = b"17 (a) R 1 (\xff) S 5 16 3 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0\n";
        let process = Process::parse(stat).expect("a process");
        let pid = |id| Pid::from_raw(id).expect("a process");
        assert_eq!(
            (process.parent, process.group, process.start, process.ended),
            (Some(pid(5)), pid(16), 4711, false)
        );
        assert!(Process::parse(b"17 (a) Z 5").is_none());
    }

    #[test]
    fn sigkill_reaches_a_process_that_left_its_group_after_it_was_listed() {
        use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
        let start = || {
            let mut command = std::process::Command::new("sleep");
            let command = command.arg("600").process_group(0);
            command.spawn().expect("starts")
        };
        let mut children = [start(), start()];
        let pids = [0, 1].map(|index: usize| Pid::from_child(&children[index]));
        // The list has the second one still in the group of the first one.
        let listed = |pid| {
            let process = Process {
                parent: Some(getpid()),
                group: pids[0],
                start: 0,
                ended: false,
            };
            (pid, process)
        };
        let all = Processes(pids.map(listed).into());
        let sent = signal_each(&all, &pids.into(), |_| true, Signal::KILL);
        assert!(sent.is_ok());
        // Ends the second one if SIGKILL has missed it; otherwise it comes too late.
        let _ = kill_process(pids[1], Signal::TERM);
        for child in &mut children {
            assert_eq!(child.wait().expect("a child").signal(), Some(9));
        }
    }

    #[test]
    fn descendants_and_ancestors_end_even_in_a_circle() {
        let pid = |id| Pid::from_raw(id).expect("a process");
        let process = |parent| Process {
            parent: Pid::from_raw(parent),
            group: pid(1),
            start: 0,
            ended: false,
        };
        let parents = [(2, 1), (3, 2), (4, 3), (5, 1), (6, 7), (7, 6)];
        let all = parents.map(|(id, parent)| (pid(id), process(parent)));
        let all = Processes(all.into());
        assert_eq!(all.descendants(pid(2)), [3, 4].map(pid).into());
        assert_eq!(all.descendants(pid(6)), [6, 7].map(pid).into());
        assert_eq!(all.ancestors(pid(4)), [1, 2, 3, 4].map(pid).into());
        assert_eq!(all.ancestors(pid(6)), [6, 7].map(pid).into());
    }
}
