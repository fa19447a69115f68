//! What a pod was made with is what counts when tasks begin there.

use crate::places::*;
use crate::support::*;
use filstar_crds::*;
use filstar_placement::{POOL_BYTES, needs};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

/// The same pod, told of a pool of so many bytes.
fn with_pool(mut pod: Pod, bytes: u64) -> Pod {
    let container = &mut pod.spec.as_mut().unwrap().containers[0];
    let env = container.env.as_mut().unwrap();
    let pool = env.iter_mut().find(|e| e.name == POOL_BYTES).unwrap();
    pool.value = Some(bytes.to_string());
    pod
}

#[test]
fn pods_are_told_the_pool_that_counts_when_pc1_begin_there() {
    let mut world = large_node();
    let lane = json!({"name": "seal", "phases": ALL, "cpus": 4, "memory": "4Gi", "concurrency": 4});
    lanes(&mut world, json!([lane]), "Kubelet");
    let pod = made(&world).remove(0);
    let told = needs::pool(2 << 10, 4 << 30);
    assert_eq!(env(&pod, POOL_BYTES), Some(told.to_string()));
    for number in 0..3 {
        world
            .sectors
            .apply(numbered(sector(SectorPhase::Pc1), number));
    }
    // What an earlier version told it holds, whatever this one would say.
    let two = needs::layers_in_pool(2 << 10, 2, 1);
    for (version, bytes, begin) in [(2, told, 3), (3, two, 2), (4, two - 1, 1), (5, 1, 0)] {
        let mut pod = running(with_pool(pod.clone(), bytes));
        pod.metadata.resource_version = Some(version.to_string());
        world.pods.apply(pod);
        assert_eq!(bound(&world, 0, TaskKind::Pc1).len(), begin, "{bytes}");
    }
    let none =
        json!({"name": "seal", "phases": ALL, "cpus": 4, "memory": "4Gi", "memoryPool": false});
    lanes(&mut world, json!([none]), "Kubelet");
    world.pods = filstar_core::world::Index::default();
    assert_eq!(env(&made(&world)[0], POOL_BYTES), None);
}

#[test]
fn pod_has_the_memory_that_it_was_made_with_and_not_what_its_lane_says_since() {
    let mut world = contested("64Gi", 3);
    assert_eq!(bound(&world, 0, TaskKind::C2).len(), 2);
    let mut pod = sealer_pod("node-a");
    pod.metadata.resource_version = Some("2".into());
    let container = json!([{"name": "seal", "resources": {"limits": {"memory": "4Gi"}}}]);
    pod.spec.as_mut().unwrap().containers = serde_json::from_value(container).unwrap();
    world.pods.apply(pod);
    assert_eq!(bound(&world, 0, TaskKind::C2).len(), 1);
}
