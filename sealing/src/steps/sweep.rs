//! Sweep: files of sectors that are of no more use are looked for in a store, and removed, by name and one by one.
//!
//! Effects: removes files of the sectors that were named, and no others. Never: a folder with what it holds; anything
//! behind a link. Killed anywhere it is run again, and finds what is left.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use super::{Context, keep::must_be_mounted};
use crate::{
    durable,
    error::{Error, Result},
    sector::SectorId,
    task::{SectorSet, Sweep, SweepOutput, Swept},
};

/// Folders of a store that hold files or folders named after sectors.
const FOLDERS: [&str; 4] = ["sealed", "cache", "unsealed", "landing"];
/// Those that hold the files of one sector.
const PLACES: [&str; 3] = ["sealed", "cache", "unsealed"];
/// What the names of files beside a replica end with: facts, and what was being written.
const ENDINGS: [&str; 3] = [".json", ".json.tmp", ".tmp"];

/// Looks for files of sectors, or removes them. What cannot be removed is named, and keeps no other from being so.
///
/// # Errors
/// When the store is not mounted, or a folder cannot be read.
pub(super) fn sweep(input: &Sweep, context: &Context<'_>) -> Result<SweepOutput> {
    must_be_mounted(&input.store, "sweep")?;
    let mut all = sectors_here(&input.store, &input.sectors)?.into_iter();
    let wanted: Vec<SectorId> = all.by_ref().take(input.most).collect();
    let more = all.next().is_some();
    let (mut sectors, mut problem) = (Vec::new(), None);
    let mut sum = 0;
    for (done, sector) in wanted.iter().enumerate() {
        let percent = u32::try_from(done * 99 / wanted.len()).unwrap_or(99);
        let (total, mib) = (wanted.len(), sum >> 20);
        let verb = if input.remove { "removed" } else { "found" };
        let text = format!("Sweep: {done} of {total} sectors {verb}, {mib} MiB");
        context.say(percent, text);
        let files = Files::of(&input.store, *sector);
        let mut bytes = 0;
        let swept = if input.remove {
            files.remove(&mut bytes)
        } else {
            files.measure(&mut bytes)
        };
        let is_whole = swept.is_ok();
        if let Err(e) = swept {
            problem.get_or_insert_with(|| e.to_string());
        }
        // What cannot be removed is not offered either.
        if is_whole || input.remove && bytes > 0 {
            sum += bytes;
            sectors.push(Swept {
                sector: *sector,
                bytes,
            });
        }
    }
    Ok(SweepOutput {
        sectors,
        more,
        problem,
    })
}

/// The sectors that have anything in the store, of those that are asked for.
fn sectors_here(store: &Path, sets: &[SectorSet]) -> Result<BTreeSet<SectorId>> {
    let mut found = BTreeSet::new();
    for folder in FOLDERS {
        for name in durable::list(&store.join(folder))? {
            let stem = ENDINGS.iter().find_map(|end| name.strip_suffix(end));
            let stem = stem.filter(|_| folder == "sealed").unwrap_or(&name);
            found.extend(sector_of(stem).filter(|sector| is_asked_for(sets, *sector)));
        }
    }
    Ok(found)
}

fn is_asked_for(sets: &[SectorSet], sector: SectorId) -> bool {
    let mut sets = sets.iter().filter(|set| set.actor == sector.actor);
    sets.any(|set| {
        let ranges = &set.ranges;
        let begun = ranges.partition_point(|(first, _)| *first <= sector.number);
        let last = begun.checked_sub(1).and_then(|at| ranges.get(at));
        last.is_some_and(|(_, last)| sector.number <= *last)
    })
}

/// The sector of a name such as `s-t01000-7`; none of a name that we would write in another way.
fn sector_of(name: &str) -> Option<SectorId> {
    let (actor, number) = name.strip_prefix("s-t0")?.split_once('-')?;
    let sector = SectorId {
        actor: actor.parse().ok()?,
        number: number.parse().ok()?,
    };
    (sector.to_string() == name).then_some(sector)
}

/// All that a sector may have under one folder.
struct Files {
    root: PathBuf,
    name: String,
}

impl Files {
    fn of(root: &Path, sector: SectorId) -> Self {
        Self {
            root: root.to_owned(),
            name: sector.to_string(),
        }
    }

    /// What a landing that was broken off has left, then what is in the store itself. All folders are folders.
    fn parts(&self) -> Result<Vec<Self>> {
        let landing = Self {
            root: self.root.join("landing").join(&self.name),
            name: self.name.clone(),
        };
        let mut parts = Vec::new();
        if is_folder(&self.root.join("landing"))? && is_folder(&landing.root)? {
            parts.push(landing);
        }
        parts.push(Self {
            root: self.root.clone(),
            name: self.name.clone(),
        });
        for part in &parts {
            for folder in PLACES {
                is_folder(&part.root.join(folder))?;
            }
            is_folder(&part.cache())?;
        }
        Ok(parts)
    }

