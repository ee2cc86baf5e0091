//! Changes of hosts and health, priorities, localities, subsets, panic, slow start, original destinations.

use std::sync::Arc;
use std::time::Duration;

use ferrogate_core::config::schema::{
    Balancing, Cluster as Config, Decimal, Fallback, Host, MetadataMatch, OriginalDst, Outlier, SlowStart, Source,
    Subsets, Target,
};
use ferrogate_core::upstream::{HostId, Hosts, NoHost, Outcome, Wish};

use crate::stage::{Stage, address, config, hosts, pick};

fn spread(stage: &Stage, picks: usize) -> Vec<usize> {
    let worker = stage.worker(0);
    let mut counts = vec![0; 20];
    for _ in 0..picks {
        counts[pick(&worker, &Wish::default()).unwrap()] += 1;
    }
    counts
}

/// Makes hosts fail until they are left out.
fn eject(stage: &Stage, numbers: impl IntoIterator<Item = usize>) {
    let worker = stage.worker(9);
    for number in numbers {
        while let Some(pool) = (0..1000)
            .find_map(|_| worker.pick(&Wish::default()).ok().filter(|p| Stage::number(p.host().address()) == number))
        {
            pool.report(Outcome::Reset);
        }
    }
}

fn ejecting(mut config: Config) -> Config {
    config.outlier = Some(Outlier { errors: Some(1), ejected_percent_max: 100, ..Outlier::default() });
    config
}

#[test]
fn hosts_come_and_go_under_a_worker() {
    let stage = Stage::new(config(Balancing::RoundRobin, &[1; 2]));
    let worker = stage.worker(0);
    let first = worker.pick(&Wish::default()).unwrap();
    stage.hosts.add(vec![Host::at(address(2))], 1);
    let seen: Vec<_> = (0..3).map(|_| pick(&worker, &Wish::default()).unwrap()).collect();
    assert_eq!(
        {
            let mut s = seen;
            s.sort_unstable();
            s
        },
        [0, 1, 2]
    );
    // A host that stays keeps its pool: nothing is opened anew.
    let number = Stage::number(first.host().address());
    let again = (0..3).map(|_| worker.pick(&Wish::default()).unwrap()).find(|p| p.id() == first.id()).unwrap();
    assert!(std::rc::Rc::ptr_eq(&first, &again) && Stage::number(again.host().address()) == number);
    stage.hosts.remove(&[Target::Address(address(0)), Target::Address(address(1))], 2);
    assert_eq!([pick(&worker, &Wish::default()), pick(&worker, &Wish::default())], [Ok(2), Ok(2)]);
    stage.hosts.put(Vec::new(), 3);
    assert_eq!(pick(&worker, &Wish::default()), Err(NoHost::Empty));
}

#[test]
fn names_take_the_place_of_their_addresses() {
    let name = Target::Name("a.test".into(), 80);
    let list = vec![Host::at(address(0)), Host { target: name.clone(), ..Host::at(address(0)) }];
    let stage = Stage::new(Config::new("c", list));
    let worker = stage.worker(0);
    assert_eq!(spread(&stage, 4)[0], 4);
    assert!(stage.hosts.resolve(&name, &[address(5), address(6), address(5)], 1));
    assert_eq!(spread(&stage, 300)[..7], [100, 0, 0, 0, 0, 100, 100]);
    let kept: Vec<HostId> = stage.hosts.current().members().iter().map(|m| m.host.id()).collect();
    // The same answer in another order is a change of order only; a host that stays is the same.
    assert!(!stage.hosts.resolve(&name, &[address(5), address(6)], 2));
    assert!(stage.hosts.resolve(&name, &[address(6)], 3));
    assert_eq!(stage.hosts.current().members()[1].host.id(), kept[2]);
    assert!(worker.pick(&Wish::default()).is_ok());
    // A generation that changes something else keeps what was looked up.
    let next = Config { panic_percent: 50, ..Config::clone(stage.hosts.config()) };
    let next = Hosts::new(Arc::new(next), Some((&stage.hosts, 4)));
    assert_eq!(next.current().members()[1].host.id(), kept[2]);
}

#[test]
fn who_is_left_out_gets_nothing_and_nobody_left_is_said() {
    let stage = Stage::new(ejecting(config(Balancing::RoundRobin, &[1; 4])));
    eject(&stage, [1]);
    let counts = spread(&stage, 300);
    assert_eq!(counts[..4], [100, 0, 100, 100]);
    assert_eq!(stage.hosts.current().healthy(), 3);
    eject(&stage, [0, 2, 3]);
    assert_eq!(pick(&stage.worker(0), &Wish::default()), Err(NoHost::Unhealthy));
}

#[test]
fn too_few_healthy_hosts_are_a_panic() {
    let stage = Stage::new(Config { panic_percent: 50, ..ejecting(config(Balancing::RoundRobin, &[1; 4])) });
    eject(&stage, [0, 1]);
    assert_eq!(spread(&stage, 100)[..4], [0, 0, 50, 50]);
    let worker = stage.worker(9);
    let last = worker.pick(&Wish::default()).unwrap();
    last.report(Outcome::Reset);
    assert_eq!(spread(&stage, 100)[..4], [25; 4]);
    assert!(stage.shared.counters().sum(|c| c.lb_panic.get()).unwrap() >= 100);
}

