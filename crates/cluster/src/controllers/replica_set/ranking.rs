//! Which pods go first when there are too many. The order is that of Kubernetes (`ActivePodsWithRanks` in its
//! `pkg/controller`), down to the logarithm of ages.
//!
//! It does not decide how many go.

use std::cmp::{Ordering, Reverse};

use jiff::Timestamp;
use serde_json::Value;

use crate::controllers::pods::{is_ready, ready_since};
use crate::object::Object;

/// The annotation with which a pod says how dear it is.
pub const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Compares two pods: the lesser goes first. Each comes with the number of active pods of its set, and of the sets beside
/// it, on its node.
pub fn compare((a, beside_a): (&Object, usize), (b, beside_b): (&Object, usize), now: Timestamp) -> Ordering {
    let assigned = |pod: &Object| !pod.node().is_empty();
    assigned(a)
        .cmp(&assigned(b))
        .then_with(|| phase(a).cmp(&phase(b)))
        .then_with(|| is_ready(a).cmp(&is_ready(b)))
        .then_with(|| cost(a).cmp(&cost(b)))
        .then_with(|| beside_b.cmp(&beside_a))
        .then_with(|| by_age((a, ready_since(a)), (b, ready_since(b)), now))
        .then_with(|| Reverse(restarts(a)).cmp(&Reverse(restarts(b))))
        .then_with(|| by_age((a, Some(a.created())), (b, Some(b.created())), now))
}

/// Pods in their order. A merge sort of its own: the order of Kubernetes is not transitive where pods became ready in the same
/// second and others in another one of about the same age, and the sorts of the standard library may panic on that.
pub fn in_order<T: Copy>(pods: &[T], compare: &impl Fn(&T, &T) -> Ordering) -> Vec<T> {
    if pods.len() < 2 {
        return pods.to_vec();
    }
    let (left, right) = pods.split_at(pods.len() / 2);
    let (left, right) = (in_order(left, compare), in_order(right, compare));
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    let mut merged = Vec::with_capacity(pods.len());
    while let (Some(one), Some(other)) = (left.peek(), right.peek()) {
        let next = if compare(other, one) == Ordering::Less { right.next() } else { left.next() };
        merged.extend(next);
    }
    merged.extend(left);
    merged.extend(right);
    merged
}

/// The newer first, but ages of the same power of two (in nanoseconds) count as the same: then the UID decides.
fn by_age(
    (a, since_a): (&Object, Option<Timestamp>),
    (b, since_b): (&Object, Option<Timestamp>),
    now: Timestamp,
) -> Ordering {
    let (Some(since_a), Some(since_b)) = (since_a, since_b) else { return Ordering::Equal };
    if since_a == since_b {
        return Ordering::Equal;
    }
    magnitude(since_a, now).cmp(&magnitude(since_b, now)).then_with(|| a.uid().cmp(b.uid()))
}

fn magnitude(since: Timestamp, now: Timestamp) -> Option<u32> {
    u128::try_from(now.duration_since(since).as_nanos()).ok().and_then(u128::checked_ilog2)
}

fn phase(pod: &Object) -> u8 {
    match pod.text("/status/phase") {
        Some("Running") => 2,
        Some("Unknown") => 1,
        _ => 0,
    }
}

fn cost(pod: &Object) -> i32 {
    pod.annotation(DELETION_COST).and_then(|cost| cost.parse().ok()).unwrap_or(0)
}

