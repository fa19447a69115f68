//! What placement promises, as data.

use std::collections::{BTreeMap, BTreeSet};

use filstar_crds::LanePhase;
use filstar_placement::layouts::{self, Shape, lane};
use filstar_placement::*;
use proptest::prelude::*;

const GIB: u64 = 1 << 30;

fn two_sockets() -> Server {
    let shape = Shape {
        packages: 2,
        numa: 2,
        groups: 4,
        cores: 4,
        threads: 2,
        memory_gib: 1024,
    };
    shape.server(&[1, 3])
}

fn pc1(cpus: u32, memory: u64) -> LaneRequest {
    lane("pc1", &[LanePhase::Pc1], cpus, memory)
}

fn why(plan: &ServerPlan) -> Vec<String> {
    plan.left
        .iter()
        .map(|left| match left {
            LeftOver::Pod {
                lane, pods, why, ..
            } => format!("{pods} of {lane}: {why}"),
            LeftOver::Group { group, why, .. } => format!("group {group}: {why}"),
        })
        .collect()
}

#[test]
fn pods_get_whole_core_groups_from_the_last_and_never_the_first() {
    let lanes = [LaneRequest {
        pods: None,
        ..pc1(8, 30)
    }];
    let plan = place(&two_sockets(), &lanes, &[]);
    let groups: Vec<u32> = plan.pods.iter().flat_map(|p| p.groups.clone()).collect();
    assert_eq!(plan.pods.len(), 15);
    assert_eq!(groups.iter().collect::<BTreeSet<_>>().len(), 15);
    assert!(!groups.contains(&0));
    assert_eq!(why(&plan), ["group 0: left to the system (skipFirst)"]);
    let one = place(&two_sockets(), &[pc1(8, 30)], &[]);
    assert_eq!(
        one.pods[0].groups,
        [11],
        "the last group of a NUMA node whose GPU nobody else needs, so not 15"
    );
    assert_eq!(write_cpus(&one.pods[0].cpus), "44-47,108-111");
}

#[test]
fn what_a_prover_has_is_booked_before_lanes_take_what_is_left() {
    let prover = filstar_crds::ProverLane {
        cpus: 10,
        memory: "200Gi".into(),
        core_groups: Some(serde_json::from_str("{}").unwrap()),
        backend: filstar_crds::Backend::Kubelet,
    };
    let prover = LaneRequest::of_prover("prover ns/b", &prover).unwrap();
    let mut server = two_sockets();
    server.cpu_limit = Some(128);
    let place_of_it = place(&server, &[prover], &[]).pods.remove(0);
    assert_eq!((place_of_it.groups.len(), place_of_it.numa.len()), (2, 1));
    let before: u64 = server.numa.iter().map(|n| n.memory).sum();
    server.book(&place_of_it);
    let after: u64 = server.numa.iter().map(|n| n.memory).sum();
    assert_eq!(before - after, 200 * GIB);
    assert_eq!(server.cpu_limit, Some(112));
}

#[test]
fn cpus_are_rounded_up_to_whole_groups_and_it_says_so() {
    let plan = place(&two_sockets(), &[pc1(10, 30)], &[]);
    let pod = &plan.pods[0];
    assert_eq!((pod.groups.len(), pod.cpus.len()), (2, 16));
    let text = pod.why[0].to_string();
    assert!(
        text.contains("10 CPUs asked, whole groups have 16"),
        "{text}"
    );
}

#[test]
fn a_gpu_is_on_the_numa_node_of_the_cpus() {
    let lanes = [LaneRequest {
        gpus: 1,
        pods: Some(3),
        ..pc1(8, 30)
    }];
    let plan = place(&two_sockets(), &lanes, &[]);
    let got: Vec<_> = plan
        .pods
        .iter()
        .map(|p| (p.numa.clone(), p.gpus.clone()))
        .collect();
    assert_eq!(
        got,
        [
            (vec![3], vec!["GPU-1".to_owned()]),
            (vec![1], vec!["GPU-0".to_owned()])
        ]
    );
    assert!(
        why(&plan).contains(&"1 of pc1: needs 1 GPUs, 0 are free".to_owned()),
        "{:?}",
        why(&plan)
    );
}

#[test]
fn cpus_of_several_numa_nodes_are_taken_where_the_gpu_is() {
    let server = Shape {
        packages: 2,
        numa: 2,
        groups: 2,
        cores: 2,
        threads: 1,
        memory_gib: 64,
    };
    let lanes = [LaneRequest {
        gpus: 1,
        groups: None,
        ..lane("wide", &[LanePhase::Pc2], 5, 1)
    }];
    let plan = place(&server.server(&[2]), &lanes, &[]);
    assert_eq!(why(&plan).iter().filter(|w| w.contains("wide")).count(), 0);
    let pod = plan.pods.first().expect("the pod has a place");
    assert!(pod.numa.contains(&2), "{pod:?}");
}

