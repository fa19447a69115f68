//! One file system: what is used of it, and what is booked on it.

use filstar_crds::Disk;

/// A file system as pledging sees it, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Room {
    capacity: u64,
    free: u64,
    booked: u64,
    sectors: usize,
}

impl Room {
    pub(super) fn of(disk: &Disk) -> Self {
        Self {
            capacity: disk.capacity,
            free: disk.free.min(disk.capacity),
            ..Self::default()
        }
    }

    /// Another reading of the same file system: the fuller one counts.
    pub(super) fn also(&mut self, disk: &Disk) {
        if disk.free < self.free {
            (self.capacity, self.free) = (disk.capacity, disk.free.min(disk.capacity));
        }
    }

    /// Books what a sector has yet to write.
    pub(super) fn book(&mut self, bytes: u64) {
        if bytes > 0 {
            self.booked = self.booked.saturating_add(bytes);
            self.sectors += 1;
        }
    }

    /// Takes a booking back.
    pub(super) fn unbook(&mut self, bytes: u64) {
        if bytes > 0 {
            self.booked = self.booked.saturating_sub(bytes);
            self.sectors = self.sectors.saturating_sub(1);
        }
    }

    /// What may still be booked below a bound on what is used, in percent.
    pub(super) fn left(&self, max_used_percent: u32) -> u64 {
        self.below(max_used_percent).saturating_sub(self.booked)
    }

    /// The same without bookings.
    pub(super) fn below(&self, max_used_percent: u32) -> u64 {
        let bound = u128::from(self.capacity) * u128::from(max_used_percent.min(100)) / 100;
        let bound = u64::try_from(bound).unwrap_or(u64::MAX);
        bound.saturating_sub(self.capacity - self.free)
    }

    /// Bytes booked.
    pub(super) fn booked(&self) -> u64 {
        self.booked
    }

    /// Sectors that have something booked.
    pub(super) fn sectors(&self) -> usize {
        self.sectors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(free: u64) -> Room {
        Room::of(&Disk {
            device: 1,
            capacity: 1000,
            free,
            ..Disk::default()
        })
    }

    #[test]
    fn what_is_used_and_what_is_booked_count_alike() {
        let mut room = room(600);
        assert_eq!(room.left(90), 500);
        room.book(300);
        assert_eq!(
            (room.left(90), room.below(90), room.sectors()),
            (200, 500, 1)
        );
        room.unbook(300);
        assert_eq!((room.left(90), room.sectors()), (500, 0));
        assert_eq!(room.left(40), 0);
    }

    #[test]
    fn of_two_readings_the_fuller_one_counts() {
        let mut one = room(600);
        one.also(&Disk {
            device: 1,
            capacity: 1000,
            free: 100,
            ..Disk::default()
        });
        assert_eq!(one.left(100), 100);
        one.also(&Disk {
            device: 1,
            capacity: 1000,
            free: 900,
            ..Disk::default()
        });
        assert_eq!(one.left(100), 100);
    }
}
