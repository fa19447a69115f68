//! Unsealing with our kernels: the layers again, then the data block by block.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use filstar_kernels::{
    sdr::{Lane, layer_name},
    trees::{self, Decode},
};

use super::{
    Own,
    pc1::{self, duration},
};
use crate::{
    engine::UnsealJob,
    error::{Error, Result},
    hash::replica_id,
    steps::Progress,
};

/// Labelling takes nearly all of the time.
const LAYERS_PERCENT: u32 = 95;

/// Labels what is missing of the layers, and takes the last one off the replica.
pub(super) fn run(own: &Own, job: &UnsealJob<'_>) -> Result<Option<(PathBuf, [u8; 32])>> {
    let (proof, sector) = (job.place.proof, job.place.sector);
    let (prover, number) = (sector.prover_id(), sector.number);
    let lane = Lane {
        replica_id: replica_id(proof, &prover, number, job.ticket, job.comm_d).0,
        folder: job.layers.to_owned(),
    };
    let report = pc1::label(own, proof, &[lane], &|p| {
        let p = pc1::in_words("Unseal", p, 1);
        let percent = p.percent * LAYERS_PERCENT / 100;
        (job.progress)(Progress { percent, ..p });
    })?;
    let key = job.layers.join(layer_name(proof.layers()));
    let (told, begin) = (AtomicU32::new(0), Instant::now());
    let progress = |done: u64| {
        let share = u32::try_from(done * 100 / proof.nodes()).unwrap_or(100);
        if told.fetch_max(share, Ordering::Relaxed) < share {
            (job.progress)(Progress {
                percent: LAYERS_PERCENT + share * (100 - LAYERS_PERCENT) / 100,
                detail: in_words(done, proof.nodes(), begin.elapsed()),
            });
        }
    };
    let decode = Decode {
        nodes: proof.nodes(),
        key: &key,
        replica: job.replica,
        threads: own.threads.get(),
        progress: &progress,
    };
    trees::decode(&decode, job.data).map_err(Error::from)?;
    let mut made = report.layers.into_iter().flatten();
    Ok(made.find(|(path, _)| *path == key))
}

#[expect(clippy::cast_precision_loss, reason = "figures to look at")]
fn in_words(done: u64, nodes: u64, taken: Duration) -> String {
    let rate = done as f64 / taken.as_secs_f64().max(1e-9);
    let left = (nodes - done) as f64 / rate.max(1.0);
    format!(
        "Unseal: data, node {done} of {nodes}, {:.2} million nodes/s, {} left",
        rate / 1e6,
        duration(left),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_says_node_rate_and_time_left() {
        let said = in_words(1 << 29, 1 << 30, Duration::from_mins(2));
        let want = "Unseal: data, node 536870912 of 1073741824, 4.47 million nodes/s, 2 min left";
        assert_eq!(said, want);
        assert!(in_words(64, 64, Duration::ZERO).ends_with("0 min left"));
    }
}
