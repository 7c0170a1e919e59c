//! Processor time of a process and all it started, `proc(5)`.

use std::fs;
use std::time::Duration;

use nix::unistd::SysconfVar;
use nix::unistd::sysconf;

/// User and system time of the process, of its children, and of those that it waited for.
pub fn of_tree(root: u32) -> Duration {
    let ticks_per_s = sysconf(SysconfVar::CLK_TCK).ok().flatten().expect("Linux has a tick");
    let processes: Vec<(u32, u32, u64)> = fs::read_dir("/proc")
        .expect("/proc is mounted")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|id: u32| read(id))
        .collect();
    let mut tree = vec![root];
    let mut at = 0;
    while let Some(parent) = tree.get(at).copied() {
        tree.extend(processes.iter().filter(|(_, of, _)| *of == parent).map(|(id, _, _)| *id));
        at += 1;
    }
    let of_tree = processes.iter().filter(|(id, _, _)| tree.contains(id));
    let ticks: u64 = of_tree.map(|(_, _, ticks)| ticks).sum();
    Duration::from_secs_f64(ticks as f64 / ticks_per_s as f64)
}

/// Process, parent, ticks. A process that has just ended is nobody's.
fn read(id: u32) -> Option<(u32, u32, u64)> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name, field 2, may hold anything; it ends at the last parenthesis.
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = fields[11..15].iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    Some((id, fields[1].parse().ok()?, ticks))
}
