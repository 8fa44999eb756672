use super::*;

/// A server with one Lease, as the real one was recorded: versions, 404, 409.
#[derive(Default)]
struct Server {
    lease: Option<Value>,
    version: u64,
}

impl Server {
    fn answer(&mut self, ask: &Ask) -> Told {
        match (ask, &self.lease) {
            (Ask::Read, Some(lease)) => Told::Lease(lease.clone()),
            (Ask::Read | Ask::Write(_), None) => Told::Missing,
            (Ask::Create(_), Some(_)) => Told::Conflict,
            (Ask::Write(new), Some(old)) if new["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"] => Told::Conflict,
            (Ask::Create(new) | Ask::Write(new), _) => {
                self.version += 1;
                let mut lease = new.clone();
                lease["metadata"]["resourceVersion"] = self.version.to_string().into();
                self.lease = Some(lease.clone());
                Told::Lease(lease)
            }
        }
    }
}

/// A process whose time of day stands still, and is wrong by so many seconds.
struct Process {
    election: Election,
    skew: i64,
    next: Instant,
    dead: bool,
}

impl Process {
    fn new(name: &str, skew: i64, now: Instant) -> Self {
        Self { election: Election::new(Options::new("edge", "sluicegate", name)), skew, next: now, dead: false }
    }

    fn wall(&self) -> jiff::Timestamp {
        jiff::Timestamp::from_second(1_800_000_000 + self.skew).expect("a time")
    }

    /// One attempt, whose requests take so long each. Where `lost` says so the answer does not arrive, although the server has done what it was asked.
    fn attempt(&mut self, server: &mut Server, now: Instant, takes: Duration, lost: &mut dyn FnMut() -> bool) {
        let (wall, mut at) = (self.wall(), now);
        let mut ask = Some(self.election.begin(at, wall));
        while let Some(asked) = ask {
            let told = server.answer(&asked);
            let told = if lost() { Told::Failed } else { told };
            ask = self.election.told(&asked, told, Times { asked: at, answered: at + takes, wall });
            at += takes;
        }
    }
}

const TICK: Duration = Duration::from_millis(100);

/// Numbers that look random, the same ones in each run (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Plays so long a time; says who led at the end, and panics if ever two did.
fn play(
    processes: &mut [Process],
    server: &mut Server,
    now: &mut Instant,
    time: Duration,
    random: &mut Random,
    loss: f64,
) -> Option<usize> {
    let end = *now + time;
    while *now < end {
        for process in processes.iter_mut().filter(|process| !process.dead) {
            if *now >= process.next {
                let takes = Duration::from_millis((random.next() * 80.0) as u64);
                let mut lost = || random.next() < loss;
                process.attempt(server, *now, takes, &mut lost);
                process.next = *now + takes + process.election.pause(*now + takes, random.next());
            }
        }
        *now += TICK;
        let leaders: Vec<usize> = (0..processes.len()).filter(|i| processes[*i].election.until(*now).is_some()).collect();
        assert!(leaders.len() < 2, "{leaders:?} lead at the same time");
    }
    (0..processes.len()).find(|i| !processes[*i].dead && processes[*i].election.until(*now).is_some())
}

#[test]
fn of_three_one_leads_and_when_it_dies_another_does_within_twenty_seconds() {
    for seed in 0..50 {
        let (mut random, mut now, mut server) = (Random(seed), Instant::now(), Server::default());
        // Their clocks are hours apart.
        let mut all: Vec<Process> = [("a", 0), ("b", 7200), ("c", -7200)].map(|(name, skew)| Process::new(name, skew, now)).into();
        let first = play(&mut all, &mut server, &mut now, Duration::from_secs(60), &mut random, 0.0).expect("one leads");
        assert_eq!(server.lease.as_ref().expect("there")["spec"]["leaseTransitions"], 0, "nobody took it from a living one");
        all[first].dead = true;
        let second = play(&mut all, &mut server, &mut now, Duration::from_secs(20), &mut random, 0.0).expect("another leads");
        assert_ne!(first, second);
        assert_eq!(server.lease.as_ref().expect("there")["spec"]["leaseTransitions"], 1);
    }
}

#[test]
fn two_never_lead_at_once_whatever_is_lost() {
    for seed in 0..50 {
        let (mut random, mut now, mut server) = (Random(seed), Instant::now(), Server::default());
        let mut all: Vec<Process> = ["a", "b", "c"].map(|name| Process::new(name, 0, now)).into();
        for _ in 0..20 {
            // The network to one of them is cut, for a while.
            let cut = (random.next() * 3.0) as usize;
            all[cut].dead = true;
            play(&mut all, &mut server, &mut now, Duration::from_secs(25), &mut random, 0.5);
            all[cut].dead = false;
        }
        let last = play(&mut all, &mut server, &mut now, Duration::from_secs(40), &mut random, 0.0);
        assert!(last.is_some(), "nobody leads in calm, seed {seed}");
    }
}

#[test]
fn who_stops_gives_it_up_and_the_next_need_not_wait() {
    let (mut random, mut now, mut server) = (Random(1), Instant::now(), Server::default());
    let mut all: Vec<Process> = ["a", "b"].map(|name| Process::new(name, 0, now)).into();
    let first = play(&mut all, &mut server, &mut now, Duration::from_secs(10), &mut random, 0.0).expect("one leads");
    let wall = all[first].wall();
    let ask = all[first].election.give_up(now, wall).expect("it leads");
    assert!(all[first].election.until(now).is_none(), "it has stopped before it is written");
    assert!(matches!(server.answer(&ask), Told::Lease(_)));
    let spec = &server.lease.as_ref().expect("there")["spec"];
    assert_eq!((&spec["holderIdentity"], &spec["leaseDurationSeconds"]), (&json!(""), &json!(1)));
    all[first].dead = true;
    let second = play(&mut all, &mut server, &mut now, Duration::from_secs(5), &mut random, 0.0).expect("the other leads");
    assert_ne!(first, second);
    assert!(all[first].election.give_up(now, wall).is_none(), "it has nothing to give up");
}

