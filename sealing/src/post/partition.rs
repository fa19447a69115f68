//! Reading a whole partition: finds its sectors in the stores, reads them all, keeps the proofs in a
//! file for the SNARK.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufWriter, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{
    many::{self, Failure, Item, Limits},
    window_vanilla,
};
use crate::{
    durable,
    error::{Class, Error, Result},
    sector::{Place, SectorId},
    task::{ReadPartition, ReadPartitionOutput, Skipped, VanillaProof},
};

/// Why a sector is left out that no store has.
pub const NOWHERE: &str = "the sector is in no store that this pod mounts";

/// Longest proof of one sector that is believed, bytes; those of 64 GiB have 26 KB.
const MAX_PROOF_BYTES: u64 = 1 << 20;

/// Reads all sectors that can be read, and says why the others cannot.
///
/// # Errors
/// When the file of proofs cannot be written. A sector that cannot be read is no error.
pub fn read(input: &ReadPartition, on_done: impl FnMut(usize)) -> Result<ReadPartitionOutput> {
    let limits = Limits {
        readers: input.readers,
        deadline: Duration::from_millis(input.deadline_millis),
    };
    let numbers: BTreeSet<u64> = input.sectors.iter().map(|s| s.number).collect();
    let homes = find(&input.stores, input.actor, &numbers, limits.deadline);
    let mut skipped = Vec::new();
    let mut items = Vec::new();
    for sector in &input.sectors {
        let Some((store, root)) = homes.get(&sector.number) else {
            skipped.push(skip(sector.number, Class::Temporary, NOWHERE));
            continue;
        };
        let source = VanillaProof {
            place: Place {
                sector: SectorId {
                    actor: input.actor,
                    number: sector.number,
                },
                proof: input.proof_type,
                root: root.clone(),
            },
            comm_r: sector.comm_r,
            randomness: input.randomness,
        };
        items.push(Item {
            number: sector.number,
            source,
            store: *store,
        });
    }
    let results = many::read(items, limits, |item| window_vanilla(&item.source), on_done);
    let mut proofs = BTreeMap::new();
    for (number, result) in results {
        match result {
            Ok(proof) => drop(proofs.insert(number, proof)),
            Err(Failure::Read(e)) => skipped.push(skip(number, e.class(), &e.to_string())),
            Err(Failure::Late) => {
                let why = format!("its store did not answer within {:?}", limits.deadline);
                skipped.push(skip(number, Class::Temporary, &why));
            }
        }
    }
    write(&input.file, &proofs)?;
    skipped.sort_by_key(|s| s.number);
    Ok(ReadPartitionOutput {
        good: proofs.into_keys().collect(),
        skipped,
    })
}

fn skip(number: u64, class: Class, reason: &str) -> Skipped {
    Skipped {
        number,
        class,
        reason: reason.to_owned(),
    }
}

/// Which store has which sector: every store is listed once, those that hang are left out.
///
/// The stores are the folders in `stores`. A sector that two stores have is taken from the first by
/// name.
pub fn find(
    stores: &Path,
    actor: u64,
    numbers: &BTreeSet<u64>,
    deadline: Duration,
) -> BTreeMap<u64, (usize, PathBuf)> {
    let mut roots: Vec<_> = fs::read_dir(stores)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    roots.sort();
    let items = (0..).zip(roots.iter().cloned()).map(|(number, root)| Item {
        number,
        source: root,
        store: usize::try_from(number).unwrap_or(usize::MAX),
    });
    let limits = Limits {
        readers: roots.len(),
        deadline,
    };
    // The replica gets its name last when a sector lands.
    let wanted = Arc::new(numbers.clone());
    let reader = move |item: &Item<PathBuf>| {
        let names = durable::list(&item.source.join("sealed"))?;
        let number = |name: &String| sector_number(name, actor).filter(|n| wanted.contains(n));
        Ok(names.iter().filter_map(number).collect::<Vec<u64>>())
    };
    let mut homes = BTreeMap::new();
    for (store, listed) in many::read(items.collect(), limits, reader, |_| {}) {
        let store = usize::try_from(store).unwrap_or(usize::MAX);
        let root = &roots[store];
        match listed {
            Ok(numbers) => {
                for number in numbers {
                    homes.entry(number).or_insert_with(|| (store, root.clone()));
                }
            }
            Err(Failure::Read(e)) => tracing::error!(error = %e, "a store cannot be listed"),
            Err(Failure::Late) => {
                tracing::error!(store = %root.display(), ?deadline, "a store does not answer");
            }
        }
    }
    homes
}

fn sector_number(name: &str, actor: u64) -> Option<u64> {
    let number: u64 = name.rsplit_once('-')?.1.parse().ok()?;
    // Only the one way to write it: no leading zeros, no other actor.
    (SectorId { actor, number }.to_string() == name).then_some(number)
}

fn write(path: &Path, proofs: &BTreeMap<u64, Vec<u8>>) -> Result<()> {
    let file = fs::File::create(path).map_err(Error::io("create", path))?;
    let mut out = BufWriter::new(file);
    for proof in proofs.values() {
        out.write_all(&(proof.len() as u64).to_le_bytes())
            .and_then(|()| out.write_all(proof))
            .map_err(Error::io("write", path))?;
    }
    out.flush().map_err(Error::io("write", path))
}

/// The proofs that [`read`] left in its file, by sector number.
///
/// # Errors
/// When the file cannot be read, `Corrupt` when it is not whole.
pub fn load(path: &Path) -> Result<Vec<Vec<u8>>> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    let mut rest = bytes.as_slice();
    let mut proofs = Vec::new();
    while !rest.is_empty() {
        let mut len = [0; 8];
        let broken =
            || Error::damaged(path, "the proofs in it are cut off: read the sectors again");
        rest.read_exact(&mut len).map_err(|_e| broken())?;
        let len = u64::from_le_bytes(len);
        let len = usize::try_from(len.min(MAX_PROOF_BYTES)).map_err(|_e| broken())?;
        let (proof, after) = rest.split_at_checked(len).ok_or_else(broken)?;
        proofs.push(proof.to_vec());
        rest = after;
    }
    Ok(proofs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proofs_come_back_from_their_file_and_a_cut_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("proofs");
        let proofs = BTreeMap::from([(3, vec![1; 100]), (9, vec![2; 7]), (10, Vec::new())]);
        write(&path, &proofs).unwrap();
        assert_eq!(
            load(&path).unwrap(),
            proofs.into_values().collect::<Vec<_>>()
        );
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 9]).unwrap();
        assert_eq!(load(&path).unwrap_err().class(), Class::Corrupt);
    }

    #[test]
    fn sectors_are_found_in_the_first_store_that_has_them() {
        let dir = tempfile::tempdir().unwrap();
        for (store, name) in [
            ("a", "s-t01000-7"),
            ("b", "s-t01000-7"),
            ("b", "s-t01000-8"),
            ("b", "s-t01000-8.json"),
            ("b", "s-t01000-09"),
            ("b", "s-t02000-9"),
        ] {
            let sealed = dir.path().join(store).join("sealed");
            fs::create_dir_all(&sealed).unwrap();
            fs::write(sealed.join(name), b"").unwrap();
        }
        fs::create_dir_all(dir.path().join("c")).unwrap();
        let wanted = (0..100).collect();
        let found = find(dir.path(), 1000, &wanted, Duration::from_mins(1));
        let stores: Vec<_> = found
            .iter()
            .map(|(n, (_, root))| (*n, root.file_name().unwrap().to_str().unwrap()))
            .collect();
        assert_eq!(stores, [(7, "a"), (8, "b")]);
    }
}
