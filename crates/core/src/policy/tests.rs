//! The policy's rules one by one, and properties over everything people might write.

use proptest::prelude::*;

use super::*;

/// `key=value` of annotations; keys that begin with `label:` are labels. The prefix is left out.
fn object(pairs: &[(&str, &str)]) -> (Labels, Labels) {
    let (mut annotations, mut labels) = (Labels::new(), Labels::new());
    for (key, value) in pairs {
        let (map, key) = match key.strip_prefix("label:") {
            Some(key) => (&mut labels, key),
            None => (&mut annotations, *key),
        };
        map.insert(format!("{}{key}", keys::PREFIX).into(), (*value).into());
    }
    (annotations, labels)
}

fn resolved(workload: &[(&str, &str)], namespace: &[(&str, &str)]) -> (Policy, Vec<String>) {
    let (policy, problems) = resolved_over(workload, namespace, &Defaults::default());
    (policy, problems.iter().map(ToString::to_string).collect())
}

fn resolved_over(workload: &[(&str, &str)], namespace: &[(&str, &str)], defaults: &Defaults) -> (Policy, Vec<Problem>) {
    let (workload, namespace) = (object(workload), object(namespace));
    resolve(
        &Declared { annotations: &workload.0, labels: &workload.1 },
        &Declared { annotations: &namespace.0, labels: &namespace.1 },
        defaults,
    )
}

fn percent(percent: u8) -> Percentage {
    Percentage::new(percent).unwrap()
}

#[test]
fn nothing_declared_is_all_on_demand_and_asks_for_nothing() {
    let (policy, problems) = resolved(&[], &[]);
    assert_eq!(problems, [""; 0]);
    assert_eq!(policy.target().split(10).spot, 0);
    assert!(!policy.asked_for_spot());
    assert_eq!(policy.standing, Standing::Sound);
    assert_eq!(policy.spot_percentage, Sourced::built_in(None));
    assert_eq!(policy.spot_fallback_after, Sourced::built_in(Some(Duration::from_mins(3))));
    assert_eq!(policy.placement, Sourced::built_in(Placement::Required));
    assert_eq!((policy.window.value, policy.protect), (Window::AlwaysOpen, None));
}

#[test]
fn each_key_is_decided_by_the_highest_level_that_sets_it() {
    let configured = |value| Sourced { value, level: Level::Config };
    let defaults = Defaults { spot_percentage: configured(Some(percent(10))), ..Defaults::default() };
    for (workload, namespace, wanted) in [
        (Some("70%"), Some("50"), Sourced { value: Some(percent(70)), level: Level::Workload }),
        (None, Some("50"), Sourced { value: Some(percent(50)), level: Level::Namespace }),
        (None, None, configured(Some(percent(10)))),
        (Some("0"), Some("50"), Sourced { value: Some(percent(0)), level: Level::Workload }),
    ] {
        let pairs = |value: Option<&'static str>| value.map(|value| ("spot-percentage", value));
        let (policy, problems) = resolved_over(pairs(workload).as_slice(), pairs(namespace).as_slice(), &defaults);
        assert_eq!((policy.spot_percentage, problems), (wanted, vec![]));
        assert!(policy.asked_for_spot());
    }
    let (policy, problems) = resolved(
        &[("min-on-demand", "2"), ("placement", "preferred")],
        &[("spot-percentage", "80"), ("min-on-demand", "1"), ("spot-fallback-after", "never")],
    );
    assert_eq!(problems, [""; 0]);
    assert_eq!(policy.min_on_demand, Sourced { value: Floor::Count(2), level: Level::Workload });
    assert_eq!(policy.placement, Sourced { value: Placement::Preferred, level: Level::Workload });
    assert_eq!(policy.spot_fallback_after, Sourced { value: None, level: Level::Namespace });
    assert_eq!(policy.target().split(10).spot, 8);
}

