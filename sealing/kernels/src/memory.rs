//! Large buffers on the largest pages that the machine gives.
//!
//! Labelling reads memory at random places; with larger pages the processor looks up fewer
//! addresses. Huge pages must be set aside by the machine's owner; without them the kernel joins
//! small ones where it can.
//!
//! # Unsafe code
//! Calls of the system that map, advise and unmap memory, and the slice over what they gave.
#![expect(
    unsafe_code,
    reason = "calls of the system; each has its argument beside it"
)]

use std::{
    fs, io,
    ops::Range,
    ptr::{self, NonNull},
    slice,
};

use crate::error::{Error, Result};

/// A buffer has at least so many blocks, when they are of more than 4 KiB.
const BLOCKS: usize = 32;

/// Kinds of pages, the most wanted first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pages {
    /// 1 GiB, set aside.
    Gigantic,
    /// 2 MiB, set aside.
    Huge,
    /// 2 MiB, joined by the kernel while the program runs.
    Transparent,
    /// 4 KiB.
    Small,
}

impl Pages {
    /// All of them, the most wanted first.
    pub const ORDER: [Self; 4] = [Self::Gigantic, Self::Huge, Self::Transparent, Self::Small];

    /// Its name, for logs and status.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gigantic => "1 GiB",
            Self::Huge => "2 MiB",
            Self::Transparent => "2 MiB (transparent)",
            Self::Small => "4 KiB",
        }
    }

    /// Size of a page that must be set aside, as a power of two.
    const fn set_aside(self) -> Option<u32> {
        match self {
            Self::Gigantic => Some(30),
            Self::Huge => Some(21),
            Self::Transparent | Self::Small => None,
        }
    }
}

/// Zeroed memory of its own pages that grows from its start, block by block.
///
/// What has not grown yet may be read; what is written there may be lost when it grows.
#[derive(Debug)]
pub struct Buffer {
    start: NonNull<u8>,
    bytes: usize,
    /// All of the address space that was taken, for its return.
    taken: (NonNull<u8>, usize),
    best: Pages,
    block: usize,
    grown: usize,
    worst: Pages,
}

