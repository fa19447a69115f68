//! Worlds for tests, built by verbs.

use std::collections::BTreeMap;

use filstar_chain::node::{MinerInfo, PreCommitInfo, PreCommitOnChainInfo, SectorOnChainInfo};
use filstar_chain::proving::DeadlineInfo;
use filstar_chain::types::{
    Address, AttoFil, BitField, Cid, Epoch, PostProof, SealProof, SectorNumber, TipSetKey,
};
use filstar_core::action::Action;
use filstar_core::world::{ChainFacts, ChainView, Id, Lookup, Now, SenderFacts, World};
use filstar_crds::*;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;

pub(crate) const NS: &str = "ns";
pub(crate) const SENDER: &str = "t1d2xrzcslx7xlbbylc5c3d5lvandqw4iwl6epxba";
pub(crate) const COMM_R: &str = "bagboea4b5abcbkyyuqhrpzqtqlqvr4nmrfcwggo7lbw7oy3vjjlmzxrfowjl7pdz";
pub(crate) const COMM_D: &str = "baga6ea4seaqao7s73y24kcutaosvacpdjgfe5pw76ooefnyqw4ynr3d2y6x2mpq";

pub(crate) fn id(name: &str) -> Id {
    Id::new(NS, name)
}

pub(crate) fn at(second: i64) -> Now {
    Now {
        wall: Timestamp::from_second(1_800_000_000 + second).unwrap(),
    }
}

fn meta<T: kube::Resource>(mut object: T, name: &str) -> T {
    let m = object.meta_mut();
    m.namespace = Some(NS.into());
    m.name = Some(name.into());
    m.uid = Some(format!("uid-{name}"));
    m.resource_version = Some("1".into());
    m.generation = Some(1);
    object
}

/// A world with one miner (its chain at epoch 1000), one group of one lane, one node and its ready pod.
pub(crate) fn world() -> World {
    let mut world = World::default();
    world.miners.apply(miner());
    world.groups.apply(group());
    world.stores.apply(store("store-a"));
    world.nodes.apply(node("node-a"));
    world.pods.apply(sealer_pod("node-a"));
    world.chains.insert(
        id("m"),
        ChainView {
            problem: None,
            facts: Some(chain(1000)),
            signer: None,
        },
    );
    world
}

pub(crate) fn miner() -> Miner {
    let spec = serde_json::from_value(json!({
        "actorId": "t01000", "network": "devnet",
        "chain": {"endpoints": [{"name": "a", "url": "http://node:1234/rpc/v1"}]},
        "senders": {"preCommit": SENDER, "commit": SENDER, "post": SENDER},
        "signer": {"type": "Node"}, "sealProof": "StackedDrg2KiBV1P1",
        "sectorNumbers": {"start": 0, "max": 1},
    }));
    meta(Miner::new("m", spec.unwrap()), "m")
}

pub(crate) fn group() -> SealingGroup {
    let spec = serde_json::from_value(json!({
        "minerRef": {"name": "m"},
        "scratch": {"hostPath": "/scratch", "parametersPath": "/params"},
        "lanes": [{"name": "seal", "cpus": 1, "memory": "4Gi",
                   "phases": ["AddPiece", "PC1", "PC2", "C1", "C2", "Finalize"]}],
        "pledge": {"mode": "Auto", "maxInFlight": 2},
    }));
    meta(SealingGroup::new("g", spec.unwrap()), "g")
}

pub(crate) fn store(name: &str) -> SectorStore {
    let spec = serde_json::from_value(json!({"volume": {"hostPath": "/store"}}));
    meta(SectorStore::new(name, spec.unwrap()), name)
}

pub(crate) fn node(name: &str) -> Node {
    let mut node: Node = serde_json::from_value(json!({
        "metadata": {"name": name, "uid": name, "resourceVersion": "1"},
        "status": {
            "allocatable": {"cpu": "1", "memory": "8Gi"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }))
    .unwrap();
    node.metadata.namespace = None;
    node
}

pub(crate) fn sealer_pod(node: &str) -> Pod {
    let name = filstar_core::plan::names::sealer_pod("g", "seal", node, 0);
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"labels": {"filstar.io/group": "g", "filstar.io/lane": "seal",
                                "app.kubernetes.io/managed-by": "filstar"}},
        "spec": {"nodeName": node, "containers": [],
                 "volumes": [{"name": "store-store-a"}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }))
    .unwrap();
    with_disks(meta(pod, &name), 9 << 20, 9 << 20)
}

