//! Named points at which a test may hold a task, only in builds with the feature `test-points`.
//!
//! With `FILSTAR_PAUSE_AT=pc2` in the environment of a task process, a PC2 task stops at its point
//! and waits until the file `<scratch>/resume-pc2` exists, or until it is killed. While it waits
//! there is a file `<scratch>/paused-pc2-<sector>`, so that a test knows when to act. Points: see
//! [`Point`]. Several points are separated by commas.

use filstar_sealing::{Task, steps::Point};

/// Waits at a point, if somebody asked for it.
#[cfg(feature = "test-points")]
pub(crate) fn at(point: Point, task: &Task) {
    use std::{fs, thread, time::Duration};
    const LOOK: Duration = Duration::from_millis(50);
    let wanted = std::env::var("FILSTAR_PAUSE_AT").unwrap_or_default();
    let Some(place) = task
        .scratch()
        .filter(|_| wanted.split(',').any(|w| w == point.name()))
    else {
        return;
    };
    let here = place
        .root
        .join(format!("paused-{}-{}", point.name(), place.sector));
    let resume = place.root.join(format!("resume-{}", point.name()));
    tracing::warn!(point = point.name(), resume = %resume.display(), "paused for a test");
    if let Err(e) = fs::write(&here, b"") {
        tracing::warn!(error = %e, "cannot say that the task is paused");
    }
    while !resume.exists() {
        thread::sleep(LOOK);
    }
    drop(fs::remove_file(&here));
}

/// Builds for users have no such points.
#[cfg(not(feature = "test-points"))]
pub(crate) fn at(_point: Point, _task: &Task) {}
