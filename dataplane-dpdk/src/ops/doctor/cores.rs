//! Cores: enough of them, left alone by everybody else, at their full speed.
//!
//! **Invariant:** a core that polls is judged by what the kernel does to it, not by what runs on it now.

use std::collections::BTreeSet;

use ferrogate_core::config::dataplane::Dataplane;

use super::Findings;
use super::host::Host;
use crate::preflight::parse_cpus;

pub(super) fn look(host: &Host, dataplane: &Dataplane, found: &mut Findings) {
    let allowed = cpus(host.field("proc/self/status", "Cpus_allowed_list:"));
    let workers = dataplane.workers.unwrap_or(1).max(1);
    if allowed.len() > workers {
        found.good("cores", format!("{} for {workers} workers and the control plane", allowed.len()));
    } else if cpus(host.text("sys/devices/system/cpu/isolated")).is_subset(&allowed) {
        let says = format!(
            "{workers} workers poll, and this process may use {} cores: nothing is left for the control plane",
            allowed.len()
        );
        let remedy = format!("dataplane.workers: {}", allowed.len().saturating_sub(1).max(1));
        found.warning("cores", says, remedy);
    }
    isolation(host, &allowed, workers, found);
    governor(host, &allowed, found);
    clock(host, found);
}

fn isolation(host: &Host, allowed: &BTreeSet<usize>, workers: usize, found: &mut Findings) {
    let Some(list) = host.text("sys/devices/system/cpu/isolated") else { return };
    let isolated = cpus(Some(list));
    if isolated.intersection(allowed).count() >= workers {
        return found.good("isolation", format!("cores {} are the scheduler's no longer", joined(&isolated)));
    }
    let all = |more: &BTreeSet<usize>| {
        let all = joined(&allowed.union(more).copied().collect());
        format!("CPUAffinity={all} in the unit, or taskset -c {all}")
    };
    if isolated.len() >= workers {
        // A process starts with the others' cores only.
        let says =
            format!("cores {} are kept free for those who ask for them, and this process does not", joined(&isolated));
        return found.warning("isolation", says, all(&isolated));
    }
    let last: BTreeSet<usize> = allowed.iter().rev().take(workers).copied().collect();
    let wish = joined(&last);
    found.hint(
        "isolation",
        "the scheduler may put others on the cores that poll: a poller that is interrupted is late by milliseconds",
        format!("isolcpus={wish} nohz_full={wish} rcu_nocbs={wish} on the kernel's command line; then {}", all(&last)),
    );
}

fn governor(host: &Host, allowed: &BTreeSet<usize>, found: &mut Findings) {
    let of = |cpu: &usize| host.text(&format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"));
    let slow: BTreeSet<usize> =
        allowed.iter().filter(|cpu| of(cpu).is_some_and(|name| name != "performance")).copied().collect();
    if let Some(name) = slow.first().and_then(of) {
        let says = format!("cores {} run by the governor {name}: their speed follows the load", joined(&slow));
        found.warning("frequency", says, "cpupower frequency-set -g performance");
    }
}

fn clock(host: &Host, found: &mut Findings) {
    let name = host.text("sys/devices/system/clocksource/clocksource0/current_clocksource");
    match name.as_deref() {
        None | Some("tsc" | "kvm-clock" | "arch_sys_counter" | "hyperv_clocksource_tsc_page") => {}
        Some(name) => {
            let says = format!("the kernel's is {name}: each look at it is a system call, and a turn takes several");
            found.warning(
                "clock",
                says,
                "clocksource=tsc on the kernel's command line, where the processor's is steady",
            );
        }
    }
}

fn cpus(list: Option<String>) -> BTreeSet<usize> {
    parse_cpus(&list.unwrap_or_default()).into_iter().collect()
}

/// The numbers as the kernel lists them: `2-3,8`.
fn joined(cpus: &BTreeSet<usize>) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &cpu in cpus {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => ranges.push((cpu, cpu)),
        }
    }
    let text =
        |(first, last): (usize, usize)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    ranges.into_iter().map(text).collect::<Vec<_>>().join(",")
}
