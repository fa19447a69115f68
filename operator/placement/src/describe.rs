//! A server's plan as text for people, with lanes that would use all of it.

use filstar_crds::LanePhase;

use crate::admit::{Kind, size};
use crate::lane::LaneRequest;
use crate::layouts::lane;
use crate::pack::{LeftOver, PodPlan, ServerPlan, place};
use crate::server::{CoreGroup, Server, write_cpus};

const GIB: u64 = 1 << 30;

/// What the planner makes of a server for sectors of 32 GiB: a pod of PC1 on each core group with its part of the
/// memory, and pods of PC2 and C2 where there are GPUs for them.
pub fn describe(server: &Server) -> String {
    let lanes = lanes(server);
    let plan = place(server, &lanes, &[]);
    let mut lines = vec![
        String::new(),
        "with one lane for each core group, for sectors of 32 GiB:".to_owned(),
    ];
    lines.extend(lanes.iter().map(|lane| {
        let pods = lane.pods.map_or("Auto".to_owned(), |n| n.to_string());
        format!(
            "  lane {}: cpus {}, memory {}, gpus {}, pods: {pods}",
            lane.name,
            lane.cpus,
            size(lane.memory),
            lane.gpus
        )
    }));
    lines.extend(pods(&plan));
    lines.extend(left(&plan));
    lines.push(String::new());
    lines.join("\n")
}

fn lanes(server: &Server) -> Vec<LaneRequest> {
    let mut groups: Vec<&CoreGroup> = server
        .groups
        .iter()
        .filter(|g| !g.cores.is_empty())
        .collect();
    groups.sort_by_key(|g| g.id);
    let memory: u64 = server.numa.iter().map(|n| n.memory).sum();
    let count = groups.len().max(1) as u64;
    // As many as the smallest group has of those that are not left to the system: where groups are unequal, each still has a
    // pod of its own.
    let given = groups.get(1..).filter(|rest| !rest.is_empty());
    let smallest = given.unwrap_or(&groups).iter().map(|g| g.threads()).min();
    let cpus = smallest.unwrap_or(1);
    let gib = (memory / GIB / count).max(1);
    let mut lanes = Vec::new();
    if server.gpus.len() >= 2 {
        let phases = [LanePhase::Pc2, LanePhase::C1, LanePhase::Finalize];
        lanes.push(LaneRequest {
            gpus: 1,
            ..lane("pc2", &phases, cpus, gib.min(64))
        });
        lanes.push(LaneRequest {
            gpus: 1,
            ..lane("c2", &[LanePhase::C2], cpus, 192)
        });
    }
    lanes.push(LaneRequest {
        pods: None,
        ..lane("pc1", &[LanePhase::AddPiece, LanePhase::Pc1], cpus, gib)
    });
    lanes
}

fn pods(plan: &ServerPlan) -> Vec<String> {
    let line = |pod: &PodPlan| {
        let what = if pod.lane == "pc1" {
            format!(", {} sectors in PC1", pod.limits.most(Kind::Pc1))
        } else {
            String::new()
        };
        let why: Vec<String> = pod.why.iter().map(ToString::to_string).collect();
        format!(
            "  pod {}-{}: core groups {}, cpus {}{what}: {}",
            pod.lane,
            pod.index,
            write_cpus(&pod.groups),
            write_cpus(&pod.cpus),
            why.join("; ")
        )
    };
    plan.pods.iter().map(line).collect()
}

fn left(plan: &ServerPlan) -> Vec<String> {
    let line = |left: &LeftOver| match left {
        LeftOver::Pod {
            lane, pods, why, ..
        } => format!("  left over: {pods} of lane {lane}: {why}"),
        LeftOver::Group { group, numa, why } => {
            format!("  left over: core group {group} of NUMA node {numa}: {why}")
        }
    };
    plan.left.iter().map(line).collect()
}
