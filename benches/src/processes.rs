//! The processes of the machine, from /proc: see proc(5).

use std::{collections::HashMap, fs, time::Duration};

use anyhow::Context as _;

/// What /proc says of a process.
struct Process {
    number: u32,
    parent: u32,
    is_kernel: bool,
    /// Its processor time, user and system.
    used: Duration,
    /// That of its children that have ended.
    used_by_ended: Duration,
}

/// The processor time that a process and its children have used so far, user and system.
pub(crate) fn processor_time(root: u32) -> anyhow::Result<Duration> {
    family(root)?.iter().map(|number| Ok(read(*number)?.used)).sum()
}

/// The memory that a process and its children have in use now, in bytes. What they share counts
/// once.
pub(crate) fn resident_bytes(root: u32) -> anyhow::Result<u64> {
    let mut kibibytes = 0;
    for number in family(root)? {
        // `status` has similar values, but slightly out of date.
        let path = format!("/proc/{number}/smaps_rollup");
        let memory = fs::read_to_string(&path).with_context(|| format!("{path} cannot be read"))?;
        kibibytes += memory
            .lines()
            .find_map(|line| line.strip_prefix("Pss:"))
            .and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok())
            .context("smaps_rollup has no Pss")?;
    }
    Ok(1024 * kibibytes)
}

/// The processor time that all other processes have used so far: all but this one, those it has
/// started, and the kernel's own, which work for the measured server too; and what a virtual
/// machine's host has withheld. Not the rest of /proc/stat: whether the kernel counts its work for
/// a connection there, as the process's, or twice depends on how it was built.
pub(crate) fn used_by_others() -> anyhow::Result<Duration> {
    let all = all()?;
    let mine = descendants(std::process::id(), &all);
    let others = all.iter().filter(|process| !process.is_kernel && !mine.contains(&process.number));
    let used: Duration = others.map(|process| process.used + process.used_by_ended).sum();
    Ok(used + withheld()?)
}

/// The time in which a virtual machine's processors had work and could not run.
fn withheld() -> anyhow::Result<Duration> {
    let stat = fs::read_to_string("/proc/stat").context("/proc/stat cannot be read")?;
    let steal = stat.lines().next().and_then(|total| total.split_whitespace().nth(8));
    let ticks = steal.and_then(|steal| steal.parse().ok()).context("/proc/stat has no steal")?;
    Ok(of_ticks(ticks))
}

/// A tick is 10 ms on all common Linux systems.
fn of_ticks(ticks: u64) -> Duration {
    Duration::from_millis(10 * ticks)
}

/// A process and its children.
pub(crate) fn family(root: u32) -> anyhow::Result<Vec<u32>> {
    Ok(descendants(root, &all()?))
}

/// A process, its children, their children, and so on.
fn descendants(root: u32, all: &[Process]) -> Vec<u32> {
    let mut children = HashMap::<u32, Vec<u32>>::new();
    for process in all {
        children.entry(process.parent).or_default().push(process.number);
    }
    let mut found = vec![root];
    let mut next = 0;
    while let Some(parent) = found.get(next) {
        found.extend(children.remove(parent).unwrap_or_default());
        next += 1;
    }
    found
}

fn all() -> anyhow::Result<Vec<Process>> {
    let names = fs::read_dir("/proc")?.flatten().map(|entry| entry.file_name());
    let numbers = names.filter_map(|name| name.to_str()?.parse().ok());
    // Some have ended meanwhile.
    Ok(numbers.filter_map(|number| read(number).ok()).collect())
}

fn read(number: u32) -> anyhow::Result<Process> {
    const KERNEL_THREAD: u64 = 0x0020_0000;
    let path = format!("/proc/{number}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("{path} cannot be read"))?;
    // The name, in brackets, may have any characters. Of the fields after it, all but the first are
    // numbers.
    let (_, fields) = stat.rsplit_once(')').context("stat has no name")?;
    let fields: Vec<_> = fields.split_whitespace().collect();
    let field = |index: usize| -> anyhow::Result<u64> {
        fields.get(index).and_then(|field| field.parse().ok()).context("stat has no such number")
    };
    let time = |user, system| anyhow::Ok(of_ticks(field(user)? + field(system)?));
    Ok(Process {
        number,
        parent: u32::try_from(field(1)?)?,
        is_kernel: field(6)? & KERNEL_THREAD != 0,
        used: time(11, 12)?,
        used_by_ended: time(13, 14)?,
    })
}
