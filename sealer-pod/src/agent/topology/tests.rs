use super::*;

fn synthetic(description: &str) -> Inventory {
    let builder = Topology::builder().from_synthetic(description).unwrap();
    inventory(&builder.build().unwrap())
}

fn recorded(name: &str) -> Inventory {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/nodes");
    inventory(&of_file(&folder.join(name)).unwrap())
}

/// Packages, NUMA nodes, groups, cores of the first and the last group.
fn shape(i: &Inventory) -> (u32, usize, usize, usize, usize) {
    let cores = |group: Option<&CoreGroup>| group.map_or(0, |g| g.cores.len());
    let (first, last) = (i.core_groups.first(), i.core_groups.last());
    (
        i.packages,
        i.numa_nodes.len(),
        i.core_groups.len(),
        cores(first),
        cores(last),
    )
}

/// Core groups by NUMA node.
fn groups_of(i: &Inventory) -> Vec<Vec<u32>> {
    let of = |node: u32| i.core_groups.iter().filter(move |g| g.numa_node == node);
    i.numa_nodes
        .iter()
        .map(|n| of(n.id).map(|g| g.id).collect())
        .collect()
}

/// What holds for every machine: ids count up, no CPU is in two places, and CPUs of a group are those of its node.
fn holds(i: &Inventory) {
    let mut seen = BTreeSet::new();
    for (n, group) in i.core_groups.iter().enumerate() {
        assert_eq!(group.id as usize, n);
        assert!(!group.cores.is_empty());
        let node = i
            .numa_nodes
            .iter()
            .find(|n| n.id == group.numa_node)
            .unwrap();
        let near = crate::placement::parse_list(&node.cpus).unwrap();
        for cpu in group.cores.iter().flatten() {
            assert!(seen.insert(*cpu), "cpu {cpu} is in two groups");
            assert!(
                near.contains(cpu),
                "cpu {cpu} is not next to node {}",
                node.id
            );
        }
        for core in &group.cores {
            assert!(core.is_sorted(), "the first thread comes first: {core:?}");
        }
    }
    let lists = i
        .numa_nodes
        .iter()
        .filter_map(|n| crate::placement::parse_list(&n.cpus));
    assert_eq!(
        lists.flatten().count(),
        seen.len(),
        "nodes and groups have the same CPUs"
    );
}

#[test]
fn two_socket_epyc_has_sixteen_groups_whatever_the_nodes_per_socket() {
    let layouts = [
        (
            "Package:2 [NUMANode(memory=512GiB)] L3Cache:8(size=32MiB) Core:8 PU:2(indexes=2*128:128*1)",
            2,
            8,
        ),
        (
            "Package:2 Group:2 [NUMANode(memory=256GiB)] L3Cache:4(size=32MiB) Core:8 PU:2(indexes=2*128:128*1)",
            4,
            4,
        ),
        (
            "Package:2 Group:4 [NUMANode(memory=128GiB)] L3Cache:2(size=32MiB) Core:8 PU:2(indexes=2*128:128*1)",
            8,
            2,
        ),
    ];
    for (layout, nodes, groups) in layouts {
        let machine = synthetic(layout);
        holds(&machine);
        assert_eq!(shape(&machine), (2, nodes, 16, 8, 8), "{layout}");
        assert!(
            groups_of(&machine).iter().all(|g| g.len() == groups),
            "{layout}"
        );
        let last = &machine.core_groups[15];
        assert_eq!((last.package, last.l3), (1, 32 << 20));
        assert_eq!(
            last.cores[0],
            [120, 248],
            "the sibling has the higher number"
        );
        let memory: u64 = machine.numa_nodes.iter().map(|n| n.memory).sum();
        assert_eq!(memory, 1 << 40, "{layout}");
    }
}

#[test]
fn threadripper_has_groups_of_four_cores_on_one_node() {
    let machine = synthetic(
        "Package:1 [NUMANode(memory=256GiB)] L3Cache:8(size=16MiB) Core:4 PU:2(indexes=2*32:32*1)",
    );
    holds(&machine);
    assert_eq!(shape(&machine), (1, 1, 8, 4, 4));
    assert_eq!(machine.numa_nodes[0].cpus, "0-63");
}

#[test]
fn xeon_has_one_group_for_each_package() {
    let machine = synthetic(
        "Package:2 [NUMANode(memory=256GiB)] L3Cache:1(size=48MiB) Core:32 PU:2(indexes=2*64:64*1)",
    );
    holds(&machine);
    assert_eq!(shape(&machine), (2, 2, 2, 32, 32));
}

