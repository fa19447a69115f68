//! From a Sector to the task that it asks for, and from what came out to its report. Pure.

use std::path::{Path, PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use filstar_crds::{Randomness, SealProofName, Sector, SectorStatus, TaskKind, TaskResult};
use filstar_sealing::{
    Class, Hash32, Output, Place, SealProof, SectorId, Task,
    task::{AddPiece, C1, C2, Facts, Finalize, Land, Pc1, Pc2, Remove},
};
use kube::ResourceExt;

use crate::{
    commitment::{self, Kind},
    wire::{Failure, Request},
};

/// Where this pod has what.
#[derive(Clone, Debug)]
pub(crate) struct Folders {
    /// Sectors in work.
    pub(crate) scratch: PathBuf,
    /// Stores, each under its name.
    pub(crate) stores: PathBuf,
}

/// What to run for the Sector's current task.
///
/// # Errors
/// `Fatal` when the Sector lacks what the protocol promises.
pub(crate) fn request(sector: &Sector, folders: &Folders) -> Result<Request, Failure> {
    let status = sector.status.as_ref().ok_or_else(|| lacks("status"))?;
    let order = status.task.as_ref().ok_or_else(|| lacks("status.task"))?;
    let place = place(sector, &folders.scratch)?;
    let task = match order.kind {
        TaskKind::AddPiece => Task::AddPiece(AddPiece { place }),
        TaskKind::Pc1 => Task::Pc1(Pc1 {
            place,
            ticket: ticket(status)?,
        }),
        TaskKind::Pc2 => Task::Pc2(Pc2 {
            place,
            ticket: ticket(status)?,
        }),
        TaskKind::C1 => Task::C1(C1 {
            place,
            ticket: ticket(status)?,
            seed: seed(status)?,
        }),
        TaskKind::C2 => Task::C2(C2 {
            place,
            ticket: ticket(status)?,
            seed: seed(status)?,
        }),
        TaskKind::Finalize => Task::Finalize(Finalize {
            place,
            keep_unsealed: false,
        }),
        TaskKind::Land => land(status, place, &folders.stores)?,
        TaskKind::Remove => Task::Remove(Remove { place }),
    };
    Ok(Request {
        task,
        from_scratch: order.from_scratch,
    })
}

/// The report of what came out.
///
/// # Errors
/// `Fatal` when the result is about another replica than the one on chain.
pub(crate) fn result(sector: &Sector, output: Output) -> Result<TaskResult, Failure> {
    let cid = |kind, hash| Some(commitment::to_cid(kind, hash).to_string());
    let status = sector.status.as_ref().ok_or_else(|| lacks("status"))?;
    Ok(match output {
        Output::Pc1(o) => TaskResult {
            comm_d: cid(Kind::Data, o.comm_d),
            ..TaskResult::default()
        },
        Output::Pc2(o) => TaskResult {
            comm_d: cid(Kind::Data, o.comm_d),
            comm_r: cid(Kind::Replica, o.comm_r),
            ..TaskResult::default()
        },
        Output::C2(o) => {
            let on_chain = status
                .comm_r
                .as_deref()
                .ok_or_else(|| lacks("status.commR"))?;
            let ours = commitment::to_cid(Kind::Replica, o.comm_r).to_string();
            if ours != on_chain {
                let text = format!("scratch holds the replica {ours}, but {on_chain} is on chain");
                return Err(Failure::new(Class::Fatal, text));
            }
            TaskResult {
                proof: Some(BASE64.encode(o.proof.0)),
                ..TaskResult::default()
            }
        }
        Output::Land(_) => {
            let store = status.store.as_ref().map(|s| s.name.clone());
            TaskResult {
                store,
                ..TaskResult::default()
            }
        }
        Output::AddPiece(_)
        | Output::C1(_)
        | Output::Finalize(_)
        | Output::Unseal(_)
        | Output::Remove(_)
        | Output::Sweep(_)
        | Output::Verified(_)
        | Output::ReadPartition(_)
        | Output::Proof(_) => TaskResult::default(),
    })
}

fn place(sector: &Sector, root: &Path) -> Result<Place, Failure> {
    let name = sector.name_any();
    let wrong = || Failure::new(Class::Fatal, format!("{name:?} names no sector of a miner"));
    let (actor, number) = name.split_once('-').ok_or_else(wrong)?;
    let actor = actor
        .get(2..)
        .and_then(|a| a.parse().ok())
        .ok_or_else(wrong)?;
    let number = number.parse().map_err(|_e| wrong())?;
    if i64::try_from(number) != Ok(sector.spec.number) {
        return Err(wrong());
    }
    let proof = seal_proof(sector.spec.seal_proof);
    Ok(Place {
        sector: SectorId { actor, number },
        proof,
        root: root.to_owned(),
    })
}

/// The engine's name of a seal proof of the API.
const fn seal_proof(name: SealProofName) -> SealProof {
    match name {
        SealProofName::StackedDrg2KiBV1P1 => SealProof::StackedDrg2KiBV1P1,
        SealProofName::StackedDrg8MiBV1P1 => SealProof::StackedDrg8MiBV1P1,
        SealProofName::StackedDrg512MiBV1P1 => SealProof::StackedDrg512MiBV1P1,
        SealProofName::StackedDrg32GiBV1P1 => SealProof::StackedDrg32GiBV1P1,
        SealProofName::StackedDrg64GiBV1P1 => SealProof::StackedDrg64GiBV1P1,
    }
}

fn land(status: &SectorStatus, place: Place, stores: &Path) -> Result<Task, Failure> {
    let store = status.store.as_ref().ok_or_else(|| lacks("status.store"))?;
    let (comm_d, comm_r) = (status.comm_d.as_deref(), status.comm_r.as_deref());
    let comm_d = comm_d.ok_or_else(|| lacks("status.commD"))?;
    let comm_r = comm_r.ok_or_else(|| lacks("status.commR"))?;
    let facts = Facts {
        comm_r: commitment::parse(Kind::Replica, comm_r)?,
        comm_d: commitment::parse(Kind::Data, comm_d)?,
        ticket: ticket(status)?,
        ticket_epoch: status.ticket.as_ref().map_or(0, |t| t.epoch),
        pieces: Vec::new(),
    };
    Ok(Task::Land(Land {
        place,
        store: stores.join(&store.name),
        facts,
    }))
}

fn ticket(status: &SectorStatus) -> Result<Hash32, Failure> {
    randomness(status.ticket.as_ref(), "status.ticket")
}

fn seed(status: &SectorStatus) -> Result<Hash32, Failure> {
    randomness(status.seed.as_ref(), "status.seed")
}

fn randomness(value: Option<&Randomness>, field: &str) -> Result<Hash32, Failure> {
    let text = &value.ok_or_else(|| lacks(field))?.value;
    let bytes = BASE64
        .decode(text)
        .ok()
        .and_then(|b| <[u8; 32]>::try_from(b).ok());
    let wrong = || {
        Failure::new(
            Class::Fatal,
            format!("{field} {text:?} is not base64 of 32 bytes"),
        )
    };
    bytes.map(Hash32).ok_or_else(wrong)
}

fn lacks(field: &str) -> Failure {
    Failure::new(
        Class::Fatal,
        format!("the Sector lacks {field}, which this task needs"),
    )
}

#[cfg(test)]
mod tests {
    use filstar_sealing::{HexBytes, task::C2Output};
    use serde_json::json;

    use super::*;

    const COMM_R: [u8; 32] = [1; 32];

    fn sector(kind: &str) -> Sector {
        let comm_r = commitment::to_cid(Kind::Replica, Hash32(COMM_R)).to_string();
        let comm_d = commitment::to_cid(Kind::Data, Hash32([2; 32])).to_string();
        serde_json::from_value(json!({
            "apiVersion": "filstar.io/v1alpha1", "kind": "Sector",
            "metadata": {"name": "t01000-7"},
            "spec": {"minerRef": {"name": "m"}, "groupRef": {"name": "g"}, "number": 7,
                     "sealProof": "StackedDrg2KiBV1P1"},
            "status": {
                "ticket": {"epoch": 42, "value": BASE64.encode([9; 32])},
                "commD": comm_d, "commR": comm_r,
                "store": {"name": "cold"},
                "task": {"id": format!("{kind}-1"), "kind": kind, "podName": "p", "podUid": "u",
                         "fromScratch": true},
            },
        }))
        .unwrap()
    }

    fn folders() -> Folders {
        Folders {
            scratch: "/scratch".into(),
            stores: "/stores".into(),
        }
    }

    #[test]
    fn pc1_gets_the_ticket_and_its_place() {
        let request = request(&sector("PC1"), &folders()).unwrap();
        assert!(request.from_scratch);
        let Task::Pc1(task) = request.task else {
            panic!("{request:?}")
        };
        assert_eq!(task.ticket, Hash32([9; 32]));
        assert_eq!(
            task.place.sector,
            SectorId {
                actor: 1000,
                number: 7
            }
        );
        assert_eq!(task.place.sealed(), Path::new("/scratch/sealed/s-t01000-7"));
    }

    #[test]
    fn landing_gets_the_store_and_the_facts() {
        let request = request(&sector("Land"), &folders()).unwrap();
        let Task::Land(task) = request.task else {
            panic!("{request:?}")
        };
        assert_eq!(task.store, Path::new("/stores/cold"));
        assert_eq!(
            (task.facts.comm_r, task.facts.ticket_epoch),
            (Hash32(COMM_R), 42)
        );
    }

    #[test]
    fn missing_seed_is_named() {
        let failure = request(&sector("C2"), &folders()).unwrap_err();
        assert_eq!(failure.class, Class::Fatal);
        assert!(failure.message.contains("status.seed"), "{failure}");
    }

    #[test]
    fn name_and_number_must_agree() {
        let mut other = sector("PC1");
        other.spec.number = 8;
        assert!(request(&other, &folders()).is_err());
    }

    #[test]
    fn proof_of_another_replica_is_never_reported() {
        let output = |comm_r| {
            let proof = HexBytes(vec![1, 2, 3]);
            Output::C2(C2Output {
                proof,
                comm_d: Hash32([2; 32]),
                comm_r: Hash32(comm_r),
            })
        };
        let good = result(&sector("C2"), output(COMM_R)).unwrap();
        assert_eq!(good.proof.as_deref(), Some("AQID"));
        assert_eq!(
            result(&sector("C2"), output([3; 32])).unwrap_err().class,
            Class::Fatal
        );
    }
}