/// A pod that says how much is free of the 10 MiB of its scratch and of the 10 MiB of store-a. Nodes share neither.
pub(crate) fn with_disks(mut pod: Pod, scratch: u64, store: u64) -> Pod {
    let disk = |device, free| Disk {
        device,
        capacity: 10 << 20,
        free,
        mark: None,
    };
    let disks = Disks {
        scratch: Some(disk(1, scratch)),
        stores: BTreeMap::from([("store-a".into(), disk(2, store))]),
    };
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(annotations::DISKS.into(), disks.to_text().unwrap());
    pod
}

pub(crate) fn chain(head: i64) -> ChainFacts {
    let sender = SenderFacts {
        nonce: 0,
        pool_nonce: 0,
        balance: AttoFil::from_fil(100),
    };
    ChainFacts {
        endpoint: "a".into(),
        head: Epoch(head),
        head_key: TipSetKey::default(),
        block_delay_secs: 1,
        seed_delay: 10,
        base_fee: AttoFil::from_nano(1),
        next_base_fee: AttoFil::from_nano(1),
        info: MinerInfo {
            owner: Address::new_id(100),
            worker: Address::new_id(101),
            new_worker: None,
            control_addresses: Vec::new(),
            window_post_proof_type: PostProof(10),
            sector_size: 2048,
            window_post_partition_sectors: 2,
            beneficiary: None,
        },
        available: AttoFil::from_fil(10),
        deposit: "0.08 FIL".parse().unwrap(),
        pledge: "0.13 FIL".parse().unwrap(),
        raw_power: 0,
        allocated: BitField::new(),
        deadline: deadline(head),
        proven: vec![BitField::new(); 8],
        living: BitField::new(),
        partitions: vec![BitField::new(); 8],
        faulty: 0,
        recovering: 0,
        faults: BTreeMap::new(),
        senders: BTreeMap::from([(SENDER.into(), sender)]),
        precommits: (0..10).map(|n| (n, None)).collect(),
        sectors: (0..10).map(|n| (n, None)).collect(),
        lookups: BTreeMap::new(),
    }
}

pub(crate) fn deadline(head: i64) -> DeadlineInfo {
    let open = head - head % 15;
    DeadlineInfo {
        current_epoch: Epoch(head),
        period_start: Epoch(open),
        index: 0,
        open: Epoch(open),
        close: Epoch(open + 15),
        challenge: Epoch(open - 5),
        fault_cutoff: Epoch(open - 10),
        period_deadlines: 8,
        proving_period: 120,
        challenge_window: 15,
        challenge_lookback: 5,
        fault_declaration_cutoff: 10,
    }
}

pub(crate) fn chain_mut(world: &mut World) -> &mut ChainFacts {
    world
        .chains
        .get_mut(&id("m"))
        .unwrap()
        .facts
        .as_mut()
        .unwrap()
}

pub(crate) fn pre_commit(epoch: i64, comm_r: &str) -> PreCommitOnChainInfo {
    PreCommitOnChainInfo {
        info: PreCommitInfo {
            seal_proof: proof(),
            sector_number: SectorNumber(0),
            sealed_cid: Cid::try_from(comm_r).unwrap(),
            seal_rand_epoch: Epoch(100),
            deal_ids: Vec::new(),
            expiration: Epoch(2_000_000),
            unsealed_cid: None,
        },
        pre_commit_deposit: AttoFil::from_fil(1),
        pre_commit_epoch: Epoch(epoch),
    }
}

pub(crate) fn on_chain(comm_r: &str) -> SectorOnChainInfo {
    SectorOnChainInfo {
        sector_number: SectorNumber(0),
        seal_proof: proof(),
        sealed_cid: Cid::try_from(comm_r).unwrap(),
        activation: Epoch(1000),
        expiration: Epoch(2_000_000),
        initial_pledge: AttoFil::from_fil(1),
        sector_key_cid: None,
        daily_fee: AttoFil::zero(),
    }
}

fn proof() -> SealProof {
    "StackedDrg2KiBV1P1".parse().unwrap()
}

/// An adopted sector 0 in a phase, with what it has by then.
pub(crate) fn sector(phase: SectorPhase) -> Sector {
    let spec = serde_json::from_value(json!({
        "minerRef": {"name": "m"}, "groupRef": {"name": "g"}, "number": 0,
        "sealProof": "StackedDrg2KiBV1P1",
    }));
    let mut sector = meta(Sector::new("t01000-0", spec.unwrap()), "t01000-0");
    sector.metadata.finalizers = Some(vec![finalizers::SECTOR_FILES.into()]);
    sector.metadata.labels = Some(BTreeMap::from([
        (labels::GROUP.into(), "g".into()),
        (labels::MINER.into(), "m".into()),
    ]));
    let mut status = SectorStatus {
        phase: Some(phase),
        observed_generation: Some(1),
        ..SectorStatus::default()
    };
    status.binding = Some(Binding {
        node: "node-a".into(),
        scratch: "/scratch".into(),
    });
    status.ticket = Some(Randomness {
        epoch: 100,
        value: "AA==".into(),
    });
    status.pre_commit_deadline = Some(3880);
    if phase > SectorPhase::Pc2 {
        status.comm_d = Some(COMM_D.into());
        status.comm_r = Some(COMM_R.into());
    }
    if phase > SectorPhase::C2 {
        status.proof = Some("cHJvb2Y=".into());
    }
    sector.status = Some(status);
    sector
}

