//! Huge pages for the measurement of PC1, as a provider sets them aside for a lane.
//!
//! They matter twice. Labels lie at random places, and larger pages are looked up less often. And in
//! a virtual machine that gives free memory back to its host, the first touch of fresh memory waits
//! for the host; pages that are set aside stay.

use std::fs;

use filstar_kernels::memory::{Buffer, Pages};

const COUNT: &str = "/proc/sys/vm/nr_hugepages";
const PAGE: u64 = 2 << 20;

/// Pages that are given back when this is dropped.
pub(crate) struct SetAside {
    before: u64,
}

impl SetAside {
    /// So many bytes and a little, touched once; none when we may not, or when the machine has not as
    /// many pages together.
    pub(crate) fn new(bytes: u64) -> Option<Self> {
        let before = count()?;
        let wanted = before + bytes / PAGE + 16;
        fs::write(COUNT, wanted.to_string()).ok()?;
        let pages = Self { before };
        let bytes = usize::try_from(bytes).ok()?;
        let enough = count()? >= wanted;
        let touched = || Buffer::new(bytes, Pages::Huge).and_then(|mut b| b.grow(bytes));
        (enough && touched().is_ok()).then_some(pages)
    }
}

impl Drop for SetAside {
    fn drop(&mut self) {
        drop(fs::write(COUNT, self.before.to_string()));
    }
}

fn count() -> Option<u64> {
    fs::read_to_string(COUNT).ok()?.trim().parse().ok()
}