    fn cache(&self) -> PathBuf {
        self.root.join("cache").join(&self.name)
    }

    /// The files, the facts last: they say what the rest was.
    fn list(&self) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for folder in ["sealed", "unsealed"] {
            files.push(self.root.join(folder).join(&self.name));
        }
        let cache = self.cache();
        files.extend(durable::list(&cache)?.iter().map(|name| cache.join(name)));
        for end in ENDINGS.iter().rev() {
            files.push(self.root.join("sealed").join(format!("{}{end}", self.name)));
        }
        Ok(files)
    }

    fn measure(&self, bytes: &mut u64) -> Result<()> {
        for part in self.parts()? {
            for file in part.list()? {
                *bytes += file_size(&file)?.unwrap_or(0);
            }
        }
        Ok(())
    }

    /// Removes them. What that freed is told with an error too.
    fn remove(&self, freed: &mut u64) -> Result<()> {
        for part in self.parts()? {
            for file in part.list()? {
                if let Some(bytes) = file_size(&file)? {
                    durable::remove(&file)?;
                    *freed += bytes;
                }
            }
            remove_empty(&part.cache())?;
            if part.root != self.root {
                for folder in PLACES {
                    remove_empty(&part.root.join(folder))?;
                }
                remove_empty(&part.root)?;
            }
        }
        for folder in FOLDERS {
            let folder = self.root.join(folder);
            if is_folder(&folder)? {
                durable::sync_dir(&folder)?;
            }
        }
        Ok(())
    }
}

/// Size of a file; none when it is not there.
///
/// # Errors
/// When it is no file: nobody of ours has made it.
fn file_size(path: &Path) -> Result<Option<u64>> {
    match fs::symlink_metadata(path) {
        Ok(m) if m.is_file() => Ok(Some(m.len())),
        Ok(_) => Err(by_hand(path, "it is no file")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("look at", path)(e)),
    }
}

/// Whether there is a folder; what is there must be one.
fn is_folder(path: &Path) -> Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(m) if m.is_dir() => Ok(true),
        Ok(m) if m.is_symlink() => Err(by_hand(path, "it is a link")),
        Ok(_) => Err(by_hand(path, "it is no folder")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Error::io("look at", path)(e)),
    }
}

fn by_hand(path: &Path, why: &str) -> Error {
    Error::Setup(format!(
        "{}: {why}, so it is left alone; look at it and remove it by hand",
        path.display()
    ))
}

