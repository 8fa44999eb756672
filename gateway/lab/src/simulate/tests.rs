#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use super::*;

fn play(names: &[&str], scenarios: &[Scenario], settings: &Settings) -> Report {
    let sources: Vec<_> = names.iter().map(|name| (Source::find(name).unwrap(), serde_json::json!({}))).collect();
    simulate(&Loader::new().unwrap(), &sources, scenarios, settings).unwrap()
}

fn one(report: &Report) -> &Outcome {
    &report.scenarios[0].outcomes[0]
}

fn near(value: f64, expected: f64, part: f64) -> bool {
    (value / expected - 1.0).abs() < part
}

/// The settings for one endpoint that refuses nothing.
fn queue(concurrency: usize, load: f64, latency: Latency) -> Settings {
    Settings {
        endpoints: 1,
        workers: 1,
        concurrency,
        queue: 1_000_000,
        load,
        latency,
        duration: Duration::from_secs(1_000),
        ..Settings::default()
    }
}

const MEAN: Duration = Duration::from_millis(10);

#[test]
fn one_place_and_exponential_work_wait_as_the_m_m_1_queue_does() {
    // The time in the system is 1 / (mu - lambda), and exponentially distributed, so p99 is ln 100 times that.
    let outcome = play(&["random"], &[Scenario::Steady], &queue(1, 0.5, Latency::Exponential(MEAN)));
    let outcome = one(&outcome);
    assert!(near(outcome.mean_ms, 20.0, 0.05), "{} ms", outcome.mean_ms);
    assert!(near(outcome.p99_ms, 20.0 * 100f64.ln(), 0.08), "{} ms", outcome.p99_ms);
    assert!(near(outcome.endpoints[0].busy, 0.5, 0.03), "{}", outcome.endpoints[0].busy);
    assert!(near(outcome.requests as f64, 47_500.0, 0.02), "{}", outcome.requests);
}

#[test]
fn four_places_wait_as_erlang_says_and_constant_work_half_as_long() {
    // Erlang C for 4 places and 3.2 erlangs is 0.5964: waiting takes 0.5964 / (400 - 320) s, and work 10 ms.
    let erlang = play(&["random"], &[Scenario::Steady], &queue(4, 0.8, Latency::Exponential(MEAN)));
    assert!(near(one(&erlang).mean_ms, 17.46, 0.05), "{} ms", one(&erlang).mean_ms);
    // Pollaczek and Khinchine: waiting takes rho / (2 mu (1 - rho)).
    let constant = play(&["random"], &[Scenario::Steady], &queue(1, 0.5, Latency::Constant(MEAN)));
    assert!(near(one(&constant).mean_ms, 15.0, 0.04), "{} ms", one(&constant).mean_ms);
}

#[test]
fn the_mean_of_each_distribution_is_the_one_that_was_asked_for() {
    use rand::RngExt as _;
    let mut random = crate::generate::stream(1, 1);
    for latency in [Latency::Exponential(MEAN), Latency::LogNormal(MEAN, 0.5), Latency::LogNormal(MEAN, 1.0)] {
        let mean = (0..200_000).map(|_| latency.draw(random.random(), random.random())).sum::<f64>() / 200_000.0;
        assert!(near(mean, 1.0, 0.02), "{latency}: {mean}");
        assert_eq!(latency.to_string().parse::<Latency>(), Ok(latency));
    }
    for wrong in ["normal:1ms", "lognormal", "lognormal:1ms,9", "constant:1ms,2", "constant:0s", "exponential:x"] {
        assert!(wrong.parse::<Latency>().is_err(), "{wrong}");
    }
}

fn short() -> Settings {
    Settings { duration: Duration::from_secs(20), ..Settings::default() }
}

#[test]
fn two_choices_beat_one_at_the_tail() {
    // Mitzenmacher, 2001: one look at the load of two endpoints takes the longest queues from exponential to doubly exponential.
    let settings = Settings { load: 0.85, ..short() };
    let report = play(&["random", "least-request"], &[Scenario::Steady], &settings);
    let [random, two] = &report.scenarios[0].outcomes[..] else { panic!() };
    assert_eq!(random.requests, two.requests, "the same requests");
    assert!(two.p99_ms * 1.5 < random.p99_ms, "{} and {} ms", two.p99_ms, random.p99_ms);
}

#[test]
fn the_same_seed_gives_the_same_report_and_another_one_another() {
    let text = |seed| {
        let settings = Settings { seed, duration: Duration::from_secs(5), ..Settings::default() };
        let report = play(&["round-robin", "peak-ewma", "maglev"], &Scenario::ALL, &settings);
        serde_json::to_string(&report).unwrap() + &super::page::page(&report)
    };
    let first = text(7);
    assert_eq!(first, text(7));
    assert_ne!(first, text(8));
}

