//! Runs of small worlds, played as they are.

use serde_json::json;

use super::*;
use crate::whatif::{Amount, Assumptions, Inventory, Wish};

fn web(replicas: u32, pod: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "labels": {"spotalis.io/enabled": "true"},
                     "annotations": {"spotalis.io/spot-percentage": "50"}},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
                 "template": {"metadata": {"labels": {"app": "web"}}, "spec": pod}},
    })
}

fn pod() -> Value {
    json!({"containers": [{"name": "a", "image": "a", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}]})
}

fn question(web: &Value) -> Question {
    let assumptions = Assumptions { namespace: "trial".to_owned(), ready_after: Duration::from_secs(5) };
    let inventory = Inventory::of(crate::whatif::read("web.json", &web.to_string()).unwrap(), &assumptions).unwrap();
    let wish = Wish {
        nodes: Some(4),
        spot_share: None,
        cpu: Some("8".to_owned()),
        memory: Some("32Gi".to_owned()),
        zones: Some(1),
        replace_after: Duration::from_mins(1),
        seen: Vec::new(),
    };
    Question {
        objects: inventory.objects,
        fleet: Fleet::of(&wish, &[]).unwrap(),
        weather: Weather::Synthetic(Synthetic::Outage),
        spotalis: Installation::default(),
        lasts: Duration::from_mins(24),
        seed: 3,
        runs: 2,
        objectives: vec![Objective::MinReady(Amount::Count(6))],
        spot_price: 0.35,
    }
}

#[test]
fn both_sides_of_a_run_see_the_same_days_on_any_number_of_threads() {
    let question = question(&web(6, &pod()));
    let passed = Mutex::new(Duration::ZERO);
    let runs = run(&question, 1, &|time| *passed.lock() += time).unwrap();
    assert_eq!(*passed.lock(), 4 * question.lasts, "two runs, with and without");
    assert_eq!(runs.iter().map(|run| run.seed).collect::<Vec<_>>(), [3, 4]);
    for Run { seed, with, without } in &runs {
        let ((on_spot, others), same) = ((with.spot_node_hours, with.on_demand_node_hours), without.spot_node_hours);
        assert!(
            on_spot < 0.8 && (others - 0.8).abs() < 0.01,
            "{seed}: the outage costs spot hours: {on_spot} {others}"
        );
        assert!((on_spot - same).abs() < 1e-9, "{seed}: without Spotalis there is the same outage");
        let figures = &with.workloads[0];
        assert_eq!((figures.workload.as_str(), figures.wanted), ("trial/web", 6));
        assert_eq!((figures.at_end.spot, figures.at_end.on_demand), (3, 3), "{seed}");
        assert_eq!(figures.fewest_ready, 3, "{seed}: half of it is on on-demand nodes throughout");
        assert_eq!(without.workloads[0].at_end.on_demand, 6, "{seed}: nobody brings them back");
        assert!((0.35..1.0).contains(&figures.cost.unwrap()), "{seed}: {:?}", figures.cost);
        assert_eq!(with.missed.len(), 1, "{seed}: {:?}", with.missed);
        assert_eq!((with.stuck.len(), without.stuck.len()), (0, 0));
    }
    assert_eq!(run(&question, 4, &|_| ()).unwrap(), runs, "the threads change nothing");
    let again = Question { seed: 4, runs: 1, ..question };
    assert_eq!(run(&again, 1, &|_| ()).unwrap(), runs[1..], "a run can be had again by its seed");
}

#[test]
fn whoever_never_gets_a_node_is_named_with_the_schedulers_words() {
    let mut gpu = pod();
    gpu["containers"][0]["resources"] = json!({"limits": {"nvidia.com/gpu": "1"}});
    let mut arm = pod();
    arm["nodeSelector"] = json!({"kubernetes.io/arch": "arm64"});
    for (pod, says) in
        [(gpu, "4 Insufficient nvidia.com/gpu"), (arm, "4 node(s) didn't match Pod's node affinity/selector")]
    {
        let question = Question {
            lasts: Duration::from_mins(10),
            runs: 1,
            weather: Weather::Seen(Trace { gap: Duration::from_mins(1), available: vec![2.0] }, Scale::Nodes),
            ..question(&web(2, &pod))
        };
        let runs = run(&question, 1, &|_| ()).unwrap();
        let Side { stuck, missed, .. } = &runs[0].without;
        assert_eq!((stuck.len(), stuck[0].pods, stuck[0].workload.as_str()), (1, 2, "trial/web"));
        assert!(stuck[0].why.contains(says), "{}", stuck[0].why);
        assert_eq!((missed.len(), missed[0].ready, missed[0].wanted), (1, 0, 2), "and it misses what can be missed");
        assert!(missed[0].lasted_seconds > 590.0, "from the beginning on: {}", missed[0].lasted_seconds);
    }
}

#[test]
fn what_was_seen_is_played_from_its_first_step_on() {
    let seen = Trace { gap: Duration::from_mins(5), available: vec![0.0, 50.0, 100.0] };
    let weather = Weather::Seen(seen, Scale::Largest);
    assert_eq!(weather.trace(9, 4, Duration::from_mins(20)).available, [0.0, 2.0, 4.0, 0.0]);
    let question = Question { weather, lasts: Duration::from_mins(15), runs: 1, ..question(&web(4, &pod())) };
    let runs = run(&question, 1, &|_| ()).unwrap();
    // Nothing for five minutes, one of two nodes for four of the next five, and both for four of the last.
    let hours = runs[0].with.spot_node_hours;
    assert!((hours - (4.0 + 1.0 + 8.0) / 60.0).abs() < 0.01, "{hours}");
    let terms = Terms { seed: 3, with_spotalis: false };
    let record = embedded::run(&scenario(&question, 3), terms, |_, _| ()).unwrap();
    let went = record.moments.iter().any(|(_, moment)| matches!(moment, crate::record::Moment::NodeWent { .. }));
    assert!(!went, "what cannot be had from the beginning on was never there");
}

#[test]
fn who_never_ran_costs_nothing_and_who_asks_for_disk_runs() {
    let mut nowhere = pod();
    nowhere["nodeName"] = json!("there-is-none");
    let mut disk = pod();
    disk["containers"][0]["resources"]["requests"]["ephemeral-storage"] = json!("10Gi");
    for (pod, costs) in [(nowhere, false), (disk, true)] {
        let calm = Weather::Seen(Trace { gap: Duration::from_mins(1), available: vec![2.0] }, Scale::Nodes);
        let question = Question { lasts: Duration::from_mins(5), runs: 1, weather: calm, ..question(&web(2, &pod)) };
        let runs = run(&question, 1, &|_| ()).unwrap();
        for side in [&runs[0].with, &runs[0].without] {
            let Figures { cost, at_end, whole_after_seconds, .. } = &side.workloads[0];
            assert_eq!((cost.is_some(), whole_after_seconds.is_some()), (costs, costs), "{cost:?}");
            assert_eq!(at_end.total(), if costs { 2 } else { 0 });
            let told = side.stuck.iter().any(|stuck| stuck.why.starts_with("there is no node there-is-none"));
            assert_eq!(told, !costs, "{:?}", side.stuck);
        }
    }
}