#[test]
fn the_lease_of_others_is_left_as_it_is_but_for_the_election() {
    let now = Instant::now();
    let mut election = Election::new(Options::new("edge", "sluicegate", "a"));
    let wall: jiff::Timestamp = "2026-11-28T12:00:00Z".parse().expect("a time");
    let times = Times { asked: now, answered: now, wall };
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "sluicegate", "labels": {"team": "edge"}, "resourceVersion": "7"},
        "spec": {"holderIdentity": "", "leaseTransitions": 4, "strategy": "OldestEmulationVersion"},
    });
    assert_eq!(election.begin(now, wall), Ask::Read);
    let Some(Ask::Write(written)) = election.told(&Ask::Read, Told::Lease(lease), times) else { panic!("it is free") };
    let expected = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "sluicegate", "labels": {"team": "edge"}, "resourceVersion": "7"},
        "spec": {
            "holderIdentity": "a", "leaseDurationSeconds": 15, "acquireTime": "2026-11-28T12:00:00.000000Z", "renewTime": "2026-11-28T12:00:00.000000Z",
            "leaseTransitions": 5, "strategy": "OldestEmulationVersion",
        },
    });
    assert_eq!(written, expected);
}

#[test]
fn a_conflict_is_looked_into_once_and_a_holder_that_is_another_ends_the_lead() {
    let now = Instant::now();
    let wall = jiff::Timestamp::UNIX_EPOCH;
    let times = Times { asked: now, answered: now, wall };
    let mut election = Election::new(Options::new("edge", "sluicegate", "a"));
    let create = election.told(&Ask::Read, Told::Missing, times).expect("it is created");
    let Ask::Create(mut lease) = create.clone() else { panic!("{create:?}") };
    lease["metadata"]["resourceVersion"] = "1".into();
    assert!(election.told(&create, Told::Lease(lease.clone()), times).is_none());
    assert_eq!(election.until(now), Some(now + Duration::from_secs(10)));
    let write = election.begin(now, wall);
    assert!(matches!(write, Ask::Write(_)), "a leader renews without reading");
    assert_eq!(election.told(&write, Told::Conflict, times), Some(Ask::Read));
    // A label was changed: it goes on.
    lease["metadata"]["resourceVersion"] = "2".into();
    let again = election.told(&Ask::Read, Told::Lease(lease.clone()), times).expect("it writes anew");
    assert_eq!(election.told(&again, Told::Conflict, times), None, "not for ever");
    assert!(election.until(now).is_some());
    let write = election.begin(now, wall);
    assert_eq!(election.told(&write, Told::Conflict, times), Some(Ask::Read));
    lease["spec"]["holderIdentity"] = "b".into();
    assert_eq!(election.told(&Ask::Read, Told::Lease(lease), times), None);
    assert_eq!((election.until(now), election.holder()), (None, Some("b")), "it stops at once");
    assert!(election.until(now + Duration::from_secs(11)).is_none());
}

#[test]
fn nonsense_in_a_lease_does_not_stop_the_election_for_ever() {
    let (wall, start) = (jiff::Timestamp::UNIX_EPOCH, Instant::now());
    for spec in [json!({"holderIdentity": "b", "leaseDurationSeconds": i64::MAX}), json!({"holderIdentity": "b"}), json!(null), json!([])] {
        let mut election = Election::new(Options::new("edge", "sluicegate", "a"));
        let lease = json!({"metadata": {"resourceVersion": "1"}, "spec": spec});
        let at = |seconds| {
            let now = start + Duration::from_secs(seconds);
            Times { asked: now, answered: now, wall }
        };
        let first = election.told(&Ask::Read, Told::Lease(lease.clone()), at(0));
        assert_eq!(first.is_some(), !spec.is_object(), "{spec}");
        let later = election.told(&Ask::Read, Told::Lease(lease), at(16));
        assert!(matches!(later, Some(Ask::Write(_))), "{spec}");
    }
}

#[test]
fn what_a_watch_tells_says_until_when_another_holds_the_lease() {
    let now = Instant::now();
    let mut election = Election::new(Options::new("edge", "sluicegate", "a"));
    assert_eq!((election.held_until(now), election.version()), (None, None), "nothing is known");
    let lease = |version: &str, holder: &str| json!({"metadata": {"resourceVersion": version}, "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15}});
    election.watched(Some(lease("7", "b")), now);
    assert_eq!((election.held_until(now), election.version()), (Some(now + Duration::from_secs(15)), Some("7")));
    let later = now + Duration::from_secs(10);
    election.watched(Some(lease("8", "b")), later);
    assert_eq!(election.held_until(later), Some(later + Duration::from_secs(15)), "it was renewed");
    assert_eq!(election.held_until(later + Duration::from_secs(15)), None, "it has run out");
    election.watched(Some(lease("9", "")), later);
    assert_eq!(election.held_until(later), None, "it was given up");
    election.watched(Some(lease("10", "a")), later);
    assert_eq!(election.held_until(later), None, "it is this process's");
    election.watched(None, later);
    assert_eq!(election.version(), None);
    assert_eq!(election.spread(0.5), Duration::from_secs(1));
}
