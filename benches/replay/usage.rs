//! What processes have used, as the kernel counts it.

use std::fs;
use std::time::Duration;

use crate::Outcome;

/// The kernel tells times in hundredths of a second (USER_HZ), on every machine that Rust knows.
const TICK: Duration = Duration::from_millis(10);

/// The times in a process's line of statistics.
struct Times {
    parent: u32,
    own: u32,
    ended_children: u32,
}

/// The CPU that a process has used so far, user and system together.
pub(crate) fn cpu(process: u32) -> Outcome<Duration> {
    Ok(TICK * times(process)?.own)
}

/// The CPU that a server has used so far with its children, those that have ended too.
pub(crate) fn cpu_of_family(server: u32) -> Outcome<Duration> {
    let root = times(server)?;
    let mut ticks = root.own + root.ended_children;
    for entry in fs::read_dir("/proc")?.flatten() {
        let Ok(process) = entry.file_name().to_string_lossy().parse() else { continue };
        // A process may end between the listing and the look.
        if let Ok(child) = times(process)
            && child.parent == server
        {
            ticks += child.own + child.ended_children;
        }
    }
    Ok(TICK * ticks)
}

/// The most memory that a process ever had, in MB.
pub(crate) fn peak_memory_mb(process: u32) -> Outcome<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    let kilobytes: f64 = kilobytes.ok_or("the kernel tells no VmHWM")?.parse()?;
    Ok(kilobytes * 1024.0 / 1_000_000.0)
}

fn times(process: u32) -> Outcome<Times> {
    let line = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name stands in brackets and may hold anything; what follows it begins with the third field.
    let (_, rest) = line.rsplit_once(") ").ok_or("a line of statistics without a name")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |field: usize| -> Outcome<u32> {
        Ok(fields.get(field - 3).ok_or("a short line of statistics")?.parse()?)
    };
    Ok(Times {
        parent: number(4)?,
        own: number(14)? + number(15)?,
        ended_children: number(16)? + number(17)?,
    })
}