// SAFETY: the buffer owns its memory alone; references to it follow the borrow rules.
unsafe impl Send for Buffer {}
// SAFETY: as above; a shared buffer gives shared references only.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// Takes address space and no memory. It grows on the first kind of pages from `best` on that
    /// the machine has left, block by block.
    ///
    /// # Errors
    /// When there is no such space, or the size is 0.
    pub fn new(bytes: usize, best: Pages) -> Result<Self> {
        Self::map(bytes, best).map_err(|e| Error::Memory(format!("no room for {bytes} bytes: {e}")))
    }

    fn map(bytes: usize, best: Pages) -> io::Result<Self> {
        let block = block_bytes(bytes);
        let too_large = || io::Error::new(io::ErrorKind::InvalidInput, "no such size");
        let mapped = bytes.checked_next_multiple_of(block);
        // Room to begin at a multiple of the block.
        let room = mapped.and_then(|m| m.checked_add(block));
        let room = room.filter(|_| bytes > 0).ok_or_else(too_large)?;
        // SAFETY: a new anonymous mapping at a place of the kernel's choice touches no other memory.
        let first = unsafe { map(ptr::null_mut(), room, 0) }?;
        let ahead = first.as_ptr().align_offset(block);
        // SAFETY: less than a block, so the buffer behind it ends within the mapping.
        let start = unsafe { first.add(ahead) };
        let buffer = Self {
            start,
            bytes,
            taken: (first, room),
            best,
            block,
            grown: 0,
            worst: best,
        };
        // Refused by kernels that never join pages: as wanted.
        drop(buffer.advise(0..buffer.block_end(bytes), libc::MADV_NOHUGEPAGE));
        Ok(buffer)
    }

    /// Bytes by which it grows.
    pub const fn block(&self) -> usize {
        self.block
    }

    /// Bytes that have grown.
    pub const fn grown(&self) -> usize {
        self.grown
    }

    /// What it lies on: the worst pages among those it grew on.
    pub const fn pages(&self) -> Pages {
        self.worst
    }

    /// Where the block ends that a byte before `end` lies in.
    pub fn block_end(&self, end: usize) -> usize {
        end.min(self.bytes).next_multiple_of(self.block)
    }

    /// Lets it grow until so many bytes from its start have memory; those that grew before keep what
    /// they hold. Pages that are set aside are taken at once, others when they are first written.
    ///
    /// # Errors
    /// When there is no memory on any kind of pages.
    pub fn grow(&mut self, end: usize) -> Result<()> {
        let end = self.block_end(end);
        while self.grown < end {
            self.grow_block()?;
        }
        Ok(())
    }

    fn grow_block(&mut self) -> Result<()> {
        let (at, best) = (self.grown, self.best);
        let mut said = Vec::new();
        for pages in Pages::ORDER.into_iter().filter(|p| *p >= best) {
            match self.put(at, pages) {
                Ok(()) => {
                    self.worst = self.worst.max(pages);
                    self.grown = at + self.block;
                    return Ok(());
                }
                Err(e) => said.push(format!("{}: {e}", pages.name())),
            }
        }
        let text = format!("no memory of {} bytes ({})", self.block, said.join("; "));
        Err(Error::Memory(text))
    }

    /// Puts a block that has not grown on pages of a kind.
    fn put(&mut self, at: usize, pages: Pages) -> io::Result<()> {
        let block = at..at + self.block;
        match pages {
            Pages::Gigantic | Pages::Huge => {
                let bits = pages.set_aside().unwrap_or(0);
                if !self.block.is_multiple_of(1 << bits) {
                    let why = "not for blocks of this size";
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
                }
                let flags = libc::MAP_HUGETLB | (bits.cast_signed() << libc::MAP_HUGE_SHIFT);
                self.map_again(block.clone(), flags)?;
                // A control group may forbid pages that the mapping was promised: asking for them
                // now is an error, touching them later would be the end of the process.
                self.advise(block.clone(), libc::MADV_POPULATE_WRITE)
                    .or_else(|e| self.map_again(block, 0).and(Err(e)))
            }
            Pages::Transparent if !transparent_pages() => {
                Err(io::Error::other("the kernel does not join pages"))
            }
            Pages::Transparent => {
                // Small pages that somebody has read would stay in the way of large ones.
                self.map_again(block.clone(), 0)?;
                self.advise(block, libc::MADV_HUGEPAGE)
            }
            Pages::Small => Ok(()),
        }
    }

    /// Replaces the memory of some blocks by none.
    fn map_again(&mut self, range: Range<usize>, flags: libc::c_int) -> io::Result<()> {
        assert!(range.start <= range.end && range.end <= self.block_end(self.bytes));
        let start = self.start.as_ptr().wrapping_add(range.start);
        // SAFETY: the range lies in the mapping that the buffer owns, and no reference to it lives
        // while `self` is borrowed to change.
        unsafe { map(start.cast(), range.len(), libc::MAP_FIXED | flags) }.map(drop)
    }

    fn advise(&self, range: Range<usize>, advice: libc::c_int) -> io::Result<()> {
        assert!(range.start <= range.end && range.end <= self.block_end(self.bytes));
        let start = self.start.as_ptr().wrapping_add(range.start);
        // SAFETY: the range lies in the mapping of this buffer; none of the advices that are given
        // here changes what it holds.
        let status = unsafe { libc::madvise(start.cast(), range.len(), advice) };
        if status == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// Gives all of its memory back to the machine, huge pages to those that were set aside: it is
    /// as it was new.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn release(&mut self) -> Result<()> {
        let all = 0..self.block_end(self.bytes);
        self.map_again(all.clone(), 0)
            .map_err(|e| Error::Memory(format!("memory could not be given back: {e}")))?;
        // Refused by kernels that never join pages: as wanted.
        drop(self.advise(all, libc::MADV_NOHUGEPAGE));
        self.grown = 0;
        Ok(())
    }

    /// Its bytes.
    pub const fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping has at least so many bytes, all readable; it lives as long as `self`,
        // and nobody writes to it while `self` is borrowed.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }

    /// Its bytes, to write.
    pub const fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `bytes`, and `self` is borrowed by this caller alone.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let (first, room) = self.taken;
        // SAFETY: the range is the mapping of this buffer, and no reference outlives it.
        let status = unsafe { libc::munmap(first.as_ptr().cast(), room) };
        debug_assert_eq!(status, 0, "the mapping was there");
    }
}

