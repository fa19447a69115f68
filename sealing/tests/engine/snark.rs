//! Whole sectors of 2 KiB with SNARKs: C2 and window `PoSt`, verified. Needs parameters (`sealer-pod
//! params --proof StackedDrg2KiBV1P1` makes them); without them the tests say so and pass.

use std::path::Path;

use crate::support::{ACTOR, Sector, isolated};
use filstar_sealing::{
    Hash32, HexBytes, Output, SealProof, Task,
    params::{Purpose, Wanted, check, default_dir},
    task::{ProofOutput, ReadPartition, Replica, VerifySeal, VerifyWindowPoSt, WindowPartition},
};

const PROOF: SealProof = SealProof::StackedDrg2KiBV1P1;

fn with_parameters(name: &str, purpose: Purpose, body: impl FnOnce(&Path)) {
    let dir = default_dir();
    let wanted = Wanted {
        purposes: vec![purpose],
        ..Wanted::all(PROOF)
    };
    let report = check(&dir, &wanted).unwrap();
    if !report.is_good() {
        let why = report.complaints().join("; ");
        eprintln!("skipped {name}: no {purpose} in {}: {why}", dir.display());
        return;
    }
    isolated(name, &dir, body);
}

fn verified(sector: &Sector, task: &Task) -> bool {
    let output = sector.run(task).unwrap();
    let Output::Verified(o) = output else {
        panic!("{output:?}")
    };
    o.valid
}

#[test]
fn c2_gives_a_proof_that_holds_for_its_sector_and_no_other() {
    let name = "c2_gives_a_proof_that_holds_for_its_sector_and_no_other";
    with_parameters(name, Purpose::PoRep, |dir| {
        let s = Sector::new(dir, 7);
        let sealed = s.sealed();
        s.c1().unwrap();
        let made = s.c2().unwrap();
        assert_eq!(
            s.c2().unwrap(),
            made,
            "the second time it is read from the ledger"
        );
        assert_eq!((made.comm_r, made.proof.0.len()), (sealed.comm_r, 192));
        let claim = VerifySeal {
            proof_type: PROOF,
            actor: ACTOR,
            number: 7,
            ticket: s.ticket,
            seed: s.seed,
            comm_d: made.comm_d,
            comm_r: made.comm_r,
            proof: made.proof.clone(),
        };
        assert!(verified(&s, &Task::VerifySeal(claim.clone())));
        let other = VerifySeal {
            number: 8,
            ..claim.clone()
        };
        assert!(!verified(&s, &Task::VerifySeal(other)));
        let mut flipped = made.proof.0;
        flipped[7] ^= 1;
        let damaged = VerifySeal {
            proof: HexBytes(flipped),
            ..claim
        };
        assert!(
            !verified(&s, &Task::VerifySeal(damaged)),
            "damaged is invalid, not an error"
        );
    });
}

#[test]
fn window_post_of_landed_sectors_holds_for_them_and_no_others() {
    let name = "window_post_of_landed_sectors_holds_for_them_and_no_others";
    with_parameters(name, Purpose::WindowPoSt, |dir| {
        let randomness = Hash32([0xff; 32]);
        let store = dir.join("store");
        let mut sectors = Vec::new();
        for number in [7, 9] {
            let s = Sector::new(dir, number);
            let comm_r = s.sealed();
            s.finalize().unwrap();
            s.land(&store, &comm_r).unwrap();
            let comm_r = comm_r.comm_r;
            sectors.push(Replica { number, comm_r });
        }
        let any = Sector::new(dir, 7);
        for count in [2, 1] {
            let file = dir.join("partition.vanilla");
            let read = ReadPartition {
                proof_type: PROOF,
                actor: ACTOR,
                randomness,
                sectors: sectors[..count].to_vec(),
                stores: dir.to_owned(),
                readers: 2,
                deadline_millis: 60_000,
                file: file.clone(),
            };
            let output = any.run(&Task::ReadPartition(read)).unwrap();
            let Output::ReadPartition(read) = output else {
                panic!("{output:?}")
            };
            assert_eq!((read.good.len(), read.skipped), (count, vec![]));
            let task = WindowPartition {
                proof_type: PROOF,
                actor: ACTOR,
                randomness,
                file,
            };
            let output = any.run(&Task::WindowPartition(task)).unwrap();
            let Output::Proof(ProofOutput { proof }) = output else {
                panic!("{output:?}")
            };
            assert_eq!(proof.0.len(), 192);
            let claim = |randomness, sectors: &[Replica]| {
                let (actor, proof, sectors) = (ACTOR, proof.clone(), sectors.to_vec());
                let proof_type = PROOF;
                let claim = VerifyWindowPoSt {
                    proof_type,
                    actor,
                    randomness,
                    sectors,
                    proof,
                };
                verified(&any, &Task::VerifyWindowPoSt(claim))
            };
            assert!(claim(randomness, &sectors[..count]));
            assert!(!claim(Hash32([1; 32]), &sectors[..count]));
            assert!(!claim(randomness, &sectors[2 - count..]) || count == 2);
        }
    });
}
