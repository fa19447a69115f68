//! The history: one JSON line for each message that landed, on the canonical chain only.
//!
//! Effects: appends to one file; a reorg cuts it back to where the fork begins. It follows from the
//! journal, which is the truth: after a crash the file is cut to what the head says.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::chain::tipset::StoredTipset;
use crate::message::{Receipt, SignedMessage};

/// Name of the file in the chain's folder.
pub(crate) const FILE: &str = "history.jsonl";

/// The open file.
#[derive(Debug)]
pub(crate) struct History {
    file: File,
    path: PathBuf,
}

impl History {
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let path = dir.join(FILE);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)?;
        Ok(Self { file, path })
    }

    /// Writes the messages of a tipset after the first `start` bytes; returns the new length.
    pub(crate) fn append(&mut self, start: u64, tipset: &StoredTipset) -> io::Result<u64> {
        self.cut(start)?;
        if tipset.messages.is_empty() {
            return Ok(start);
        }
        let text = lines(tipset);
        self.file.write_all(text.as_bytes())?;
        self.file.sync_data()?;
        Ok(start + text.len() as u64)
    }

    /// Drops what is after the first `len` bytes.
    pub(crate) fn cut(&mut self, len: u64) -> io::Result<()> {
        if self.file.metadata()?.len() != len {
            self.file.set_len(len)?;
        }
        self.file.seek(SeekFrom::Start(len))?;
        Ok(())
    }

    /// Everything up to the given length.
    pub(crate) fn read(&self, len: u64) -> io::Result<Vec<u8>> {
        let mut content = std::fs::read(&self.path)?;
        content.truncate(usize::try_from(len).unwrap_or(usize::MAX));
        Ok(content)
    }

    pub(crate) fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

/// The lines of one tipset.
fn lines(tipset: &StoredTipset) -> String {
    let epoch = tipset.blocks.first().map_or(0, |b| b.height);
    let mut out = String::new();
    for (message, receipt) in tipset.messages.iter().zip(&tipset.receipts) {
        out.push_str(&line(epoch, message, receipt).to_string());
        out.push('\n');
    }
    out
}

fn line(epoch: i64, signed: &SignedMessage, receipt: &Receipt) -> serde_json::Value {
    let message = &signed.message;
    json!({
        "epoch": epoch,
        "cid": signed.cid().to_string(),
        "from": message.from.to_string(),
        "to": message.to.to_string(),
        "nonce": message.sequence,
        "method": message.method_num,
        "params": STANDARD.encode(message.params.bytes()),
        "value": message.value.atto().to_string(),
        "gasLimit": message.gas_limit,
        "gasUsed": receipt.gas_used,
        "fee": receipt.fee.atto().to_string(),
        "exitCode": receipt.exit_code,
        "return": STANDARD.encode(&receipt.return_data),
        "error": receipt.error,
    })
}