#[test]
fn an_l3_that_spans_sub_numa_clusters_is_one_group_for_each_with_its_share() {
    let machine = synthetic(
        "Package:2 L3Cache:1(size=60MiB) Group:2 [NUMANode(memory=128GiB)] Core:14 PU:2(indexes=2*56:56*1)",
    );
    holds(&machine);
    assert_eq!(shape(&machine), (2, 4, 4, 14, 14));
    assert_eq!(groups_of(&machine), [[0], [1], [2], [3]]);
    assert!(machine.core_groups.iter().all(|g| g.l3 == 30 << 20));
}

#[test]
fn groups_with_l3_caches_of_unequal_size_and_cores_keep_both() {
    let machine = recorded("unequal-l3.xml");
    holds(&machine);
    assert_eq!(shape(&machine), (1, 1, 2, 6, 5));
    let sizes: Vec<u64> = machine.core_groups.iter().map(|g| g.l3 >> 20).collect();
    assert_eq!(sizes, [96, 32]);
}

#[test]
fn cores_that_are_offline_are_not_there() {
    let machine = recorded("offline-cores.xml");
    holds(&machine);
    let cores: Vec<usize> = machine.core_groups.iter().map(|g| g.cores.len()).collect();
    assert_eq!(cores, [4, 4, 3, 4], "core 8 is offline");
    assert_eq!(machine.core_groups[2].cores[0], [9, 25]);
    assert_eq!(
        machine.core_groups[3].cores[3],
        [28],
        "only the second thread of core 12 is online"
    );
    assert_eq!(machine.numa_nodes[0].cpus, "0-7,9-11,13-23,25-31");
}

#[test]
fn a_cpuset_that_covers_part_of_an_l3_leaves_that_part() {
    let machine = recorded("part-of-an-l3.xml");
    holds(&machine);
    let cores: Vec<usize> = machine.core_groups.iter().map(|g| g.cores.len()).collect();
    assert_eq!(cores, [4, 2]);
    assert_eq!(machine.numa_nodes[0].cpus, "0-5,16-21");
    assert_eq!(machine.core_groups[1].cores, [[4, 20], [5, 21]]);
}

#[test]
fn gpus_on_the_far_socket_are_next_to_its_node() {
    let machine = recorded("gpus-on-the-far-socket.xml");
    holds(&machine);
    let gpus: Vec<_> = machine
        .gpus
        .iter()
        .map(|g| (g.pci.as_str(), g.numa_node))
        .collect();
    assert_eq!(gpus, [("0000:c1:00.0", Some(1)), ("0000:e1:00.0", Some(1))]);
    assert_eq!(
        machine.gpus[0].uuid,
        "GPU-00000000-aaaa-bbbb-cccc-dddddddddddd"
    );
    assert_eq!(machine.gpus[0].model, "NVIDIA A100 80GB PCIe");
}

#[test]
fn a_virtual_machine_without_l3_is_one_group_for_each_node() {
    let machine = synthetic("[NUMANode(memory=16GiB)] Package:4 Core:1 PU:1");
    holds(&machine);
    assert_eq!(
        (machine.numa_nodes.len(), machine.core_groups[0].l3),
        (1, 0)
    );
    let cores: usize = machine.core_groups.iter().map(|g| g.cores.len()).sum();
    assert_eq!(cores, 4);
}

#[test]
fn memory_without_cpus_takes_none_from_its_neighbour() {
    let machine = synthetic(
        "Package:1 [NUMANode(memory=256GiB)] [NUMANode(memory=64GiB)] L3Cache:2(size=32MiB) Core:4 PU:2",
    );
    holds(&machine);
    assert_eq!(machine.numa_nodes.len(), 2);
    let empty = machine
        .numa_nodes
        .iter()
        .filter(|n| n.cpus.is_empty())
        .count();
    assert_eq!(empty, 1);
}

#[test]
fn this_machine_has_the_cpus_that_the_kernel_has_online() {
    let machine = inventory(&of_this_machine().unwrap());
    holds(&machine);
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
    let cpus: BTreeSet<u32> = machine
        .core_groups
        .iter()
        .flat_map(|g| g.cores.concat())
        .collect();
    let online = crate::placement::parse_list(online.trim()).unwrap();
    assert_eq!(cpus.into_iter().collect::<Vec<_>>(), online);
    assert!(
        machine.gpus.is_empty(),
        "without an export NVML tells of GPUs"
    );
}

#[test]
fn a_file_that_lstopo_did_not_write_is_refused_with_what_to_do() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/nodes/README.md");
    for path in [readme.as_path(), Path::new("/nowhere.xml")] {
        let why = format!("{:#}", of_file(path).unwrap_err());
        assert!(why.contains("lstopo machine.xml"), "{why}");
    }
}