fn restarts(pod: &Object) -> i64 {
    let count = |status: &Value| status["restartCount"].as_i64().unwrap_or(0);
    pod.list("/status/containerStatuses").iter().map(count).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> Timestamp {
        "2026-03-01T12:00:00Z".parse().unwrap()
    }

    /// A ready pod on a node, an hour old, and what is different about it.
    fn pod(uid: &str, change: impl FnOnce(&mut Value)) -> Object {
        let mut pod = json!({
            "metadata": {"uid": uid, "creationTimestamp": "2026-03-01T11:00:00Z", "annotations": {}},
            "spec": {"nodeName": "n"},
            "status": {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-03-01T11:00:00Z"}],
                "containerStatuses": [{"restartCount": 0}, {"restartCount": 1}],
            },
        });
        change(&mut pod);
        Object::from(pod)
    }

    fn ready(since: &'static str) -> impl FnOnce(&mut Value) {
        move |pod| pod["status"]["conditions"][0]["lastTransitionTime"] = json!(since)
    }

    fn created(at: &'static str) -> impl FnOnce(&mut Value) {
        move |pod| pod["metadata"]["creationTimestamp"] = json!(at)
    }

    fn costs(cost: &'static str) -> impl FnOnce(&mut Value) {
        move |pod| pod["metadata"]["annotations"][DELETION_COST] = json!(cost)
    }

    fn unready(pod: &mut Value) {
        pod["status"]["conditions"][0]["status"] = json!("False");
    }

    #[test]
    fn every_criterion_decides_only_where_those_before_it_do_not() {
        let plain = || pod("m", |_| ());
        let table: Vec<(&str, Object, Object)> = vec![
            (
                "unassigned",
                pod("z", |pod| pod["spec"] = json!({})),
                pod("a", |pod| pod["status"]["phase"] = json!("Pending")),
            ),
            ("pending", pod("z", |pod| pod["status"]["phase"] = json!("Pending")), pod("a", unready)),
            (
                "not ready",
                pod("z", |pod| {
                    unready(pod);
                    costs("9")(pod);
                }),
                plain(),
            ),
            ("cheaper", pod("z", costs("-1")), pod("a", ready("2026-03-01T11:59:59Z"))),
            ("cheaper than nothing said", pod("z", costs("-2147483648")), plain()),
            (
                "ready for less",
                pod("z", ready("2026-03-01T11:59:00Z")),
                pod("a", |pod| pod["status"]["containerStatuses"][0]["restartCount"] = json!(9)),
            ),
            (
                "ready for about as long",
                pod("a", ready("2026-03-01T11:00:00Z")),
                pod("z", ready("2026-03-01T11:05:00Z")),
            ),
            (
                "more restarts",
                pod("z", |pod| pod["status"]["containerStatuses"][0]["restartCount"] = json!(2)),
                pod("a", created("2026-03-01T11:59:00Z")),
            ),
            ("newer", pod("z", created("2026-03-01T11:59:00Z")), plain()),
        ];
        for (name, first, second) in table {
            assert_eq!(compare((&first, 1), (&second, 1), now()), Ordering::Less, "{name}");
            assert_eq!(compare((&second, 1), (&first, 1), now()), Ordering::Greater, "{name}");
        }
    }

    #[test]
    fn an_order_that_runs_in_a_circle_is_an_order_still() {
        let pods: Vec<Object> = (0..60)
            .map(|number: u32| {
                let since = format!("2026-03-01T11:50:{:02}Z", number % 3);
                let made = format!("2026-03-01T11:{:02}:00Z", number * 7 % 50);
                pod(&format!("{:02}", number * 37 % 60), |pod| {
                    pod["status"]["conditions"][0]["lastTransitionTime"] = json!(since);
                    pod["metadata"]["creationTimestamp"] = json!(made);
                })
            })
            .collect();
        let numbers: Vec<usize> = (0..60).collect();
        let less = |a: &usize, b: &usize| compare((&pods[*a], 1), (&pods[*b], 1), now());
        let circle = |a, b, c| less(&a, &b).is_lt() && less(&b, &c).is_lt() && less(&c, &a).is_lt();
        assert!((0..60).any(|a| (0..60).any(|b| (0..60).any(|c| circle(a, b, c)))), "there is a circle");
        let mut ordered = in_order(&numbers, &less);
        ordered.sort_unstable();
        assert_eq!(ordered, numbers, "nobody is lost");
        let plain = in_order(&[3, 1, 2, 1], &|a: &i32, b: &i32| a.cmp(b));
        assert_eq!(plain, [1, 1, 2, 3]);
    }

    #[test]
    fn the_fuller_node_loses_first_but_not_before_the_cheaper_pod() {
        let (a, b) = (pod("a", |_| ()), pod("b", ready("2026-03-01T11:59:00Z")));
        assert_eq!(compare((&a, 2), (&b, 1), now()), Ordering::Less);
        assert_eq!(compare((&a, 1), (&b, 1), now()), Ordering::Greater);
        let cheap = pod("c", costs("-5"));
        assert_eq!(compare((&cheap, 1), (&a, 9), now()), Ordering::Less);
        assert_eq!(compare((&a, 1), (&pod("b", |_| ()), 1), now()), Ordering::Equal);
    }
}