/// Workload, namespace, what the problems say, standing, spot share of ten.
#[test]
fn a_bad_deciding_value_fails_closed_and_a_shadowed_one_is_only_reported() {
    use Standing::{FailClosed, Sound};
    for (key, bad, good, allowed) in [
        ("spot-percentage", "7O", "70", "an integer from 0 to 100, optionally followed by %"),
        ("spot-percentage", "", "70", "an integer from 0 to 100"),
        ("min-on-demand", "-1", "1", "an integer from 0 to 2147483647, or a percentage from 0% to 100%"),
        ("placement", "Required", "required", "required or preferred"),
    ] {
        for (workload, namespace, standing, says) in [
            (Some(bad), None, FailClosed, "of the workload"),
            (None, Some(bad), FailClosed, "of the namespace"),
            (Some(bad), Some(good), FailClosed, "of the workload"),
            (Some(good), Some(bad), Sound, "of the namespace"),
        ] {
            let other = ("spot-percentage", "70");
            let pairs = |value: Option<&'static str>, rest: &[(&'static str, &'static str)]| {
                value.map(|value| (key, value)).into_iter().chain(rest.iter().copied()).collect::<Vec<_>>()
            };
            let rest = if key == other.0 { vec![] } else { vec![other] };
            let (policy, problems) = resolved(&pairs(workload, &rest), &pairs(namespace, &[]));
            assert_eq!(policy.standing, standing, "{key} {workload:?} {namespace:?}");
            let spot = if standing == Sound { 7 } else { 0 };
            assert_eq!(policy.target().split(10).spot, spot, "{key} {workload:?} {namespace:?}");
            let [problem] = problems.as_slice() else { panic!("one problem, not {problems:?}") };
            let consequence = match standing {
                FailClosed => "until then new pods go to on-demand and no pod is moved",
                Sound => "it has no effect, because the workload has its own value",
            };
            for part in [key, says, allowed, consequence, &format!("is \"{bad}\"")] {
                assert!(problem.contains(part), "{part:?} in {problem:?}");
            }
        }
    }
}

#[test]
fn a_bad_percentage_asks_for_nothing() {
    let (policy, _) = resolved(&[("spot-percentage", "lots")], &[("spot-percentage", "70")]);
    assert_eq!(policy.spot_percentage, Sourced { value: None, level: Level::Workload });
    assert!(!policy.asked_for_spot());
}

#[test]
fn a_bad_fallback_is_unset() {
    let (policy, problems) = resolved(&[("spot-fallback-after", "3 minutes")], &[("spot-fallback-after", "5m")]);
    let five_minutes = Some(Duration::from_mins(5));
    assert_eq!(policy.spot_fallback_after, Sourced { value: five_minutes, level: Level::Namespace });
    assert_eq!(policy.standing, Standing::Sound);
    assert!(problems[0].contains("a duration such as 90s, 5m or 1h30m, of at most 87840h, or never"), "{problems:?}");
    assert!(problems[0].ends_with("until then it counts as not set"), "{problems:?}");
}

#[test]
fn the_window_is_one_value() {
    let night: &[(&str, &str)] = &[("disruption-schedule", "0 2 * * *"), ("disruption-duration", "4h")];
    let zone = ("disruption-time-zone", "Europe/Berlin");
    let (policy, problems) = resolved(&[night[0], night[1], zone], &[]);
    assert_eq!((policy.window.level, problems.as_slice()), (Level::Workload, &[] as &[String]));
    assert_eq!(policy.window.value.to_string(), "opens at `0 2 * * *` for 4h (Europe/Berlin)");
    // The namespace's zone is not mixed into the workload's window.
    let (policy, _) = resolved(night, &[night[0], night[1], zone]);
    assert_eq!(policy.window.value.to_string(), "opens at `0 2 * * *` for 4h (UTC)");
    let (policy, _) = resolved(&[], &[night[0], night[1], zone]);
    assert_eq!(policy.window.level, Level::Namespace);
}