/// Removes a folder that is empty; one that is not there is no error.
fn remove_empty(path: &Path) -> Result<()> {
    match fs::remove_dir(path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::io("remove", path)(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stock::Stock;

    fn store() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, bytes) in [
            ("sealed/s-t01000-7", 2048),
            ("sealed/s-t01000-7.json", 10),
            ("cache/s-t01000-7/p_aux", 64),
            ("cache/s-t01000-7/sc-02-data-tree-r-last.dat", 100),
            ("landing/s-t01000-7/sealed/s-t01000-7", 5),
            ("landing/s-t01000-7/cache/s-t01000-7/t_aux", 3),
            ("unsealed/s-t01000-8", 1),
            ("sealed/s-t01000-9", 2048),
            ("cache/s-t01000-9/p_aux", 64),
            ("sealed/s-t01001-7", 2048),
            ("sealed/s-t01000-07", 1),
            ("sealed/notes.txt", 1),
        ] {
            put(dir.path(), path, bytes);
        }
        dir
    }

    fn put(store: &Path, path: &str, bytes: usize) {
        let path = store.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, vec![0; bytes]).unwrap();
    }

    fn all(dir: &Path) -> BTreeSet<String> {
        let mut paths = BTreeSet::new();
        let mut open = vec![dir.to_owned()];
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() && !path.is_symlink() {
                    open.push(path.clone());
                }
                let relative = path.strip_prefix(dir).unwrap();
                paths.insert(relative.to_str().unwrap().to_owned());
            }
        }
        paths
    }

    fn asked(store: &Path, remove: bool, ranges: &[(u64, u64)]) -> Sweep {
        Sweep {
            store: store.to_owned(),
            remove,
            sectors: vec![SectorSet {
                actor: 1000,
                ranges: ranges.to_vec(),
            }],
            most: 10,
        }
    }

    fn run(input: &Sweep) -> SweepOutput {
        sweep(input, &Context::quiet(&Stock)).unwrap()
    }

    fn told(output: &SweepOutput) -> Vec<(u64, u64)> {
        let sectors = output.sectors.iter();
        sectors.map(|s| (s.sector.number, s.bytes)).collect()
    }

    #[test]
    fn list_says_what_sectors_have_and_removes_nothing() {
        let dir = store();
        let before = all(dir.path());
        let found = run(&asked(dir.path(), false, &[(0, 8), (20, 30)]));
        assert_eq!(told(&found), [(7, 2048 + 10 + 64 + 100 + 5 + 3), (8, 1)]);
        assert_eq!((found.more, found.problem), (false, None));
        assert_eq!(all(dir.path()), before);
    }

    #[test]
    fn removal_takes_the_files_of_the_sectors_that_were_named_and_no_others() {
        let dir = store();
        let removed = run(&asked(dir.path(), true, &[(7, 8)]));
        assert_eq!(told(&removed), [(7, 2230), (8, 1)]);
        assert_eq!(removed.problem, None);
        let left: Vec<_> = all(dir.path()).into_iter().collect();
        assert_eq!(
            left,
            [
                "cache",
                "cache/s-t01000-9",
                "cache/s-t01000-9/p_aux",
                "landing",
                "sealed",
                "sealed/notes.txt",
                "sealed/s-t01000-07",
                "sealed/s-t01000-9",
                "sealed/s-t01001-7",
                "unsealed",
            ]
        );
        let again = run(&asked(dir.path(), true, &[(7, 8)]));
        assert_eq!(told(&again), []);
    }

    /// Killed anywhere: whatever of the sector's files is left is found and removed by the next run.
    #[test]
    fn removal_that_was_broken_off_is_ended_by_the_next_one() {
        let sector = SectorId {
            actor: 1000,
            number: 7,
        };
        let files = |dir: &tempfile::TempDir| {
            let parts = Files::of(dir.path(), sector).parts().unwrap();
            let lists = parts.iter().map(|part| part.list().unwrap());
            lists.flatten().collect::<Vec<_>>()
        };
        for killed_after in 0..files(&store()).len() {
            let dir = store();
            for file in &files(&dir)[..killed_after] {
                durable::remove(file).unwrap();
            }
            run(&asked(dir.path(), true, &[(7, 7)]));
            let left = all(dir.path());
            assert!(!left.iter().any(|p| p.contains("s-t01000-7")), "{left:?}");
            assert!(left.contains("sealed/s-t01000-9"));
        }
    }

    #[test]
    fn what_is_behind_a_link_stays_and_is_named_while_others_are_removed() {
        let (dir, other) = (store(), tempfile::tempdir().unwrap());
        put(other.path(), "p_aux", 64);
        let cache = dir.path().join("cache/s-t01000-7");
        fs::remove_dir_all(&cache).unwrap();
        std::os::unix::fs::symlink(other.path(), &cache).unwrap();
        let removed = run(&asked(dir.path(), true, &[(7, 8)]));
        assert!(removed.problem.unwrap().contains("cache/s-t01000-7"));
        assert!(other.path().join("p_aux").exists());
        assert!(!dir.path().join("unsealed/s-t01000-8").exists());
        // A folder that is a link as a whole.
        let (dir, other) = (store(), tempfile::tempdir().unwrap());
        put(other.path(), "s-t01000-7", 64);
        fs::remove_dir_all(dir.path().join("unsealed")).unwrap();
        std::os::unix::fs::symlink(other.path(), dir.path().join("unsealed")).unwrap();
        let removed = run(&asked(dir.path(), true, &[(7, 7)]));
        assert!(removed.problem.is_some());
        assert!(other.path().join("s-t01000-7").exists());
    }

    #[test]
    fn folder_where_a_file_belongs_stays_with_what_is_in_it() {
        let dir = store();
        put(dir.path(), "cache/s-t01000-7/sub/file", 3);
        let removed = run(&asked(dir.path(), true, &[(7, 7)]));
        assert!(removed.problem.unwrap().contains("cache/s-t01000-7/sub"));
        assert!(dir.path().join("cache/s-t01000-7/sub/file").exists());
    }

    #[test]
    fn no_more_sectors_are_told_than_are_wanted_and_a_store_that_is_not_mounted_is_no_empty_one() {
        let dir = store();
        let mut one = asked(dir.path(), false, &[(0, 100)]);
        one.most = 1;
        let found = run(&one);
        assert_eq!((told(&found).len(), found.more), (1, true));
        one.store = dir.path().join("nowhere");
        let error = sweep(&one, &Context::quiet(&Stock)).unwrap_err();
        assert!(error.to_string().contains("nowhere"), "{error}");
    }
}