/// Sector 1, which has no node yet.
pub(crate) fn fresh_sector() -> Sector {
    let mut fresh = sector(SectorPhase::Allocated);
    fresh.metadata.name = Some("t01000-1".into());
    fresh.metadata.uid = Some("uid-1".into());
    fresh.spec.number = 1;
    fresh.status.as_mut().unwrap().binding = None;
    fresh
}

/// What happens in a simulation, by its seed.
#[derive(Clone)]
pub(crate) struct Luck(u64);

impl Luck {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Gives a sector a task, and what the sealer says of it.
pub(crate) fn with_task(
    mut sector: Sector,
    kind: TaskKind,
    report: Option<serde_json::Value>,
) -> Sector {
    let pod = sealer_pod("node-a");
    let status = sector.status.as_mut().unwrap();
    status.tasks = 1;
    status.task = Some(Task {
        id: "task-1".into(),
        kind,
        pod_name: pod.metadata.name.unwrap(),
        pod_uid: pod.metadata.uid.unwrap(),
        from_scratch: false,
    });
    status.sealer = report.map(|mut value| {
        value["taskId"] = json!("task-1");
        serde_json::from_value(value).unwrap()
    });
    sector
}

pub(crate) fn message(name: &str, kind: MessageKind, status: ChainMessageStatus) -> ChainMessage {
    let spec = ChainMessageSpec {
        miner_ref: LocalRef::new("m"),
        kind,
        from: SENDER.into(),
        to: "t01000".into(),
        method: 28,
        params: String::new(),
        value: "0 attoFIL".into(),
        sectors: vec![0],
        deadline_epoch: None,
        max_fee: "1 FIL".into(),
    };
    let mut message = meta(ChainMessage::new(name, spec), name);
    message.status = Some(status);
    message
}

pub(crate) fn signed(state: MessageState, nonce: u64) -> ChainMessageStatus {
    ChainMessageStatus {
        state: Some(state),
        nonce: Some(nonce),
        versions: vec![SignedVersion {
            cid: format!("cid-{nonce}"),
            gas_fee_cap: "1000".into(),
            gas_premium: "100".into(),
            gas_limit: 1_000_000,
            bytes: "AA==".into(),
        }],
        ..ChainMessageStatus::default()
    }
}

pub(crate) fn found(nonce: u64, epoch: i64, exit_code: i64) -> Option<Lookup> {
    Some(Lookup {
        cid: format!("cid-{nonce}"),
        epoch: Epoch(epoch),
        exit_code,
        gas_used: 900_000,
        return_value: Vec::new(),
        base_fee: AttoFil::from_atto(100),
    })
}

/// The one new status of a sector that a plan asks for.
pub(crate) fn new_status(actions: &[Action]) -> &SectorStatus {
    let mut found = actions.iter().filter_map(|a| match a {
        Action::PatchSector { status, .. }
        | Action::DrawTicket { status, .. }
        | Action::DrawSeed { status, .. } => Some(status),
        _ => None,
    });
    let status = found
        .next()
        .unwrap_or_else(|| panic!("no sector status in {actions:#?}"));
    assert!(
        found.next().is_none(),
        "more than one sector status in {actions:#?}"
    );
    status
}

/// The one new status of a message that a plan asks for.
pub(crate) fn new_message(actions: &[Action]) -> &ChainMessageStatus {
    let mut found = actions.iter().filter_map(|a| match a {
        Action::PatchMessage { status, .. } | Action::PushMessage { status, .. } => Some(status),
        _ => None,
    });
    found
        .next()
        .unwrap_or_else(|| panic!("no message status in {actions:#?}"))
}

pub(crate) fn reason(status: &SectorStatus) -> &str {
    &status
        .conditions
        .iter()
        .find(|c| c.type_ == "Ready")
        .unwrap()
        .reason
}

/// The next version of an object.
pub(crate) fn newer(version: &mut Option<String>) {
    let number: u64 = version.as_ref().unwrap().parse().unwrap();
    *version = Some((number + 1).to_string());
}
