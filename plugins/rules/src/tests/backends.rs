//! How requests are shared among backends.

use super::*;

#[test]
fn backends_share_by_weight() {
    let backends = |weights: &[Option<u32>]| {
        let refs = weights.iter().map(|weight| json!({"name": "web", "port": 80, "weight": weight})).collect::<Vec<_>>();
        rules(json!([{"backendRefs": refs}]))
    };
    let counts = |weights: &[Option<u32>]| {
        testing::seed(5);
        let mut router = backends(weights);
        let mut counts = vec![0usize; weights.len()];
        for _ in 0..10_000 {
            let Decision::Matched(Choice { backend: Some(backend), .. }) = router.route(&request("", "/")) else { panic!() };
            counts[backend as usize] += 1;
        }
        counts
    };
    let counted = counts(&[Some(1), Some(0), Some(9)]);
    assert_eq!(counted[1], 0);
    assert!(counted[0].abs_diff(1_000) < 200, "{counted:?}");
    assert!(counts(&[None, None])[0].abs_diff(5_000) < 300);
    assert_eq!(counts(&[Some(0), Some(3)]), [0, 10_000]);
    for none in [&[][..], &[Some(0)], &[Some(0), Some(0)]] {
        let expected = Decision::Matched(Choice { rule: 0, backend: None, matched_prefix: 0 });
        assert_eq!(backends(none).route(&request("", "/")), expected, "{none:?}");
    }
}

#[test]
fn an_invalid_backend_takes_its_share_and_leads_nowhere() {
    let invalid = |weight: u32| json!({"invalid": "BackendNotFound: Service a/b", "weight": weight});
    let valid = |name: &str, weight: u32| json!({"name": name, "port": 80, "weight": weight});
    testing::seed(6);
    let list = json!([{"backendRefs": [invalid(3), valid("a", 1), invalid(0), valid("b", 6)]}]);
    let (mut router, configured) = configure(list, &Listener::default()).unwrap();
    let names: Vec<&str> = configured.rules[0].backends.iter().map(|backend| backend.service.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    let mut counts = [0_usize; 3];
    for _ in 0..10_000 {
        let Decision::Matched(Choice { backend, .. }) = router.route(&request("", "/")) else { panic!() };
        counts[backend.map_or(2, |backend| backend as usize)] += 1;
    }
    for (count, share) in counts.into_iter().zip([1_000, 6_000, 3_000]) {
        assert!(count.abs_diff(share) < 300, "{counts:?}");
    }
    let chosen = |backends: Value| match rules(json!([{"backendRefs": backends}])).route(&request("", "/")) {
        Decision::Matched(choice) => choice.backend,
        other => panic!("{other:?}"),
    };
    assert_eq!(chosen(json!([invalid(1)])), None);
    assert_eq!(chosen(json!([invalid(0), valid("a", 1)])), Some(0));
    let error = fault(json!([{"backendRefs": [{"invalid": "x", "name": "a", "filters": [{"type": "CORS", "cors": {}}]}, {"weight": 1}]}]));
    for line in ["[0].name: must be absent", "[0].filters: must be absent", "[1].name: must be set", "[1].port: must be set"] {
        assert!(error.contains(&format!("rules[0].backendRefs{line}")), "{error}");
    }
}
