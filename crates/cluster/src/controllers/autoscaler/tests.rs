//! What is wanted, and what becomes of it, second by second.

use super::*;
use crate::engine::bare::Bare;

fn deployment(replicas: u32) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": "a", "name": "web"}, "spec": {"replicas": replicas}})
}

fn scaler(change: impl FnOnce(&mut Value)) -> Value {
    let mut scaler = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"namespace": "a", "name": "web", "annotations": {}},
        "spec": {"minReplicas": 2, "maxReplicas": 20, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}},
    });
    change(&mut scaler);
    scaler
}

fn target() -> Key {
    Key::new(Kind::Deployment, "a", "web")
}

fn world(replicas: u32, change: impl FnOnce(&mut Value)) -> Bare {
    let world = Bare::new();
    world.run(vec![Box::new(Autoscaler)]);
    world.create(deployment(replicas));
    world.create(scaler(change));
    world
}

fn want(world: &Bare, wanted: u32) {
    world.change(&Key::new(Kind::HorizontalPodAutoscaler, "a", "web"), |scaler| {
        scaler["metadata"]["annotations"][WANTED] = json!(wanted.to_string());
    });
}

/// The sizes that the target takes, each with the second.
async fn sizes(world: &Bare, seconds: u32) -> Vec<(u32, i64)> {
    let size = || world.get(&target()).number("/spec/replicas").unwrap();
    let mut sizes = Vec::new();
    let mut last = size();
    for second in 0..seconds {
        if size() != last {
            last = size();
            sizes.push((second, last));
        }
        world.wait(1.0).await;
    }
    sizes
}

#[tokio::test(start_paused = true)]
async fn it_goes_up_at_the_next_tick_and_at_most_twofold() {
    let world = world(2, |_| ());
    world.wait(16.0).await;
    want(&world, 15);
    assert_eq!(sizes(&world, 100).await, [(15, 6), (30, 12), (45, 15)]);
    want(&world, 30);
    assert_eq!(sizes(&world, 100).await, [(5, 20)]);
}

#[tokio::test(start_paused = true)]
async fn it_goes_down_when_less_was_enough_for_the_whole_window() {
    let world = world(10, |scaler| scaler["metadata"]["annotations"][WANTED] = json!("10"));
    world.wait(15.5).await;
    want(&world, 3);
    world.wait(100.0).await;
    want(&world, 6);
    world.wait(100.0).await;
    want(&world, 4);
    // Ten was wanted until 15 s, six until 215 s: each is forgotten 300 s later, at the next tick.
    let sizes: Vec<(u32, i64)> = sizes(&world, 400).await;
    assert_eq!(sizes, [(100, 6), (310, 4)]);
}

#[tokio::test(start_paused = true)]
async fn without_a_window_it_follows_and_bounds_hold() {
    let world = world(10, |scaler| {
        scaler["spec"]["behavior"] = json!({"scaleDown": {"stabilizationWindowSeconds": 0}});
        scaler["metadata"]["annotations"][WANTED] = json!("1");
    });
    assert_eq!(sizes(&world, 61).await, [(16, 2)]);
    world.wait(0.5).await;
    world.change(&Key::new(Kind::HorizontalPodAutoscaler, "a", "web"), |scaler| {
        scaler["spec"]["minReplicas"] = json!(5);
    });
    assert_eq!(sizes(&world, 60).await, [(14, 5)]);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_somebody_else_scales_is_brought_back_and_zero_means_off() {
    let world = world(4, |scaler| scaler["metadata"]["annotations"][WANTED] = json!("4"));
    world.wait(20.0).await;
    world.change(&target(), |web| web["spec"]["replicas"] = json!(7));
    assert_eq!(sizes(&world, 60).await, [(11, 4)]);
    world.change(&target(), |web| web["spec"]["replicas"] = json!(0));
    assert_eq!(sizes(&world, 60).await, []);
    let scaler = world.get(&Key::new(Kind::HorizontalPodAutoscaler, "a", "web"));
    assert_eq!(scaler.condition("ScalingActive").unwrap()["reason"], "ScalingDisabled");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_while_nothing_changes() {
    let world = world(4, |scaler| scaler["metadata"]["annotations"][WANTED] = json!("4"));
    world.wait(60.0).await;
    let written = world.log().len();
    world.wait(3600.0).await;
    assert_eq!(world.log().len(), written);
}