#[test]
fn a_gpu_on_the_far_socket_is_not_taken() {
    let mut server = two_sockets();
    // All groups of the GPU's NUMA nodes but one are excluded.
    server.gpus.truncate(1);
    let mut wants = LaneRequest {
        gpus: 1,
        ..pc1(8, 30)
    };
    wants.groups.as_mut().unwrap().include = vec![12, 13];
    let plan = place(&server, &[wants], &[]);
    assert!(plan.pods.is_empty());
    assert!(
        why(&plan)[0].contains("the free ones are elsewhere"),
        "{:?}",
        why(&plan)
    );
}

#[test]
fn a_pod_that_no_numa_node_holds_spans_only_where_it_may() {
    let wide = pc1(40, 30);
    let plan = place(&two_sockets(), std::slice::from_ref(&wide), &[]);
    assert!(
        why(&plan)[0].contains("needs 5 whole core groups, a NUMA node of this server has 4"),
        "{:?}",
        why(&plan)
    );
    let plan = place(
        &two_sockets(),
        &[LaneRequest {
            may_span: true,
            ..wide
        }],
        &[],
    );
    assert_eq!(plan.pods[0].numa, [2, 3]);
}

#[test]
fn memory_is_counted_on_the_numa_node() {
    let lanes = [LaneRequest {
        pods: None,
        ..pc1(8, 200)
    }];
    let plan = place(&two_sockets(), &lanes, &[]);
    assert_eq!(plan.pods.len(), 4, "one on each NUMA node of 256 GiB");
    assert!(
        why(&plan)
            .iter()
            .any(|w| w.contains("needs 200 GiB of memory on one NUMA node, at most 56 GiB")),
        "{:?}",
        why(&plan)
    );
}

#[test]
fn huge_pages_are_counted_by_page_and_numa_node() {
    let mut server = two_sockets();
    server.numa[2].huge = BTreeMap::from([(GIB, 64)]);
    let lanes = [LaneRequest {
        huge: Some((GIB, 60 * GIB)),
        pods: Some(2),
        ..pc1(8, 10)
    }];
    let plan = place(&server, &lanes, &[]);
    assert_eq!(plan.pods.len(), 1);
    assert_eq!(plan.pods[0].numa, [2]);
    assert!(
        why(&plan)[0]
            .contains("needs 60 GiB of huge pages of 1 GiB on one NUMA node, at most 4 GiB"),
        "{:?}",
        why(&plan)
    );
}

#[test]
fn what_a_live_pod_holds_stays_its_own() {
    let lanes = [LaneRequest {
        pods: Some(2),
        ..pc1(8, 30)
    }];
    let held = |index, group: u32| Held {
        owner: "example/group".into(),
        lane: "pc1".into(),
        index,
        cpus: two_sockets().groups[group as usize].cpus(),
    };
    let plan = place(&two_sockets(), &lanes, &[held(0, 5)]);
    assert_eq!(plan.pods[0].groups, [5]);
    assert_ne!(plan.pods[1].groups, [5]);
    // A pod that nobody wants any more keeps its CPUs until it is gone.
    let stranger = Held {
        lane: "gone".into(),
        ..held(7, 11)
    };
    let plan = place(&two_sockets(), &lanes, &[stranger]);
    assert!(plan.pods.iter().all(|p| p.groups != [11]));
}

#[test]
fn loose_cpus_come_from_the_group_that_lanes_leave_out() {
    let mut loose = lane("small", &[LanePhase::AddPiece], 2, 4);
    loose.groups = None;
    let lanes = [
        LaneRequest {
            pods: None,
            ..pc1(8, 30)
        },
        loose,
    ];
    let plan = place(&two_sockets(), &lanes, &[]);
    let small = plan.lane("example/group", "small").next().unwrap();
    assert_eq!(small.groups, [0]);
    assert_eq!(plan.pods.len(), 16);
}

#[test]
fn asymmetric_groups_offline_cores_and_partial_cpusets_are_taken_as_they_are() {
    let mut server = two_sockets();
    server.groups[15].cores.truncate(1); // three cores offline
    server.groups[14].cores.clear(); // not ours at all
    let lanes = [LaneRequest {
        pods: None,
        ..pc1(8, 10)
    }];
    let plan = place(&server, &lanes, &[]);
    assert!(
        plan.pods.iter().all(|p| p.cpus.len() >= 8),
        "no pod has less than it asked for"
    );
    assert!(plan.pods.iter().all(|p| !p.groups.contains(&14)));
}

#[test]
fn no_more_cpus_are_given_than_kubelet_has() {
    let server = Server {
        cpu_limit: Some(20),
        ..two_sockets()
    };
    let lanes = [LaneRequest {
        pods: None,
        ..pc1(8, 10)
    }];
    let plan = place(&server, &lanes, &[]);
    assert_eq!(plan.pods.len(), 2);
    assert!(
        why(&plan)
            .iter()
            .any(|w| w.contains("needs 8 CPUs, 4 are free")),
        "{:?}",
        why(&plan)
    );
}