#[test]
fn each_scenario_tells_balancers_apart() {
    let names = ["round-robin", "least-request", "maglev", "ring-hash"];
    let report = play(&names, &Scenario::ALL, &short());
    let of = |scenario: Scenario, name: &str| {
        let played = report.scenarios.iter().find(|p| p.scenario == scenario).unwrap();
        played.outcomes.iter().find(|o| o.plugin == name).unwrap()
    };
    // A balancer that looks at what is under way avoids a slow endpoint, and runs into one that fails fast.
    assert!(of(Scenario::OneSlow, "least-request").p99_ms * 2.0 < of(Scenario::OneSlow, "round-robin").p99_ms);
    assert!(of(Scenario::OneFailing, "least-request").errors > of(Scenario::OneFailing, "round-robin").errors);
    // A rollout that waits for what is under way loses nothing, whatever balances.
    for name in names {
        assert_eq!(of(Scenario::RollingRestart, name).failures, 0, "{name}");
    }
    assert_eq!(of(Scenario::RollingRestart, "least-request").errors, 0);
    // The loss of a zone loses nothing either, as other endpoints are tried.
    assert!(of(Scenario::ZoneLoss, "least-request").retries > 0);
    assert!(of(Scenario::ZoneLoss, "least-request").error_share() < 0.01);
    // There are ten times as many endpoints.
    assert_eq!(of(Scenario::Scale, "round-robin").endpoints.len(), 30);
    // Hashes find what is cached.
    assert!(of(Scenario::ColdCaches, "maglev").p50_ms * 1.5 < of(Scenario::ColdCaches, "round-robin").p50_ms);
    // A ring moves no key without need; a table moves a few.
    let moved = |name| of(Scenario::RollingRestart, name).moved;
    assert!(moved("round-robin").is_none() && moved("least-request").is_none());
    let (ring, table) = (moved("ring-hash").unwrap(), moved("maglev").unwrap());
    assert!(near(ring.each_change, 0.1, 0.3) && ring.needlessly == 0.0, "{ring:?}");
    assert!(table.needlessly > 0.0 && table.needlessly < 0.1, "{table:?}");
}

#[test]
fn what_is_not_possible_is_said() {
    let wrong = |settings: Settings| settings.check().unwrap_err();
    assert!(wrong(Settings { workers: 0, ..Settings::default() }).contains("workers: 0 is not from 1 to 256"));
    assert!(wrong(Settings { duration: Duration::from_secs(86_400), ..Settings::default() }).contains("requests"));
    let sources = [(Source::find("rules").unwrap(), serde_json::json!({"rules": []}))];
    let refused = simulate(&Loader::new().unwrap(), &sources, &[Scenario::Steady], &Settings::default());
    assert!(refused.unwrap_err().contains("rules is a router"));
    assert!("nothing".parse::<Scenario>().unwrap_err().contains("scale-3-30"));
}

#[test]
fn endpoints_that_are_not_alike_get_by_their_weights_and_work_by_their_places_and_speed() {
    let text = "endpoints:\n- {weight: 6, concurrency: 6}\n- {weight: 2, concurrency: 1, speed: 2, zone: far, labels: {tier: gold}}\n";
    let profiles = crate::profile::Profiles::parse(std::path::Path::new("profiles.yaml"), text).unwrap();
    let settings = Settings {
        endpoints: 2,
        workers: 1,
        latency: Latency::Constant(MEAN),
        queue: 1_000_000,
        load: 0.4,
        duration: Duration::from_secs(60),
        profiles,
        ..Settings::default()
    };
    let report = play(&["random"], &[Scenario::Steady, Scenario::RollingRestart], &settings);
    let endpoints = &one(&report).endpoints;
    assert!(near(endpoints[0].picks as f64, endpoints[1].picks as f64 * 3.0, 0.05), "{endpoints:?}");
    assert!(endpoints.iter().all(|e| near(e.busy, 0.4, 0.05)), "{endpoints:?}");
    // There are eight places, and four tenths of what they can do is asked for.
    assert!(near(endpoints.iter().map(|e| e.picks as f64).sum(), 800.0 * 0.4 * 60.0, 0.05), "{endpoints:?}");
    assert!(super::page::page(&report).contains("they have 2 profiles in turn"));
    assert_eq!(serde_json::to_value(&report).unwrap()["settings"]["profiles"][1]["labels"]["tier"], "gold");
}

#[test]
fn a_plugins_name_is_text_in_the_page() {
    let mut source = Source::find("random").unwrap();
    source.name = "<script>alert('1')</script>\u{202e}\u{200b}\"".to_owned();
    let settings = Settings { duration: Duration::from_secs(2), ..Settings::default() };
    let report = simulate(&Loader::new().unwrap(), &[(source, serde_json::json!({}))], &[Scenario::Steady], &settings).unwrap();
    let page = super::page::page(&report);
    assert!(
        page.contains("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;\\u{202e}\\u{200b}&quot;") && !page.contains("<script"),
        "{page}"
    );
    assert!(!page.chars().any(|c| sluicegate_model::escape::is_hidden(c) && c != '\n'));
}
