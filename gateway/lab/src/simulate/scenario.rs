//! What happens while requests arrive.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;

use super::settings::Settings;

/// What a service may meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// Nothing happens.
    Steady,
    /// One endpoint is slow.
    OneSlow,
    /// One endpoint fails fast, which makes it look idle.
    OneFailing,
    /// A new version is rolled out.
    RollingRestart,
    /// Traffic grows tenfold, and endpoints with it.
    #[serde(rename = "scale-3-30")]
    Scale,
    /// A third of the endpoints is gone at once.
    ZoneLoss,
    /// Endpoints that cache lose what they have.
    ColdCaches,
}

impl Scenario {
    /// All scenarios.
    pub const ALL: [Self; 7] =
        [Self::Steady, Self::OneSlow, Self::OneFailing, Self::RollingRestart, Self::Scale, Self::ZoneLoss, Self::ColdCaches];
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Steady => "steady",
            Self::OneSlow => "one-slow",
            Self::OneFailing => "one-failing",
            Self::RollingRestart => "rolling-restart",
            Self::Scale => "scale-3-30",
            Self::ZoneLoss => "zone-loss",
            Self::ColdCaches => "cold-caches",
        })
    }
}

impl FromStr for Scenario {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(|s| s.to_string()).join(", ");
        Self::ALL.into_iter().find(|s| s.to_string() == text).ok_or_else(|| format!("{text:?} is none of {}", names()))
    }
}

/// Something that happens. Endpoints are numbered as they come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Step {
    /// An endpoint joins the pool. If it is new, it runs from then on.
    Join(usize),
    /// An endpoint leaves the pool, and finishes what it has.
    Leave(usize),
    /// An endpoint stops, and what it was doing is lost.
    Stop(usize),
    /// The endpoint is back.
    Start(usize),
    /// The endpoint takes so many times as long.
    Slow(usize, f64),
    /// The endpoint answers 500 at once; or does so no more.
    Fails(usize, bool),
    /// The endpoint's cache is empty now.
    Forget(usize),
}

/// A scenario with its times.
pub(super) struct Script {
    pub(super) story: String,
    /// The number of endpoints at the beginning.
    pub(super) endpoints: usize,
    /// What happens, in the order of time.
    pub(super) steps: Vec<(Duration, Vec<Step>)>,
    /// Requests a second: linear between these points, and constant before and after.
    pub(super) rate: Vec<(Duration, f64)>,
    /// From this number on an endpoint is like the one so many numbers before.
    pub(super) replaced: usize,
    /// The time of a request whose key an endpoint has in its cache, as a part of the usual time; none: there are no caches.
    pub(super) hit: Option<f64>,
}

/// How long probes and informers need to notice that an endpoint is gone.
const NOTICED: Duration = Duration::from_secs(2);

impl Scenario {
    pub(super) fn script(self, settings: &Settings) -> Script {
        let (n, duration) = (settings.endpoints, settings.duration);
        let rate = |endpoints: usize, load: f64| settings.capacity(endpoints) * load;
        let mut script = Script {
            story: String::new(),
            endpoints: n,
            steps: Vec::new(),
            rate: vec![(Duration::ZERO, rate(n, settings.load))],
            replaced: usize::MAX,
            hit: None,
        };
        let (quarter, third) = (duration / 4, duration / 3);
        match self {
            Self::Steady => script.story = "Nothing happens.".to_owned(),
            Self::OneSlow => {
                script.story = format!("From {quarter:?} to {:?} one endpoint takes ten times as long.", quarter * 3);
                script.steps = vec![(quarter, vec![Step::Slow(0, 10.0)]), (quarter * 3, vec![Step::Slow(0, 1.0)])];
            }
            Self::OneFailing => {
                script.story = format!("From {quarter:?} to {:?} one endpoint answers 500 at once; nothing ejects it.", quarter * 3);
                script.steps = vec![(quarter, vec![Step::Fails(0, true)]), (quarter * 3, vec![Step::Fails(0, false)])];
            }
            Self::RollingRestart => {
                let each = duration * 4 / 5 / u32::try_from(n).unwrap_or(u32::MAX);
                script.story = format!(
                    "One after the other, each {each:?}, the endpoints leave the pool, end what they have, and are replaced by one at a new address."
                );
                script.replaced = n;
                for i in 0..n {
                    let at = duration / 10 + each * u32::try_from(i).unwrap_or(u32::MAX);
                    script.steps.push((at, vec![Step::Leave(i)]));
                    script.steps.push((at + each / 2, vec![Step::Stop(i), Step::Join(n + i)]));
                }
            }
            Self::Scale => {
                let (from, to) = (3, 30);
                let (begin, end) = (quarter, quarter * 2);
                script.story =
                    format!("From {begin:?} to {end:?} traffic grows tenfold, and endpoints join one by one, from {from} to {to}.");
                script.endpoints = from;
                script.rate = vec![(begin, rate(from, settings.load)), (end, rate(to, settings.load))];
                let joins = (to - from) as u32;
                script.steps = (0..joins).map(|i| (begin + (end - begin) * i / joins, vec![Step::Join(from + i as usize)])).collect();
            }
            Self::ZoneLoss => {
                // The endpoints that are left must be able to carry it.
                let load = settings.load * 0.75;
                let lost: Vec<usize> = (0..n).filter(|i| settings.zone(*i) == settings.zone(2)).collect();
                let noticed = NOTICED.min(third / 2);
                script.story = format!(
                    "At {third:?} the endpoints of one zone are gone, with what they had; after {noticed:?} they leave the pool; at {:?} they are back. The load is three quarters of the usual.",
                    third * 2
                );
                script.rate = vec![(Duration::ZERO, rate(n, load))];
                let all = |step: fn(usize) -> Step| lost.iter().map(|i| step(*i)).collect::<Vec<_>>();
                let back = all(Step::Start).into_iter().chain(all(Step::Join)).collect();
                script.steps = vec![(third, all(Step::Stop)), (third + noticed, all(Step::Leave)), (third * 2, back)];
            }
            Self::ColdCaches => {
                let half = duration / 2;
                script.story = format!(
                    "Each endpoint caches half as many keys again as its share of them; a hit takes a fifth of the time. At the beginning all caches are cold, and at {half:?} a third of them are again."
                );
                script.hit = Some(0.2);
                script.steps = vec![(half, (0..n).filter(|i| i % 3 == 0).map(Step::Forget).collect())];
            }
        }
        script
    }
}
