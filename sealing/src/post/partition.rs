//! Reading a whole partition: finds its sectors in the stores, reads them all, keeps the proofs in a
//! file for the SNARK.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufWriter, Read, Write},
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
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

/// A store that takes longer to say which sectors it has is left out: every partition asks, one after the other.
const LISTING: Duration = Duration::from_secs(30);
/// The same when other copies of sectors that cannot be read are looked for.
const COPIES: Duration = Duration::from_secs(5);

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
    let actor = input.actor;
    let list = move |store: &Path| sectors_in(store, actor);
    let time = limits.deadline.min(LISTING);
    let homes = locate(&input.stores, &numbers, time, list, |_, _| true);
    let nowhere = numbers.iter().filter(|n| !homes.found.contains_key(n));
    let mut skipped: Vec<_> = nowhere
        .map(|n| skip(*n, Class::Temporary, &homes.why_not()))
        .collect();
    let vanilla = |item: &Item<VanillaProof>| window_vanilla(&item.source);
    let mut results = many::read(items(input, &homes), limits, vanilla, on_done);
    let bad = results.iter().filter(|(_, result)| result.is_err());
    let bad: BTreeMap<u64, usize> = bad.map(|(n, _)| (*n, homes.found[n].0)).collect();
    if !bad.is_empty() {
        // A copy that is damaged, or still being made, must not hide a good one.
        let (numbers, time) = (bad.keys().copied().collect(), limits.deadline.min(COPIES));
        let others = |number: u64, store: usize| bad.get(&number) != Some(&store);
        let copies = locate(&input.stores, &numbers, time, list, others);
        let read = many::read(items(input, &copies), limits, vanilla, |_| {});
        results.extend(read.into_iter().filter(|(_, result)| result.is_ok()));
    }
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

/// What is to be read of the sectors that have a home.
fn items(input: &ReadPartition, homes: &Homes) -> Vec<Item<VanillaProof>> {
    let sectors = input.sectors.iter();
    let with_home = sectors.filter_map(|sector| {
        let (store, root) = homes.found.get(&sector.number)?;
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
        Some(Item {
            number: sector.number,
            source,
            store: *store,
        })
    });
    with_home.collect()
}

fn skip(number: u64, class: Class, reason: &str) -> Skipped {
    Skipped {
        number,
        class,
        reason: reason.to_owned(),
    }
}

/// Which store has which sector.
#[derive(Debug, Default)]
struct Homes {
    /// By number: the store's place among the stores, and its folder.
    found: BTreeMap<u64, (usize, PathBuf)>,
    /// Stores that did not say what they have, a sentence for each.
    silent: Vec<String>,
}

impl Homes {
    /// Why a sector has none.
    fn why_not(&self) -> String {
        if self.silent.is_empty() {
            NOWHERE.to_owned()
        } else {
            format!("its store does not answer: {}", self.silent.join("; "))
        }
    }
}

/// Asks all stores at once what they have, until all that is wanted is found, all have answered or the time is over.
///
/// The stores are the folders in `stores`, each with its place among them; `may` says whether a sector may be taken from one.
/// A sector that two stores have is taken from the first by name, of those that answered by then. The thread that asks a store which hangs is left behind.
fn locate(
    stores: &Path,
    wanted: &BTreeSet<u64>,
    time: Duration,
    list: impl Fn(&Path) -> Result<Vec<u64>> + Clone + Send + 'static,
    may: impl Fn(u64, usize) -> bool,
) -> Homes {
    let until = Instant::now() + time;
    let entries = fs::read_dir(stores).into_iter().flatten();
    let mut roots: Vec<_> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    roots.sort();
    let (sender, answers) = mpsc::channel();
    for (store, root) in roots.iter().cloned().enumerate() {
        let (sender, list) = (sender.clone(), list.clone());
        // Without a thread the store does not answer; nobody listens to one that answers late.
        let ask = move || drop(sender.send((store, list(&root))));
        drop(thread::Builder::new().spawn(ask));
    }
    drop(sender);
    let mut homes = Homes::default();
    let mut open: BTreeSet<usize> = (0..roots.len()).collect();
    while homes.found.len() < wanted.len() {
        let left = until.saturating_duration_since(Instant::now());
        // The other end: the time is over, or all have answered.
        let Ok((store, listed)) = answers.recv_timeout(left) else {
            let late = |store: usize| format!("{} did not within {time:?}", name(&roots[store]));
            homes.silent.extend(open.into_iter().map(late));
            break;
        };
        open.remove(&store);
        let root = &roots[store];
        match listed {
            Ok(numbers) => {
                let wanted = |n: &u64| wanted.contains(n) && may(*n, store);
                for number in numbers.into_iter().filter(wanted) {
                    let home = homes.found.entry(number);
                    let home = home.or_insert_with(|| (store, root.clone()));
                    if store < home.0 {
                        *home = (store, root.clone());
                    }
                }
            }
            Err(e) => homes.silent.push(format!("{}: {e}", name(root))),
        }
    }
    for why in &homes.silent {
        tracing::error!(why, "a store does not answer");
    }
    homes
}

fn name(store: &Path) -> String {
    let name = store.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// The sectors of an actor in a store. The replica gets its name last when a sector lands.
fn sectors_in(store: &Path, actor: u64) -> Result<Vec<u64>> {
    let names = durable::list(&store.join("sealed"))?;
    let numbers = names.iter().filter_map(|name| sector_number(name, actor));
    Ok(numbers.collect())
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
    use std::sync::{Arc, Mutex};

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
        let list = |store: &Path| sectors_in(store, 1000);
        let found = locate(dir.path(), &wanted, Duration::from_mins(1), list, |_, _| {
            true
        });
        assert_eq!(stores(&found), [(7, "a"), (8, "b")]);
        assert_eq!(found.why_not(), NOWHERE);
    }

    fn stores(homes: &Homes) -> Vec<(u64, &str)> {
        let found = homes.found.iter();
        found
            .map(|(n, (_, root))| (*n, root.file_name().unwrap().to_str().unwrap()))
            .collect()
    }

    /// Stores of which `a` has 7, `b` hangs until the test is over, and `c` fails.
    fn with_a_dead_store(wanted: &[u64], time: Duration) -> Homes {
        let dir = tempfile::tempdir().unwrap();
        for store in ["a", "b", "c"] {
            fs::create_dir(dir.path().join(store)).unwrap();
        }
        let hang = Arc::new(Mutex::new(()));
        let held = hang.lock().unwrap();
        let inner = hang.clone();
        let list = move |store: &Path| match name(store).as_str() {
            "a" => Ok(vec![7]),
            "b" => {
                drop(inner.lock());
                Ok(vec![8])
            }
            _ => Err(Error::Input("stale".to_owned())),
        };
        let wanted = wanted.iter().copied().collect();
        let homes = locate(dir.path(), &wanted, time, list, |_, _| true);
        drop(held);
        homes
    }

    #[test]
    fn dead_store_costs_nothing_when_all_is_found_elsewhere() {
        // The time is never waited for.
        let homes = with_a_dead_store(&[7], Duration::from_hours(1));
        assert_eq!(stores(&homes), [(7, "a")]);
    }

    #[test]
    fn sector_of_a_store_that_does_not_answer_is_said_to_be_that() {
        let homes = with_a_dead_store(&[7, 8], Duration::from_secs(1));
        assert_eq!(stores(&homes), [(7, "a")]);
        let said = homes.why_not();
        assert!(said.starts_with("its store does not answer: "), "{said}");
        for why in ["c: stale", "b did not within 1s"] {
            assert!(said.contains(why), "{said}");
        }
    }
}