/// Maps zeroed memory, at a place of the kernel's choice or over what is at `at`. Nothing is set
/// aside for it: huge pages that others wait for are taken when they are used.
///
/// # Safety
/// With `MAP_FIXED`, nobody may refer to what was mapped there.
unsafe fn map(at: *mut libc::c_void, bytes: usize, flags: libc::c_int) -> io::Result<NonNull<u8>> {
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | flags;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: as the caller says.
    let start = unsafe { libc::mmap(at, bytes, access, kind, -1, 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))
}

/// Bytes by which a buffer grows: a 32nd of it or less, a power of two between a small page and a
/// gigantic one.
const fn block_bytes(bytes: usize) -> usize {
    let part = bytes / BLOCKS;
    let least = if part >= 1 << 21 { 1 << 21 } else { 1 << 12 };
    let mut block = least;
    while block < 1 << 30 && block * 2 <= part {
        block *= 2;
    }
    block
}

fn transparent_pages() -> bool {
    fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled")
        .is_ok_and(|text| !text.contains("[never]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffer_is_zeroed_writable_and_says_its_pages() {
        for best in Pages::ORDER {
            let mut buffer = Buffer::new(5 << 20, best).unwrap();
            assert_eq!(buffer.grown(), 0);
            assert!(buffer.bytes().iter().all(|b| *b == 0));
            buffer.grow(5 << 20).unwrap();
            assert!(buffer.pages() >= best);
            assert!(buffer.bytes().iter().all(|b| *b == 0));
            buffer.bytes_mut()[5 * (1 << 20) - 1] = 7;
            buffer.release().unwrap();
            assert_eq!(buffer.grown(), 0);
            assert!(buffer.bytes().iter().all(|b| *b == 0));
            buffer.bytes_mut().fill(1);
            assert_eq!(buffer.bytes().len(), 5 << 20);
        }
    }

    #[test]
    fn buffer_keeps_what_it_holds_when_it_grows() {
        let mut buffer = Buffer::new(64 << 20, Pages::Gigantic).unwrap();
        assert_eq!(buffer.block(), 2 << 20);
        for (n, end) in (1u8..).zip((1..64usize << 20).step_by(5 << 20)) {
            buffer.grow(end).unwrap();
            assert!(buffer.grown() >= end && buffer.grown() < end + buffer.block());
            buffer.bytes_mut()[end - 1] = n;
        }
        for (n, end) in (1u8..).zip((1..64usize << 20).step_by(5 << 20)) {
            assert_eq!(buffer.bytes()[end - 1], n);
        }
        buffer.grow(usize::MAX).unwrap();
        assert_eq!(buffer.grown(), 64 << 20);
    }

    #[test]
    fn blocks_are_a_small_part_of_a_buffer_and_fit_its_pages() {
        for (bytes, block) in [
            (1, 4 << 10),
            (2 << 10, 4 << 10),
            (8 << 20, 256 << 10),
            (64 << 20, 2 << 20),
            (512 << 20, 16 << 20),
            (32 << 30, 1 << 30),
            (256 << 30, 1 << 30),
        ] {
            assert_eq!(block_bytes(bytes), block, "of {bytes} bytes");
        }
    }

    #[test]
    fn impossible_sizes_are_errors() {
        for bytes in [0, usize::MAX / 2, usize::MAX] {
            let e = Buffer::new(bytes, Pages::Huge).unwrap_err();
            assert!(e.to_string().contains(&bytes.to_string()), "{e}");
        }
    }
}
