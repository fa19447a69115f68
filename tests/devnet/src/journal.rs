//! What changes, written before anyone is told: frames of records after a snapshot.
//!
//! A frame is whole or not there: length, digest, CBOR. Reading stops at the first frame that is not
//! whole (a crash in the middle of a write) and cuts the file there.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use cid::Cid;
use serde::{Deserialize, Serialize};

use crate::chain::Settings;
use crate::chain::tipset::StoredTipset;
use crate::codec::{blake2b256, cbor, from_cbor};
use crate::files;
use crate::message::SignedMessage;

const HEAD: usize = 4 + 8;

/// Bytes that are bytes in CBOR too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Raw(#[serde(with = "fvm_ipld_encoding::strict_bytes")] pub(crate) Vec<u8>);

/// One change.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Record {
    /// A new head, and the blocks that its state added.
    Tipset {
        tipset: Box<StoredTipset>,
        blocks: Vec<(Cid, Raw)>,
    },
    /// Everything above this height is off the chain.
    Rewind {
        height: i64,
    },
    /// A message came into the pool.
    Push {
        message: Box<SignedMessage>,
        uuid: Option<String>,
    },
    /// The pool is now this.
    Pool(Vec<SignedMessage>),
    Settings(Box<Settings>),
}

/// All of a chain at one moment.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    pub(crate) tipsets: Vec<StoredTipset>,
    pub(crate) blocks: Vec<(Cid, Raw)>,
    pub(crate) settings: Settings,
    pub(crate) pool: Vec<SignedMessage>,
    pub(crate) remembered: Vec<SignedMessage>,
    pub(crate) uuids: Vec<(String, SignedMessage)>,
}

/// The open journal, the number `n` of `journal-n.log`; `snapshot-n.cbor` is what it starts from.
#[derive(Debug)]
pub(crate) struct Journal {
    dir: PathBuf,
    number: u64,
    file: File,
    len: u64,
    frames: u64,
}

fn snapshot_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("snapshot-{number}.cbor"))
}

fn journal_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("journal-{number}.log"))
}

impl Journal {
    /// Begins with a snapshot; older ones go away.
    pub(crate) fn begin(dir: &Path, number: u64, snapshot: &Snapshot) -> io::Result<Self> {
        files::write_secret(&snapshot_path(dir, number), &frame(&cbor(snapshot)))?;
        let path = journal_path(dir, number);
        let file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&path)?;
        file.sync_all()?;
        files::sync_dir(&path)?;
        for (old, path) in numbered(dir)? {
            if old != number {
                std::fs::remove_file(path)?;
            }
        }
        Ok(Self {
            dir: dir.to_owned(),
            number,
            file,
            len: 0,
            frames: 0,
        })
    }

    /// The newest snapshot that is whole, its records, and the journal to go on with; none in a folder
    /// without a chain.
    pub(crate) fn open(dir: &Path) -> io::Result<Option<(Snapshot, Vec<Record>, Self)>> {
        let mut numbers: Vec<u64> = numbered(dir)?.into_iter().map(|(n, _)| n).collect();
        numbers.sort_unstable();
        numbers.dedup();
        for number in numbers.into_iter().rev() {
            let Ok(bytes) = std::fs::read(snapshot_path(dir, number)) else {
                continue;
            };
            let Some((payload, _)) = unframe(&bytes) else {
                continue;
            };
            let Ok(snapshot) = from_cbor::<Snapshot>(payload) else {
                continue;
            };
            let path = journal_path(dir, number);
            let content = std::fs::read(&path).unwrap_or_default();
            let (records, whole, frames) = read_frames(&content);
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)?;
            file.set_len(whole)?;
            let file = OpenOptions::new().append(true).open(&path)?;
            let journal = Self {
                dir: dir.to_owned(),
                number,
                file,
                len: whole,
                frames,
            };
            return Ok(Some((snapshot, records, journal)));
        }
        Ok(None)
    }

    /// Writes records as one frame and waits until the disk has them.
    pub(crate) fn append(&mut self, records: &[Record]) -> io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let bytes = frame(&cbor(records));
        self.file.write_all(&bytes)?;
        self.file.sync_data()?;
        self.len += bytes.len() as u64;
        self.frames += 1;
        Ok(())
    }

    /// Starts over from a snapshot of now.
    pub(crate) fn rotate(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        *self = Self::begin(&self.dir, self.number + 1, snapshot)?;
        Ok(())
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Whether reading it back would take long enough to make a snapshot instead.
    pub(crate) fn is_long(&self) -> bool {
        self.len > 16 << 20 || self.frames > 5_000
    }
}

fn numbered(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|n| n.to_str())
            .unwrap_or_default();
        let number = name
            .strip_prefix("snapshot-")
            .and_then(|n| n.strip_suffix(".cbor"))
            .or_else(|| {
                name.strip_prefix("journal-")
                    .and_then(|n| n.strip_suffix(".log"))
            });
        if let Some(number) = number.and_then(|n| n.parse().ok()) {
            out.push((number, path));
        }
    }
    Ok(out)
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("invariant: a frame is below 4 GiB");
    let mut out = Vec::with_capacity(payload.len() + HEAD);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&blake2b256(&[payload])[..8]);
    out.extend_from_slice(payload);
    out
}

/// The payload of the first frame, and the length of the whole frame.
fn unframe(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let len = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let payload = bytes.get(HEAD..HEAD + len)?;
    (blake2b256(&[payload])[..8] == bytes[4..HEAD]).then_some((payload, HEAD + len))
}

fn read_frames(content: &[u8]) -> (Vec<Record>, u64, u64) {
    let mut records = Vec::new();
    let (mut at, mut frames) = (0, 0);
    while let Some((payload, len)) = unframe(&content[at..]) {
        let Ok(batch) = from_cbor::<Vec<Record>>(payload) else {
            break;
        };
        records.extend(batch);
        at += len;
        frames += 1;
    }
    (records, at as u64, frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> Snapshot {
        Snapshot {
            tipsets: Vec::new(),
            blocks: Vec::new(),
            settings: Settings::default(),
            pool: Vec::new(),
            remembered: Vec::new(),
            uuids: Vec::new(),
        }
    }

    #[test]
    fn crash_after_any_byte_leaves_whole_frames_only() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::begin(dir.path(), 0, &empty()).unwrap();
        for height in 0..5 {
            journal
                .append(&[Record::Rewind { height }, Record::Pool(Vec::new())])
                .unwrap();
        }
        let path = journal_path(dir.path(), 0);
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..=whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let (_, records, mut again) = Journal::open(dir.path()).unwrap().unwrap();
            assert_eq!(records.len() % 2, 0, "cut at {cut}");
            assert_eq!(records.len() / 2, cut / (whole.len() / 5));
            again.append(&[Record::Rewind { height: 9 }]).unwrap();
            let (_, more, _) = Journal::open(dir.path()).unwrap().unwrap();
            assert_eq!(more.len(), records.len() + 1);
        }
    }

    #[test]
    fn rotation_keeps_one_snapshot_and_falls_back_when_the_new_one_is_half() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::begin(dir.path(), 0, &empty()).unwrap();
        journal.rotate(&empty()).unwrap();
        assert_eq!(numbered(dir.path()).unwrap().len(), 2);
        std::fs::write(snapshot_path(dir.path(), 2), b"half").unwrap();
        let (_, _, open) = Journal::open(dir.path()).unwrap().unwrap();
        assert_eq!(open.number, 1);
    }
}
