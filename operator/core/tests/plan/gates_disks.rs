//! Gates of disks at their edges, and sectors that race for room.

use crate::gates::{balance, bound, change_group, disks, fresh, numbered, pledged, says, verdict};
use crate::support::*;
use filstar_core::action::Action;
use filstar_core::plan::plan;
use filstar_core::plan::pledge::Gate;
use filstar_crds::{Count, SectorPhase, StoreRef};

/// What a sector of 2 KiB books in scratch, in bytes.
const SCRATCH: u64 = 6 * 2048 + 2341 + 16 + (256 << 10);
/// And in a store.
const STORE: u64 = 2048 + 16 + (256 << 10);

#[test]
fn scratch_space_has_room_up_to_its_bound_and_not_a_byte_further() {
    let mut world = world();
    let bound = (10 << 20) / 10;
    disks(&mut world, bound + SCRATCH, 9 << 20);
    says(
        &world,
        Gate::ScratchSpace,
        true,
        "room for 1 more sector of 270 KiB on 1 node",
    );
    disks(&mut world, bound + SCRATCH - 1, 9 << 20);
    says(
        &world,
        Gate::ScratchSpace,
        false,
        "no room for another sector of 270 KiB: node-a has 270 KiB left below 90 %; \
         free space there, or raise pledge.gates.scratchSpace.maxUsedPercent",
    );
    assert!(pledged(&world, 0).is_empty());
    change_group(&mut world, |g| {
        g.spec.pledge.gates.scratch_space.max_used_percent = 91;
    });
    assert!(verdict(&world, Gate::ScratchSpace).open);
}

#[test]
fn scratch_space_counts_what_sectors_have_yet_to_write() {
    let mut world = world();
    disks(&mut world, (1 << 20) + 2 * SCRATCH, 9 << 20);
    world.sectors.apply(numbered(SectorPhase::Pc1, 0));
    assert!(verdict(&world, Gate::ScratchSpace).open);
    world.sectors.apply(numbered(SectorPhase::Pc1, 1));
    says(
        &world,
        Gate::ScratchSpace,
        false,
        "no room for another sector of 270 KiB: node-a has 540 KiB left below 90 % and 540 KiB booked by 2 sectors; \
         free space there, or raise pledge.gates.scratchSpace.maxUsedPercent",
    );
}

#[test]
fn scratch_space_waits_until_a_sealer_has_measured_it() {
    let mut world = world();
    let mut pod = sealer_pod("node-a");
    pod.metadata.annotations = None;
    pod.metadata.resource_version = Some("2".into());
    world.pods.apply(pod);
    let found = verdict(&world, Gate::ScratchSpace);
    assert!(
        !found.open && found.reason.contains("has said yet"),
        "{found:?}"
    );
}

#[test]
fn store_space_counts_every_sector_that_has_not_landed() {
    let mut world = world();
    // 5 % of 10 MiB stay free.
    let bound = (10 << 20) - (10 << 20) * 95 / 100;
    disks(&mut world, 9 << 20, bound + 2 * STORE);
    world.sectors.apply(numbered(SectorPhase::WaitSeed, 0));
    says(
        &world,
        Gate::StoreSpace,
        true,
        "room for 1 more sector of 258 KiB in 1 store",
    );
    world.sectors.apply(numbered(SectorPhase::Landing, 1));
    says(
        &world,
        Gate::StoreSpace,
        false,
        "no room for another sector of 258 KiB: store-a has 516 KiB left below 95 % and 516 KiB booked by 2 sectors; \
         add a SectorStore, or raise maxUsedPercent",
    );
    let mut landed = numbered(SectorPhase::Proving, 1);
    landed.metadata.resource_version = Some("2".into());
    landed.status.as_mut().unwrap().store = Some(StoreRef {
        name: "store-a".into(),
        landed: true,
    });
    world.sectors.apply(landed);
    assert!(verdict(&world, Gate::StoreSpace).open);
}

#[test]
fn store_space_keeps_to_the_stores_own_bound_and_needs_a_store() {
    let mut world = world();
    let mut full = store("store-a");
    full.metadata.resource_version = Some("2".into());
    full.spec.max_used_percent = 10;
    world.stores.apply(full.clone());
    says(
        &world,
        Gate::StoreSpace,
        false,
        "no room for another sector of 258 KiB: store-a has 0 B left below 10 %; add a SectorStore, or raise maxUsedPercent",
    );
    world.stores.delete(&full);
    says(
        &world,
        Gate::StoreSpace,
        false,
        "no SectorStore that takes sectors matches finalize.storeSelector: create one",
    );
    change_group(&mut world, |g| g.spec.finalize.enabled = false);
    assert!(verdict(&world, Gate::StoreSpace).open);
}

#[test]
fn fifty_sectors_at_once_pass_no_gate_that_has_room_for_one() {
    let mut world = world();
    change_group(&mut world, |g| {
        g.spec.lanes[0].concurrency = Count::Number(64);
    });
    for number in 0..50 {
        world.sectors.apply(fresh(number));
    }
    assert_eq!(bound(&world).len(), 30, "as many as scratch has room for");
    disks(&mut world, (1 << 20) + SCRATCH, 9 << 20);
    assert_eq!(bound(&world), ["t01000-0"]);
    disks(&mut world, 9 << 20, (512 << 10) + 1 + STORE);
    assert_eq!(bound(&world), ["t01000-0"]);
    disks(&mut world, 9 << 20, 9 << 20);
    balance(&mut world, "5.3 FIL");
    let actions = plan(&world, at(0));
    assert_eq!(bound(&world), ["t01000-0"]);
    let waiting = actions.iter().find_map(|a| match a {
        Action::PatchSector { id, status, .. } if id.name == "t01000-7" => Some(status),
        _ => None,
    });
    let ready = &waiting.unwrap().conditions[0];
    assert_eq!(ready.reason, "BalanceClosed");
    assert_eq!(
        ready.message,
        format!(
            "Balance closed: 5.3 FIL available to {SENDER}, 5.41 FIL needed for 1 pod, 1 sector in flight and one more; \
             send it 0.11 FIL"
        )
    );
}