/// Each row: what the workload says over a sound window of its namespace.
#[test]
fn a_bad_window_is_closed_and_nothing_else_changes() {
    let night = [("disruption-schedule", "0 2 * * *"), ("disruption-duration", "4h")];
    for (workload, says) in [
        (&[("disruption-schedule", "0 2 * * *")][..], "disruption-duration"),
        (&[("disruption-duration", "4h")], "disruption-schedule"),
        (&[("disruption-time-zone", "Europe/Berlin")], "the three are one value"),
        (&[("disruption-schedule", ""), ("disruption-duration", "")], "a non-empty value"),
        (&[("disruption-schedule", "0 0 30 2 *"), ("disruption-duration", "4h")], "would never open"),
        (&[("disruption-schedule", "0 2 * * *"), ("disruption-duration", "0s")], "a duration above 0"),
        (&[night[0], night[1], ("disruption-time-zone", "Europe/Berln")], "did you mean Europe/Berlin?"),
    ] {
        let (policy, problems) = resolved(&[workload, &[("spot-percentage", "70")]].concat(), &night);
        assert_eq!(policy.window, Sourced { value: Window::Closed, level: Level::Workload }, "{workload:?}");
        assert_eq!((policy.standing, policy.target().split(10).spot), (Standing::Sound, 7), "{workload:?}");
        assert_eq!(problems.len(), 1, "{problems:?}");
        for part in [says, "until then the disruption window stays closed"] {
            assert!(problems[0].contains(part), "{part:?} in {problems:?}");
        }
        // Shadowed by a sound one it is only reported.
        let (policy, problems) = resolved(&night, workload);
        assert_eq!(policy.window.value.to_string(), "opens at `0 2 * * *` for 4h (UTC)");
        assert!(problems[0].contains("it has no effect"), "{problems:?}");
    }
}

/// Workload label, workload annotation, namespace label, namespace annotation; `-` is not set.
#[test]
fn protect_prefers_no_then_label_then_workload() {
    let (workload, namespace) = (Level::Workload, Level::Namespace);
    let said = |value, level| Some(Sourced { value, level });
    for (values, wanted, problems) in [
        (["-", "-", "-", "-"], None, 0),
        (["true", "-", "-", "-"], said(true, workload), 0),
        (["-", "true", "-", "-"], said(true, workload), 0),
        (["-", "-", "true", "-"], said(true, namespace), 0),
        (["-", "-", "-", "true"], said(true, namespace), 0),
        (["true", "false", "-", "-"], said(false, workload), 0),
        (["true", "true", "true", "false"], said(false, namespace), 0),
        (["-", "true", "false", "-"], said(false, namespace), 0),
        (["yes", "-", "-", "-"], None, 1),
        (["yes", "true", "-", "-"], said(true, workload), 1),
        (["True", "False", "-", "true"], said(true, namespace), 2),
    ] {
        let pair = |key, index: usize| Some((key, values[index])).filter(|(_, value)| *value != "-");
        let on = |first| {
            [pair("label:protect", first), pair("protect", first + 1)].into_iter().flatten().collect::<Vec<_>>()
        };
        let (policy, found) = resolved(&on(0), &on(2));
        assert_eq!(policy.protect, wanted, "{values:?}");
        assert_eq!(found.len(), problems, "{values:?}: {found:?}");
        assert!(found.iter().all(|problem| problem.contains("allowed is exactly true or false")), "{found:?}");
        assert_eq!(policy.standing, Standing::Sound);
    }
}

