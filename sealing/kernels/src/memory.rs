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
    ptr::{self, NonNull},
    slice,
};

use crate::error::{Error, Result};

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

/// Zeroed memory of its own pages.
#[derive(Debug)]
pub struct Buffer {
    start: NonNull<u8>,
    bytes: usize,
    mapped: usize,
    pages: Pages,
}

// SAFETY: the buffer owns its memory alone; references to it follow the borrow rules.
unsafe impl Send for Buffer {}
// SAFETY: as above; a shared buffer gives shared references only.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// Takes memory on the first kind of pages from `best` on that the machine has left.
    ///
    /// Pages that are set aside are taken whole at once; others when they are first written.
    ///
    /// # Errors
    /// When there is no memory, or the size is 0.
    pub fn new(bytes: usize, best: Pages) -> Result<Self> {
        let mut said = Vec::new();
        for pages in Pages::ORDER.into_iter().filter(|p| *p >= best) {
            match Self::on(bytes, pages) {
                Ok(buffer) => return Ok(buffer),
                Err(e) => said.push(format!("{}: {e}", pages.name())),
            }
        }
        let text = format!("no memory of {bytes} bytes ({})", said.join("; "));
        Err(Error::Memory(text))
    }

    fn on(bytes: usize, pages: Pages) -> io::Result<Self> {
        let mapped = rounded(bytes, pages).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "not for buffers of this size")
        })?;
        if pages == Pages::Transparent && !transparent_pages() {
            return Err(io::Error::other("the kernel does not join pages"));
        }
        let huge = pages.set_aside().map_or(0, |bits| {
            libc::MAP_HUGETLB | (bits.cast_signed() << libc::MAP_HUGE_SHIFT)
        });
        // SAFETY: a new anonymous mapping at a place of the kernel's choice touches no other memory.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                mapped,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | huge,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let Some(start) = NonNull::new(start.cast()) else {
            return Err(io::Error::other("mapped at address 0"));
        };
        let buffer = Self {
            start,
            bytes,
            mapped,
            pages,
        };
        match pages {
            // A control group may forbid pages that the mapping was promised: asking for them now
            // is an error, touching them later would be the end of the process.
            Pages::Gigantic | Pages::Huge => buffer.advise(libc::MADV_POPULATE_WRITE)?,
            Pages::Transparent => buffer.advise(libc::MADV_HUGEPAGE)?,
            // Refused by kernels that never join pages: as wanted.
            Pages::Small => drop(buffer.advise(libc::MADV_NOHUGEPAGE)),
        }
        Ok(buffer)
    }

    fn advise(&self, advice: libc::c_int) -> io::Result<()> {
        // SAFETY: the range is the mapping of this buffer.
        let status = unsafe { libc::madvise(self.start.as_ptr().cast(), self.mapped, advice) };
        if status == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// What it lies on.
    pub const fn pages(&self) -> Pages {
        self.pages
    }

    /// Gives memory that was not set aside back to the machine until it is written again. What is
    /// read from the buffer afterwards is of no use.
    pub fn release(&mut self) {
        if self.pages.set_aside().is_none()
            && let Err(e) = self.advise(libc::MADV_DONTNEED)
        {
            tracing::debug!(error = %e, "memory stays until it is used again");
        }
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
        // SAFETY: the range is the mapping of this buffer, and no reference outlives it.
        let status = unsafe { libc::munmap(self.start.as_ptr().cast(), self.mapped) };
        debug_assert_eq!(status, 0, "the mapping was there");
    }
}

/// Bytes to map; none when the buffer would waste more than an eighth of them.
fn rounded(bytes: usize, pages: Pages) -> Option<usize> {
    let page = 1usize << pages.set_aside().unwrap_or(12);
    let mapped = bytes.checked_next_multiple_of(page)?;
    let wasteful = pages.set_aside().is_some() && mapped - bytes > mapped / 8;
    (bytes > 0 && !wasteful).then_some(mapped)
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
            assert!(buffer.pages() >= best);
            assert!(buffer.bytes().iter().all(|b| *b == 0));
            buffer.bytes_mut()[5 * (1 << 20) - 1] = 7;
            buffer.release();
            buffer.bytes_mut().fill(1);
            assert_eq!(buffer.bytes().len(), 5 << 20);
        }
    }

    #[test]
    fn small_buffer_never_takes_a_large_page() {
        for bytes in [1, 4096, 1 << 20] {
            let buffer = Buffer::new(bytes, Pages::Gigantic).unwrap();
            assert!(buffer.pages() >= Pages::Transparent, "{:?}", buffer.pages());
        }
        assert_eq!(rounded(1 << 30, Pages::Gigantic), Some(1 << 30));
        assert_eq!(rounded(512 << 20, Pages::Gigantic), None);
    }

    #[test]
    fn impossible_sizes_are_errors() {
        for bytes in [0, usize::MAX / 2, usize::MAX] {
            let e = Buffer::new(bytes, Pages::Huge).unwrap_err();
            assert!(e.to_string().contains(&bytes.to_string()), "{e}");
        }
    }
}
