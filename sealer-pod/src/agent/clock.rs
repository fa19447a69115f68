//! What the kernel knows of its own clock.
//!
//! Only whoever disciplines the clock (chrony, ntpd, systemd-timesyncd) knows how far it is off, and tells the kernel.
//! Without such a service the offset cannot be known here: it is absent, and the condition says Unknown, not True.

use super::report::{Finding, Truth};

/// From here on a clock counts as wrong, milliseconds: deadlines are judged by chain time, but certificates, leases
/// and logs are not.
const SKEWED: i64 = 1_000;
/// Offsets are told in these steps, milliseconds.
const STEP: i64 = 100;

/// The kernel's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Clock {
    /// Whether somebody disciplines it.
    pub(crate) synced: bool,
    /// What is still to be corrected, microseconds.
    pub(crate) offset_us: i64,
}

impl Clock {
    /// The offset in whole steps, milliseconds; none when nobody knows.
    pub(crate) fn offset_ms(self) -> Option<i64> {
        self.synced.then_some(self.offset_us / 1000 / STEP * STEP)
    }

    /// The condition `ClockSynced`.
    pub(crate) fn finding(self) -> Finding {
        let Some(offset) = self.offset_ms() else {
            return Finding::new(
                Truth::Unknown,
                "NotDisciplined",
                "the kernel says that nothing disciplines the clock, so how far it is off is not known: run chrony or systemd-timesyncd",
            );
        };
        if offset.abs() >= SKEWED {
            let text =
                format!("the clock is {offset} ms off: something is wrong with its time service");
            return Finding::new(Truth::False, "ClockSkewed", &text);
        }
        Finding::new(
            Truth::True,
            "Synced",
            "the clock is disciplined, and right within a second",
        )
    }
}

/// Asks the kernel. It says nothing where `adjtimex` is forbidden.
#[expect(unsafe_code, reason = "a system call that no crate of ours wraps")]
pub(crate) fn read() -> Clock {
    let mut buffer = std::mem::MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: the kernel reads `modes` and, since that is zero, only writes the structure, which is ours, of the
    // kernel's own layout and valid when all bytes are zero.
    let state = unsafe { libc::adjtimex(buffer.as_mut_ptr()) };
    // SAFETY: all-zero bytes are a valid `timex`: it is made of integers; the kernel may have written others.
    let timex = unsafe { buffer.assume_init() };
    let nanoseconds = timex.status & libc::STA_NANO != 0;
    let synced = state >= 0 && state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0;
    Clock {
        synced,
        offset_us: if nanoseconds {
            timex.offset / 1000
        } else {
            timex.offset
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_undisciplined_clock_is_unknown_not_right() {
        let clock = Clock {
            synced: false,
            offset_us: 0,
        };
        assert_eq!(clock.offset_ms(), None);
        assert_eq!(clock.finding().truth, Truth::Unknown);
    }

    #[test]
    fn a_clock_that_is_a_second_off_is_wrong_in_both_directions() {
        let truth = |offset_us| {
            Clock {
                synced: true,
                offset_us,
            }
            .finding()
            .truth
        };
        assert_eq!(truth(999_000), Truth::True);
        assert_eq!(truth(1_000_000), Truth::False);
        assert_eq!(truth(-1_000_000), Truth::False);
    }

    #[test]
    fn small_offsets_are_all_the_same() {
        let told = |offset_us| {
            Clock {
                synced: true,
                offset_us,
            }
            .offset_ms()
        };
        assert_eq!(
            (told(3_000), told(-99_999), told(250_000)),
            (Some(0), Some(0), Some(200))
        );
    }

    #[test]
    fn the_kernel_answers() {
        let clock = read();
        assert!(clock.offset_us.abs() < 86_400_000_000, "{clock:?}");
    }
}
