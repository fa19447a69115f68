//! What may begin in a pod, as data.

use filstar_crds::LanePhase;
use filstar_placement::layouts::lane;
use filstar_placement::*;

const GIB: u64 = 1 << 30;

fn pc1(cpus: u32, memory: u64) -> LaneRequest {
    lane("pc1", &[LanePhase::Pc1], cpus, memory)
}

#[test]
fn auto_concurrency_is_what_memory_cores_and_cards_hold() {
    let alone = LaneRequest {
        pool: false,
        ..pc1(16, 120)
    };
    assert_eq!(Limits::of(&alone, 8, &[]).most(Kind::Pc1), 1);
    let pc1 = Limits::of(&pc1(16, 120), 8, &[]);
    // 32 GiB: one sector takes 64 GiB of layers, two 112, three 160; without a pool two take 128.
    assert_eq!(pc1.most(Kind::Pc1), 2);
    let gpu = LaneRequest {
        gpus: 2,
        tasks_per_gpu: 2,
        ..lane("pc2", &[LanePhase::Pc2], 16, 500)
    };
    assert_eq!(
        Limits::of(&gpu, 8, &[24 * GIB, 11 * GIB]).most(Kind::Pc2),
        3,
        "a card of 11 GiB holds one"
    );
    assert_eq!(
        Limits::of(&gpu, 8, &[]).most(Kind::Pc2),
        4,
        "cards of unknown size are trusted"
    );
}

#[test]
fn sectors_that_share_cores_are_bounded_by_cores_and_by_the_layers_they_hold_together() {
    let shared = |memory, per_core, pool| {
        let lane = LaneRequest {
            per_core,
            pool,
            ..pc1(4, memory)
        };
        Limits::of(&lane, 2, &[]).most(Kind::Pc1)
    };
    assert_eq!([1, 2, 4].map(|n| shared(2000, n, true)), [2, 4, 8]);
    // Of 32 GiB each takes 64 GiB alone: 320 GiB hold four. In a pool four at the same place and a fifth hold 304 GiB.
    assert_eq!([false, true].map(|pool| shared(320, 4, pool)), [4, 5]);
}

#[test]
fn other_tasks_get_what_pc1_cannot_take_of_the_pool() {
    let phases = [LanePhase::Pc1, LanePhase::Pc2];
    let limits = Limits::of(&lane("both", &phases, 16, 170), 8, &[]);
    // Three sectors: 160 GiB of layers. Two hold 128 GiB of it at most, one 64 GiB.
    assert_eq!(limits.pool, 160 * GIB);
    let mut load = Load::default();
    for beside in [5, 3, 1, 0] {
        let mut then = load;
        for n in 0..beside {
            let admitted = limits.admit(&then, Kind::Pc2, false);
            assert_eq!(admitted, Ok(()), "{n} beside {load:?}");
            then.add(Kind::Pc2);
        }
        assert!(limits.admit(&then, Kind::Pc2, false).is_err(), "{then:?}");
        if beside > 0 {
            assert_eq!(limits.admit(&load, Kind::Pc1, false), Ok(()));
            load.add(Kind::Pc1);
        }
    }
    let full = limits.admit(&load, Kind::Pc1, false).unwrap_err();
    let text = "its pool of layer memory, 160 GiB, has its 3 sectors in PC1";
    assert_eq!(full.to_string(), text);
}

#[test]
fn a_waiting_c2_holds_up_no_pc2() {
    let both = lane("both", &[LanePhase::Pc2, LanePhase::C2], 16, 200);
    let limits = Limits::of(&both, 8, &[]);
    let mut load = Load::default();
    load.add(Kind::Pc2);
    assert!(matches!(
        limits.admit(&load, Kind::C2, false),
        Err(Full::Memory { .. })
    ));
    assert_eq!(limits.admit(&load, Kind::Pc2, false), Ok(()));
    assert!(matches!(
        Limits::of(&lane("x", &[], 16, 100), 8, &[]).admit(&Load::default(), Kind::C2, false),
        Err(Full::Never { .. })
    ));
}

#[test]
fn fewer_pc1_start_while_a_window_proof_is_due() {
    let lane = LaneRequest {
        during_post: Some(1),
        ..pc1(16, 400)
    };
    let limits = Limits::of(&lane, 8, &[]);
    let mut load = Load::default();
    load.add(Kind::Pc1);
    assert_eq!(limits.admit(&load, Kind::Pc1, true), Err(Full::Post(1)));
    assert_eq!(limits.admit(&load, Kind::Pc1, false), Ok(()));
}

#[test]
fn vector_memory_of_pc1_by_the_pool_formula() {
    // proofs: 1 TiB and 32 GiB hold 21 sectors, 2 TiB 42, layers alone.
    let layers = |n: u64| 32 * GIB * (3 * n + 1) / 2;
    assert!(layers(21) <= 1024 * GIB && layers(22) > 1024 * GIB);
    assert_eq!(needs::layers_in_pool(32 * GIB, 21, 1), layers(21));
    // The window of the parents file and the processes come on top.
    assert_eq!(needs::pool_sectors(32 * GIB, 1026 * GIB), 20);
    assert_eq!(needs::pool_sectors(32 * GIB, 1027 * GIB), 21);
    assert_eq!(needs::pool(32 * GIB, 1027 * GIB), 1024 * GIB);
    assert_eq!(needs::pool(32 * GIB, 64 * GIB), 0, "it holds no sector");
}