#[test]
fn strays_are_told_and_change_nothing() {
    for (pair, says) in [
        (("spot-precentage", "70"), Some("unknown and has no effect; did you mean spotalis.io/spot-percentage?")),
        (("colour", "red"), Some("unknown and has no effect. Remove it")),
        (("label:spot-percentage", "70"), Some("has no effect there. Set it as annotation instead")),
        (("enabled", "true"), Some("has no effect there. Set it as label instead")),
        (("label:enabled", "yes"), Some("allowed is exactly true or false")),
        (("label:enabled", "true"), None),
        (("label:enabled", "false"), None),
        (("label:protect", "true"), None),
        // What we write on pods and nodes, and what controllers copy around.
        (("slot", "3"), None),
        (("label:capacity-type", "spot"), None),
        (("admission-id", "x"), None),
        (("placement-reason", "x"), None),
        (("interruption", "x"), None),
    ] {
        let (policy, problems) = resolved(&[pair], &[]);
        assert_eq!(policy.target().split(10).spot, 0, "{pair:?}");
        assert_eq!(policy.standing, Standing::Sound);
        match says {
            Some(says) => assert!(problems.len() == 1 && problems[0].contains(says), "{pair:?}: {problems:?}"),
            None => assert_eq!(problems, [""; 0], "{pair:?}"),
        }
    }
    let mut foreign = Labels::new();
    foreign.insert("spotalis.iox/colour".into(), "".into());
    foreign.insert("kubectl.kubernetes.io/restartedAt".into(), "".into());
    let declared = Declared { annotations: &foreign, labels: &foreign };
    assert_eq!(resolve(&declared, &declared, &Defaults::default()).1, []);
}

#[test]
fn what_is_shown_cannot_act_on_a_terminal() {
    let value = format!("\u{1b}[31m\n{}", "9".repeat(2000));
    let (policy, problems) = resolved(&[("spot-percentage", &value)], &[]);
    assert_eq!(policy.standing, Standing::FailClosed);
    let [problem] = problems.as_slice() else { panic!("one problem, not {problems:?}") };
    assert!(problem.contains("\\u{1b}[31m\\n999") && problem.contains("9…\""), "{problem}");
    assert!(!problem.contains(char::is_control) && problem.len() < 400, "{problem}");
}

/// A value can be right in form and still too long to be meant.
#[test]
fn values_are_capped_at_a_kibibyte() {
    for (length, standing) in [(1024, Standing::Sound), (1025, Standing::FailClosed)] {
        let (policy, _) = resolved(&[("spot-percentage", &"0".repeat(length))], &[]);
        assert_eq!(policy.standing, standing, "{length}");
    }
}

#[test]
fn stray_keys_are_bounded() {
    let names: Vec<String> = (0..5000).map(|index| format!("stray-{index}")).collect();
    let pairs: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
    assert_eq!(resolved(&pairs, &[]).1.len(), MAX_STRAY_KEYS);
}

fn anything() -> impl Strategy<Value = Vec<(String, String)>> {
    let key = prop_oneof![
        "(label:)?(enabled|spot-percentage|min-on-demand|placement|spot-fallback-after|protect)",
        "(label:)?(disruption-schedule|disruption-duration|disruption-time-zone)",
        "(label:)?\\PC{0,10}",
    ];
    let value = prop_oneof![
        "[0-9]{1,3}%?",
        "true|false|required|preferred|never|UTC|Europe/Berlin",
        "[0-9*] [0-9*] \\* \\* [0-9*]",
        "[0-9]{1,2}[hms]",
        "\\PC{0,20}",
    ];
    proptest::collection::vec((key, value), 0..8)
}

proptest! {
    #[test]
    fn any_declaration_resolves(workload in anything(), namespace in anything()) {
        fn borrowed(pairs: &[(String, String)]) -> Vec<(&str, &str)> {
            pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
        }
        let (workload, namespace) = (borrowed(&workload), borrowed(&namespace));
        let (policy, problems) = resolved_over(&workload, &namespace, &Defaults::default());
        let fails_closed = problems.iter().any(|problem| {
            matches!(problem.fault, Fault::Invalid { consequence: Consequence::FailsClosed, .. })
        });
        prop_assert_eq!(policy.standing == Standing::FailClosed, fails_closed);
        if policy.standing == Standing::FailClosed || !policy.asked_for_spot() {
            prop_assert_eq!(policy.target().split(100).spot, 0);
        }
        for problem in &problems {
            prop_assert!(!problem.to_string().contains(char::is_control));
        }
        prop_assert_eq!(resolved_over(&workload, &namespace, &Defaults::default()), (policy, problems));
    }
}
