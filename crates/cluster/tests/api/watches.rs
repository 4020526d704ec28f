//! Watches: what is told, in which order, and what happens to who lags.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, pin_mut};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{WatchEvent, WatchParams};
use kube::runtime::watcher::{self, Event, InitialListStrategy};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::world::{MAPS, MERGE, PODS, World, map, pod};

fn shown<K: ResourceExt>(event: &WatchEvent<K>) -> String {
    match event {
        WatchEvent::Added(object) => format!("+{}", object.name_any()),
        WatchEvent::Modified(object) => format!("~{}", object.name_any()),
        WatchEvent::Deleted(object) => format!("-{}", object.name_any()),
        WatchEvent::Bookmark(_) => "bookmark".to_owned(),
        WatchEvent::Error(status) => format!("error {}", status.code),
    }
}

/// What a watch of pods tells until nothing more happens.
async fn told(world: &World, params: &WatchParams, from: &str) -> Vec<String> {
    let pods: Api<Pod> = Api::default_namespaced(world.client.clone());
    let stream = pods.watch(params, from).await.unwrap();
    let mut seen = Vec::new();
    pin_mut!(stream);
    while let Ok(Some(event)) = timeout(Duration::from_secs(1), stream.next()).await {
        seen.push(shown(&event.unwrap()));
    }
    seen
}

#[tokio::test(start_paused = true)]
async fn a_watch_begins_where_it_is_told() {
    let world = World::new();
    let a = world.made(PODS, &pod("a")).await;
    world.made(PODS, &pod("b")).await;
    world.patch(&format!("{PODS}/a"), MERGE, &json!({"metadata": {"labels": {"x": "y"}}})).await;
    world.delete(&format!("{PODS}/b"), &Value::Null).await;
    let params = WatchParams::default().disable_bookmarks();
    assert_eq!(told(&world, &params, "0").await, ["+a"]);
    assert_eq!(told(&world, &params, "").await, ["+a"]);
    let from = a["metadata"]["resourceVersion"].as_str().unwrap();
    assert_eq!(told(&world, &params, from).await, ["+b", "~a", "~b", "-b"]);
    world.cluster.compact();
    assert_eq!(told(&world, &params, from).await, ["error 410"]);
}

#[tokio::test(start_paused = true)]
async fn objects_enter_and_leave_a_selection() {
    let world = World::new();
    let params = WatchParams::default().labels("x=y").disable_bookmarks();
    let from = world.cluster.read(embedded_cluster::store::Store::revision).to_string();
    world.made(PODS, &pod("a")).await;
    for labels in [json!({"x": "y"}), json!({"z": "z"}), json!({"x": "n"}), json!({"x": "y"})] {
        world.patch(&format!("{PODS}/a"), MERGE, &json!({"metadata": {"labels": labels}})).await;
    }
    assert_eq!(told(&world, &params, &from).await, ["+a", "~a", "-a", "+a"]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_all_ends_with_a_mark() {
    let world = World::new();
    world.made(PODS, &pod("a")).await;
    let params = WatchParams::default().initial_events();
    assert_eq!(told(&world, &params, "").await, ["+a", "bookmark"]);
    let pods: Api<Pod> = Api::default_namespaced(world.client.clone());
    let events: Vec<_> = pods.watch(&params.timeout(1), "").await.unwrap().try_collect().await.unwrap();
    let Some(WatchEvent::Bookmark(mark)) = events.last() else { panic!("{events:?}") };
    assert_eq!(mark.metadata.annotations["k8s.io/initial-events-end"], "true");
}

#[tokio::test(start_paused = true)]
async fn a_quiet_watch_gets_bookmarks_and_ends_in_time() {
    let world = World::new();
    let pods: Api<Pod> = Api::default_namespaced(world.client.clone());
    let started = Instant::now();
    let events: Vec<_> =
        pods.watch(&WatchParams::default().timeout(200), "1").await.unwrap().try_collect().await.unwrap();
    assert_eq!(started.elapsed(), Duration::from_secs(200));
    assert_eq!(events.iter().map(shown).collect::<Vec<_>>(), ["bookmark"; 4]);
}

/// Both ways in which a client can begin see the same.
#[tokio::test(start_paused = true)]
async fn the_watcher_of_the_runtime_follows() {
    for strategy in [InitialListStrategy::ListWatch, InitialListStrategy::StreamingList] {
        let world = World::new();
        world.made(MAPS, &map("a")).await;
        let maps: Api<ConfigMap> = Api::default_namespaced(world.client.clone());
        let config = watcher::Config {
            initial_list_strategy: strategy.clone(),
            page_size: Some(1),
            ..watcher::Config::default()
        };
        let events = watcher::watcher(maps, config);
        pin_mut!(events);
        let mut seen: Vec<String> = Vec::new();
        let mut next = async |seen: &mut Vec<String>, count: usize| {
            for _ in 0..count {
                seen.push(match events.next().await.unwrap().unwrap() {
                    Event::Init => "init".to_owned(),
                    Event::InitApply(map) => format!("is {}", map.name_any()),
                    Event::InitDone => "done".to_owned(),
                    Event::Apply(map) => format!("apply {}", map.name_any()),
                    Event::Delete(map) => format!("delete {}", map.name_any()),
                });
            }
        };
        next(&mut seen, 3).await;
        world.made(MAPS, &map("b")).await;
        world.delete(&format!("{MAPS}/a"), &Value::Null).await;
        next(&mut seen, 2).await;
        assert_eq!(seen, ["init", "is a", "done", "apply b", "delete a"], "{strategy:?}");
        // Lost: everything changed and was forgotten while the connection was down.
        world.cluster.compact();
        world.made(MAPS, &map("c")).await;
        next(&mut seen, 1).await;
        assert_eq!(seen.last().unwrap(), "apply c");
    }
}

#[tokio::test(start_paused = true)]
async fn history_is_forgotten_after_a_while() {
    let world = World::new();
    let first = world.made(MAPS, &map("a")).await;
    let from = first["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let path = format!("{MAPS}?watch=true&timeoutSeconds=1&resourceVersion={from}");
    world.made(MAPS, &map("b")).await;
    let told = |answer: (u16, Value)| answer.1.to_string();
    assert!(told(world.get(&path).await).contains("ADDED"));
    for name in ["c", "d", "e", "f"] {
        tokio::time::sleep(Duration::from_mins(4)).await;
        world.made(MAPS, &map(name)).await;
    }
    assert!(told(world.get(&path).await).contains("too old resource version"));
}
