//! What the system knows of a process: CPU time, memory, children; and how busy a core was.
//!
//! **Invariant:** only reads below /proc; what is gone counts as nothing.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The process and all that it started, itself first.
#[must_use]
pub fn family(id: u32) -> Vec<u32> {
    let mut found = vec![id];
    let mut at = 0;
    while at < found.len() {
        for task in tasks(found[at]) {
            let children = fs::read_to_string(format!("{task}/children")).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|c| c.parse::<u32>().ok()));
        }
        at += 1;
    }
    found
}

/// CPU time of these processes in nanoseconds, user and system, all threads that live.
#[must_use]
pub fn cpu_ns(processes: &[u32]) -> u64 {
    let of_task = |task: String| {
        let text = fs::read_to_string(format!("{task}/schedstat")).unwrap_or_default();
        text.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0)
    };
    processes.iter().flat_map(|p| tasks(*p)).map(of_task).sum()
}

/// Time since the start in which a core was idle, in nanoseconds, in steps of 10 ms.
#[must_use]
pub fn core_idle_ns(core: usize) -> u64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    idle_of(&text, core).unwrap_or(0)
}

/// Resident and proportional memory of these processes, in bytes.
#[must_use]
pub fn memory(processes: &[u32]) -> (u64, u64) {
    let (mut rss, mut pss) = (0, 0);
    for process in processes {
        let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap_or_default();
        rss += kib(&text, "Rss:") * 1024;
        pss += kib(&text, "Pss:") * 1024;
    }
    (rss, pss)
}

/// Time in turns that moved something, over all workers: from the admin API of a polling Ferrogate.
#[must_use]
pub fn busy_ns(admin: SocketAddr) -> Option<u64> {
    let page = get(admin, "/metrics")?;
    let samples: Vec<f64> = page
        .lines()
        .filter(|l| l.starts_with("ferrogate_dpdk_lcore_busy_nanoseconds"))
        .filter_map(|l| l.rsplit(' ').next().and_then(|n| n.parse().ok()))
        .collect();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a counter of nanoseconds, exact for 104 days"
    )]
    (!samples.is_empty()).then(|| samples.iter().sum::<f64>() as u64)
}

/// The body that `GET path` is answered with.
#[must_use]
pub fn get(server: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
}

fn tasks(process: u32) -> Vec<String> {
    let Ok(entries) = fs::read_dir(format!("/proc/{process}/task")) else { return Vec::new() };
    entries.flatten().map(|e| e.path().to_string_lossy().into_owned()).collect()
}

/// Idle and waiting for a disk, the fourth and fifth number of a core's line, in hundredths of a second.
fn idle_of(stat: &str, core: usize) -> Option<u64> {
    let name = format!("cpu{core} ");
    let line = stat.lines().find_map(|l| l.strip_prefix(&name))?;
    let numbers: Vec<u64> = line.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    Some((numbers.get(3)? + numbers.get(4)?) * 10_000_000)
}

fn kib(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|l| l.strip_prefix(name));
    line.and_then(|l| l.split_whitespace().next()).and_then(|n| n.parse().ok()).unwrap_or(0)
}

const PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_use_is_seen() {
        let family = family(std::process::id());
        let before = cpu_ns(&family);
        let mut sum = 0_u64;
        while cpu_ns(&family) < before + 10_000_000 {
            sum = sum.wrapping_add((0..10_000).sum::<u64>());
        }
        assert!(sum > 0);
        let (rss, pss) = memory(&family);
        assert!(rss > 100_000 && pss > 10_000 && pss <= rss, "{rss} {pss}");
        assert!(core_idle_ns(0) > 0);
    }

    #[test]
    fn a_core_of_a_full_stat_file_is_found() {
        let text = "cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 2 3 40 5 6\ncpu1 1 2 3 70 1 6\ncpu10 0 0 0 9 9 9\nintr 1\n";
        assert_eq!(idle_of(text, 0), Some(450_000_000));
        assert_eq!(idle_of(text, 1), Some(710_000_000));
        assert_eq!(idle_of(text, 2), None);
    }
}