#[test]
fn published_layouts_are_packed_to_95_percent() {
    for layout in layouts::all() {
        let packing = layouts::pack(&layout);
        assert!(
            packing.share() >= 9_500,
            "{}: {packing:?} {:?}",
            layout.name,
            why(&place(&layout.server, &layout.lanes, &[]))
        );
    }
}

fn any_server() -> impl Strategy<Value = Server> {
    (
        1..3u32,
        1..3u32,
        1..5u32,
        1..5u32,
        1..3u32,
        128..1024u64,
        prop::collection::vec(0..4u32, 0..4),
    )
        .prop_map(
            |(packages, numa, groups, cores, threads, memory_gib, gpus)| {
                let shape = Shape {
                    packages,
                    numa,
                    groups,
                    cores,
                    threads,
                    memory_gib,
                };
                let nodes = packages * numa;
                shape.server(&gpus.iter().map(|g| g % nodes).collect::<Vec<_>>())
            },
        )
}

fn any_lanes() -> impl Strategy<Value = Vec<LaneRequest>> {
    let one = (
        1..12u32,
        1..64u64,
        0..2u32,
        any::<bool>(),
        prop::option::of(0..3u32),
        any::<bool>(),
    );
    prop::collection::vec(one, 1..4).prop_map(|all| {
        all.into_iter()
            .enumerate()
            .map(|(at, (cpus, memory, gpus, whole, pods, may_span))| {
                let mut l = lane(&format!("l{at}"), &[LanePhase::Pc1], cpus, memory);
                if !whole {
                    l.groups = None;
                }
                LaneRequest {
                    gpus,
                    pods,
                    may_span,
                    ..l
                }
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn nothing_is_given_twice_and_no_numa_node_gives_more_than_it_has(server in any_server(), lanes in any_lanes()) {
        let plan = place(&server, &lanes, &[]);
        let mut cpus = BTreeSet::new();
        let mut gpus = BTreeSet::new();
        let mut memory: BTreeMap<Vec<u32>, u64> = BTreeMap::new();
        for pod in &plan.pods {
            let wanted = lanes.iter().find(|l| l.name == pod.lane).unwrap();
            prop_assert!(pod.cpus.len() >= wanted.cpus as usize);
            prop_assert_eq!(pod.gpus.len(), wanted.gpus as usize);
            for cpu in &pod.cpus {
                prop_assert!(cpus.insert(*cpu), "cpu {} twice", cpu);
            }
            for gpu in &pod.gpus {
                prop_assert!(gpus.insert(gpu.clone()), "{} twice", gpu);
                let numa = server.gpus.iter().find(|g| &g.id == gpu).unwrap().numa.unwrap();
                prop_assert!(pod.numa.contains(&numa));
            }
            if wanted.groups.is_some() {
                let whole: u32 = server.groups.iter().filter(|g| pod.groups.contains(&g.id)).map(CoreGroup::threads).sum();
                prop_assert_eq!(whole as usize, pod.cpus.len());
                prop_assert!(!pod.groups.contains(&0));
            }
            *memory.entry(pod.numa.clone()).or_default() += pod.memory;
        }
        let total: u64 = server.numa.iter().map(|n| n.memory).sum();
        prop_assert!(memory.values().sum::<u64>() <= total);
        for numa in &server.numa {
            let used = memory.get(&vec![numa.id]).copied().unwrap_or(0);
            prop_assert!(used <= numa.memory);
        }
        prop_assert_eq!(&plan, &place(&server, &lanes, &[]));
    }

    #[test]
    fn pods_that_run_keep_their_places_when_all_is_planned_again(server in any_server(), lanes in any_lanes()) {
        let plan = place(&server, &lanes, &[]);
        let held: Vec<Held> = plan.pods.iter().map(|p| Held {
            owner: p.owner.clone(), lane: p.lane.clone(), index: p.index, cpus: p.cpus.clone(),
        }).collect();
        let again = place(&server, &lanes, &held);
        let places = |plan: &ServerPlan| plan.pods.iter().map(|p| (p.lane.clone(), p.index, p.cpus.clone())).collect::<BTreeSet<_>>();
        let (before, after) = (places(&plan), places(&again));
        // What found no place at first may find one around what runs.
        prop_assert!(before.is_subset(&after), "{before:?} became {after:?}");
    }

    #[test]
    fn lists_of_the_kernel_are_read_as_they_are_written(cpus in prop::collection::btree_set(0..300u32, 0..40)) {
        let cpus: Vec<u32> = cpus.into_iter().collect();
        prop_assert_eq!(parse_cpus(&write_cpus(&cpus)), Some(cpus));
    }
}
