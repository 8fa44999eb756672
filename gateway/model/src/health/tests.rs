use std::time::Duration;

use super::*;

fn rules() -> Passive {
    Passive {
        split_local_errors: false,
        interval: Duration::from_secs(3),
        consecutive_5xx: 3,
        consecutive_gateway_errors: 2,
        consecutive_local_failures: 2,
        base_ejection_time: Duration::from_secs(30),
        max_ejection_time: Duration::from_secs(300),
        max_ejection_percent: 10,
        always_eject_one: true,
        failure_percentage: None,
        success_rate_stdev_factor: None,
        latency_percentage: None,
        minimum_endpoints: 5,
        request_volume: 50,
    }
}

fn after(rules: &Passive, outcomes: &[Outcome]) -> Option<Reason> {
    let (service, endpoint) = (ServiceHealth::default(), EndpointHealth::default());
    service.set_ejected(0, 1);
    for outcome in outcomes {
        service.note(rules, &endpoint, *outcome, Duration::from_millis(1));
    }
    endpoint.ejected_for()
}

use Outcome::{Connected, GatewayError, Served, ServerError, Unreachable};

#[test]
fn statuses_are_outcomes() {
    let of = |status| Outcome::of(StatusCode::from_u16(status).expect("a status"));
    assert_eq!(
        [200, 404, 500, 501, 502, 503, 504, 505].map(of),
        [Served, Served, ServerError, ServerError, GatewayError, GatewayError, GatewayError, ServerError]
    );
}

#[test]
fn errors_in_a_row_eject_and_a_success_between_them_does_not() {
    assert_eq!(after(&rules(), &[ServerError; 2]), None);
    assert_eq!(after(&rules(), &[ServerError; 3]), Some(Reason::Consecutive5xx));
    assert_eq!(after(&rules(), &[ServerError, ServerError, Served, ServerError]), None);
    assert_eq!(after(&rules(), &[GatewayError; 2]), Some(Reason::ConsecutiveGatewayErrors));
    assert_eq!(after(&rules(), &[GatewayError, ServerError, GatewayError]), Some(Reason::Consecutive5xx));
    let off = Passive { consecutive_5xx: 0, consecutive_gateway_errors: 0, ..rules() };
    assert_eq!(after(&off, &[ServerError, GatewayError, Unreachable, ServerError, GatewayError]), None);
}

#[test]
fn a_new_connection_between_errors_is_no_success() {
    assert_eq!(after(&rules(), &[ServerError, Connected, ServerError, Connected, ServerError]), Some(Reason::Consecutive5xx));
}

#[test]
fn failures_to_reach_it_are_errors_unless_they_are_split_off() {
    assert_eq!(after(&rules(), &[Unreachable; 2]), Some(Reason::ConsecutiveGatewayErrors));
    let split = Passive { split_local_errors: true, ..rules() };
    assert_eq!(after(&split, &[Unreachable; 2]), Some(Reason::ConsecutiveLocalOriginFailures));
    // An endpoint that resets each connection is reached each time. A connection does not end the row of failures; an answer does.
    assert_eq!(after(&split, &[Unreachable, Connected, Unreachable]), Some(Reason::ConsecutiveLocalOriginFailures));
    assert_eq!(after(&split, &[Unreachable, Served, Unreachable, ServerError, ServerError]), None);
    assert_eq!(after(&split, &[ServerError, Unreachable, ServerError, ServerError]), Some(Reason::Consecutive5xx));
}

#[test]
fn the_largest_share_holds_and_what_passes_it_is_counted() {
    let service = ServiceHealth::default();
    let endpoints: Vec<EndpointHealth> = (0..4).map(|_| EndpointHealth::default()).collect();
    service.set_ejected(0, 2);
    let ejected = endpoints.iter().filter(|e| service.eject(e, Reason::Latency)).count();
    assert_eq!((ejected, service.ejections_refused.load(Ordering::Relaxed)), (2, 2));
    assert!(!service.eject(&endpoints[0], Reason::Latency), "it is ejected already");
    assert_eq!((service.news(), service.ejections[5].load(Ordering::Relaxed)), (2, 2));
    assert!(endpoints[0].readmit());
    assert!(!endpoints[0].readmit());
    service.set_ejected(1, 2);
    assert!(service.eject(&endpoints[3], Reason::SuccessRate));
    assert_eq!(endpoints[3].condition(), Condition::Ejected);
}

#[test]
fn a_race_for_the_last_place_has_one_winner() {
    let service = ServiceHealth::default();
    let endpoints: Vec<EndpointHealth> = (0..64).map(|_| EndpointHealth::default()).collect();
    service.set_ejected(0, 3);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| endpoints.iter().for_each(|e| _ = service.eject(e, Reason::Consecutive5xx)));
        }
    });
    assert_eq!(endpoints.iter().filter(|e| e.is_ejected()).count(), 3);
}

#[test]
fn an_interval_is_taken_once() {
    let endpoint = EndpointHealth::default();
    for outcome in [Served, ServerError, Connected] {
        endpoint.note(&rules(), outcome, Duration::from_micros(5));
    }
    assert_eq!(endpoint.take_sample(), Sample { answers: (2, 1), reached: (0, 0), latency_us: 5 });
    assert_eq!(endpoint.take_sample(), Sample::default());
}

#[test]
fn the_worst_condition_is_shown() {
    let endpoint = EndpointHealth::default();
    assert_eq!(endpoint.condition(), Condition::Healthy);
    assert!(endpoint.set_share(50));
    assert!(!endpoint.set_share(50));
    assert_eq!(endpoint.condition(), Condition::Warming);
    endpoint.set_checked(Checked::Pending);
    assert_eq!(endpoint.condition(), Condition::Pending);
    endpoint.set_checked(Checked::Failing);
    assert_eq!(endpoint.condition(), Condition::Unhealthy);
}