#[test]
fn priorities_fall_over_bit_by_bit() {
    let mut list = hosts(&[1; 20]);
    for host in &mut list[10..] {
        host.priority = 1;
    }
    let stage = Stage::new(ejecting(Config::new("c", list)));
    let low = |stage: &Stage| spread(stage, 10_000)[10..].iter().sum::<usize>();
    assert_eq!(low(&stage), 0);
    // 80 % of the first level are healthy, which is enough: 112 % of what is needed.
    eject(&stage, [0, 1]);
    assert_eq!(low(&stage), 0);
    // 50 %: the first takes 70 % of the load.
    eject(&stage, [2, 3, 4]);
    assert!((2700..3300).contains(&low(&stage)), "{}", low(&stage));
    eject(&stage, 5..10);
    assert_eq!(low(&stage), 10_000);
}

#[test]
fn our_locality_comes_first() {
    let mut list = hosts(&[1; 4]);
    list[2].locality = "here".into();
    list[3].locality = "here".into();
    let stage = Stage::new(ejecting(Config { locality: "here".into(), ..Config::new("c", list) }));
    assert_eq!(spread(&stage, 100)[..4], [0, 0, 50, 50]);
    eject(&stage, [2, 3]);
    assert_eq!(spread(&stage, 100)[..4], [50, 50, 0, 0]);
}

fn says(key: &str, value: &str) -> MetadataMatch {
    MetadataMatch::new([(key.to_owned(), value.to_owned())])
}

#[test]
fn subsets_and_what_to_fall_back_to() {
    let mut list = hosts(&[1; 4]);
    for (host, color) in list.iter_mut().zip(["green", "green", "blue", "red"]) {
        host.metadata = Some(Arc::new(says("color", color)));
    }
    let of = |fallback| {
        let subsets = Some(Subsets { fallback, selectors: vec![vec!["color".into()]] });
        Stage::new(Config { subsets, ..Config::new("c", list.clone()) })
    };
    let (green, pink) = (says("color", "green"), says("color", "pink"));
    let wish = |metadata| Wish { metadata, ..Wish::default() };
    let stage = of(Fallback::None);
    assert_eq!(stage.hosts.current().subsets(), 3);
    let worker = stage.worker(0);
    let mut seen: Vec<_> = (0..4).map(|_| pick(&worker, &wish(Some(&green))).unwrap()).collect();
    seen.sort_unstable();
    assert_eq!(seen, [0, 0, 1, 1]);
    assert_eq!(pick(&worker, &wish(Some(&pink))), Err(NoHost::SubsetEmpty));
    // Without a wish, any host.
    assert!((0..8).any(|_| pick(&worker, &wish(None)) == Ok(3)));
    let stage = of(Fallback::Default(says("color", "blue")));
    let worker = stage.worker(0);
    assert_eq!(pick(&worker, &wish(Some(&pink))), Ok(2));
    assert_eq!(worker.counters().lb_subsets_fallback.get(), 1);
    assert!(pick(&of(Fallback::Any).worker(0), &wish(Some(&pink))).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_new_host_starts_slowly() {
    let slow_start =
        Some(SlowStart { window: Duration::from_secs(100), aggression: Decimal::ONE, weight_min: Decimal(100_000) });
    let stage = Stage::new(Config { slow_start, ..config(Balancing::Weighted, &[1, 1]) });
    tokio::time::advance(Duration::from_secs(5)).await;
    // A host of the next generation is new, too.
    let mut next = Config::clone(stage.hosts.config());
    next.hosts = [&next.hosts[..], &[Host::at(address(2))]].concat().into();
    let hosts = Arc::new(Hosts::new(Arc::new(next), Some((&stage.hosts, stage.shared.now()))));
    let stage = Stage { hosts, ..stage };
    let worker = stage.worker(0);
    let share = || {
        let hits = (0..10_000).filter(|_| pick(&worker, &Wish::default()) == Ok(2)).count();
        hits as f64 / 10_000.0
    };
    let first = share();
    assert!((0.045..0.05).contains(&first), "{first}");
    tokio::time::advance(Duration::from_secs(50)).await;
    let half = share();
    assert!((0.195..0.205).contains(&half), "{half}");
    tokio::time::advance(Duration::from_secs(51)).await;
    let full = share();
    assert!((0.33..0.34).contains(&full), "{full}");
}

#[test]
fn original_destinations_are_hosts() {
    let source = Source::OriginalDst(OriginalDst { header: None, replace_local: true });
    let stage = Stage::new(Config { source, ..Config::new("c", vec![]) });
    let worker = stage.worker(0);
    assert_eq!(pick(&worker, &Wish::default()), Err(NoHost::NoDestination));
    let destination = address(7);
    let wish = Wish { destination: Some(&destination), ..Wish::default() };
    let pool = worker.pick(&wish).unwrap();
    assert_eq!(pool.host().address().to_string(), "127.0.0.1:1007");
    assert_eq!(worker.pick(&wish).unwrap().id(), pool.id());
    // All in use: no more than there may be. What is not in use makes room.
    let max = ferrogate_core::config::Limits::default().original_dst_hosts_max;
    let all: Vec<_> = (0..max).map(|i| address(i + 8)).collect();
    let pools: Vec<_> =
        all.iter().filter_map(|a| worker.pick(&Wish { destination: Some(a), ..Wish::default() }).ok()).collect();
    assert_eq!(pools.len(), max - 1);
    let one_more = Wish { destination: all.last(), ..Wish::default() };
    assert_eq!(pick(&worker, &one_more), Err(NoHost::TooMany));
    drop(pools);
    assert!(worker.pick(&one_more).is_ok());
}
