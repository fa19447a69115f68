//! All layers of some sectors: what is there is taken, what is missing labelled.

use std::{
    fmt,
    ops::Range,
    path::PathBuf,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};

use super::{
    journal::Head,
    kernel::{AHEAD, Kernel, Labels, Span},
    store::{Disk, Good, LayerFile, RealDisk, Writer},
};
use crate::{
    error::{Error, Result},
    graph::{DEGREE, Row},
    memory::{Buffer, Pages},
    parents::Rows,
    pool::{Holder, Pool},
};

/// Nodes labelled between two looks at whether to stop.
const BLOCK: usize = 2048;
/// Segments that may wait for the disk.
const WAITING: usize = 1;

/// One of the sectors that are labelled together.
#[derive(Clone, Debug)]
pub struct Lane {
    /// What makes its labels its own.
    pub replica_id: [u8; 32],
    /// Where its layers are.
    pub folder: PathBuf,
}

/// What to label.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// Layers of a sector.
    pub layers: u32,
    /// One, two or four sectors.
    pub lanes: &'a [Lane],
    /// Their graph.
    pub rows: &'a dyn Rows,
    /// How.
    pub options: Options<'a>,
}

impl fmt::Debug for Job<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("layers", &self.layers)
            .field("lanes", &self.lanes)
            .finish_non_exhaustive()
    }
}

/// How to label. No choice changes a label.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Which code labels.
    pub kernel: Kernel,
    /// The best pages to ask for.
    pub pages: Pages,
    /// Whom to ask for memory; nobody when it is none.
    pub pool: Option<&'a Pool>,
    /// Nodes between two marks: after a crash the labels since the last but two may be lost.
    pub segment_nodes: usize,
    /// What files are written with.
    pub disk: &'a dyn Disk,
    /// Told after each segment how far the work is.
    pub progress: &'a dyn Fn(Progress),
    /// Asked often whether to stop.
    pub stop: &'a dyn Fn() -> bool,
}

impl fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("kernel", &self.kernel)
            .field("pages", &self.pages)
            .field("pool", &self.pool)
            .field("segment_nodes", &self.segment_nodes)
            .finish_non_exhaustive()
    }
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            kernel: Kernel::best(),
            pages: Pages::Gigantic,
            pool: None,
            segment_nodes: 1 << 18,
            disk: &RealDisk,
            progress: &|_| {},
            stop: &|| false,
        }
    }
}

/// How far the work is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// The layer in work, from 1.
    pub layer: u32,
    /// Layers in all.
    pub layers: u32,
    /// Nodes of it that are labelled.
    pub node: u64,
    /// Nodes of a layer.
    pub nodes: u64,
    /// Nodes a second of all lanes together, since the layer was begun or taken up again.
    pub rate: f64,
}

/// What was done.
#[derive(Clone, Debug)]
pub struct Report {
    /// What the layers lay on.
    pub pages: Pages,
    /// By lane and layer: file and SHA-256.
    pub layers: Vec<Vec<(PathBuf, [u8; 32])>>,
    /// Files that were found damaged and made again, one sentence each.
    pub repaired: Vec<String>,
    /// Nodes that were labelled, in each lane.
    pub labelled: u64,
    /// Time that took, without reading back.
    pub labelling: Duration,
}

/// Labels of a sector that earlier runs left on disk, of all layers together; their digests are not looked
/// at. Sectors in lock step go on where the last of them is.
///
/// # Errors
/// When a folder cannot be read.
pub fn on_disk(lane: &Lane, layers: u32, nodes: u64) -> Result<u64> {
    let mut all = 0;
    for layer in 1..=layers {
        let replica_id = lane.replica_id;
        let head = Head {
            replica_id,
            layer,
            nodes,
        };
        let found = LayerFile::new(lane.folder.clone(), head).find()?;
        let here = found.marks.last().map_or(0, |m| m.nodes);
        all += here;
        if here < nodes {
            break;
        }
    }
    Ok(all)
}

/// Labels all layers of the lanes in lock step. Layers that are there already are taken when their
/// journals and digests say that they are whole; one that was begun goes on where it is good.
///
/// # Errors
/// `Input` for a number of lanes other than 1, 2 and 4; `Stopped` when asked; else what files and
/// memory say. What is on the disk then is good for the next attempt.
pub fn label(job: &Job<'_>) -> Result<Report> {
    match job.lanes.len() {
        1 => Work::<1>::new(job)?.run(),
        2 => Work::<2>::new(job)?.run(),
        4 => Work::<4>::new(job)?.run(),
        n => {
            let text = format!("1, 2 or 4 sectors are labelled together, not {n}");
            Err(Error::Input(text))
        }
    }
}

/// A segment on its way to the disk, and its buffers on their way back: whole pages, as writing past
/// the page cache wants them.
struct Segment<const L: usize> {
    lanes: [Buffer; L],
    bytes: usize,
}

impl<const L: usize> Segment<L> {
    fn new(bytes: usize) -> Result<Self> {
        let lanes: Vec<_> = (0..L)
            .map(|_| Buffer::new(bytes, Pages::Small))
            .collect::<Result<_>>()?;
        let lanes = lanes.try_into();
        let lanes = lanes.map_err(|_| Error::Memory("as many buffers as lanes".to_owned()))?;
        Ok(Self { lanes, bytes: 0 })
    }

    fn add(&mut self, nodes: &[Labels<L>]) {
        for (lane, buffer) in self.lanes.iter_mut().enumerate() {
            let room = buffer.bytes_mut()[self.bytes..].as_chunks_mut().0;
            for (to, node) in room.iter_mut().zip(nodes) {
                *to = node[lane];
            }
        }
        self.bytes += size_of_val(nodes) / L;
    }

    fn labels(&self, lane: usize) -> &[u8] {
        &self.lanes[lane].bytes()[..self.bytes]
    }
}

struct Work<'a, const L: usize> {
    job: &'a Job<'a>,
    nodes: usize,
    replica_ids: [[u8; 32]; L],
    rows: Vec<Row>,
    current: Buffer,
    previous: Buffer,
    /// Its part of the pool, which outlives the buffers.
    holder: Option<Holder>,
    report: Report,
}

impl<'a, const L: usize> Work<'a, L> {
    fn new(job: &'a Job<'a>) -> Result<Self> {
        let nodes = job.rows.nodes();
        let bad = || Error::Input(format!("layers of {nodes} nodes cannot be labelled"));
        let bytes = usize::try_from(nodes)
            .ok()
            .filter(|n| n.is_power_of_two() && nodes <= crate::graph::MAX_NODES)
            .and_then(|n| n.checked_mul(32 * L))
            .ok_or_else(bad)?;
        let layer = || Buffer::new(bytes, job.options.pages);
        let (current, previous) = (layer()?, layer()?);
        let whole = current.block_end(bytes) as u64;
        let enter = |pool: &Pool| pool.enter(whole, job.options.stop);
        let holder = job.options.pool.map(enter).transpose()?;
        let report = Report {
            pages: job.options.pages,
            layers: vec![Vec::new(); L],
            repaired: Vec::new(),
            labelled: 0,
            labelling: Duration::ZERO,
        };
        Ok(Self {
            job,
            nodes: bytes / (32 * L),
            replica_ids: std::array::from_fn(|l| job.lanes[l].replica_id),
            rows: vec![[[0; 4]; DEGREE]; BLOCK + AHEAD],
            current,
            previous,
            holder,
            report,
        })
    }

    fn run(mut self) -> Result<Report> {
        let begin = self.take_up()?;
        for layer in begin..=self.job.layers {
            let good = self.read_back(layer)?;
            if good[0].nodes() < self.nodes as u64 || !self.is_whole(layer)? {
                self.layer(layer, &good)?;
            }
            self.turn()?;
        }
        self.report.pages = self.current.pages().max(self.previous.pages());
        for layer in 1..=self.job.layers {
            for (lane, file) in self.files(layer).iter().enumerate() {
                let digest = file.find()?.marks.last().map(|m| m.sha256);
                let digest = digest.ok_or_else(|| {
                    Error::damaged(&file.path(), "its journal is gone while it was in use")
                })?;
                self.report.layers[lane].push((file.path(), digest));
            }
        }
        Ok(self.report)
    }

    /// Finds the layer to begin with, and reads the one before it back. One that turns out to be
    /// damaged is itself the one to begin with.
    fn take_up(&mut self) -> Result<u32> {
        let mut begin = 1;
        while begin <= self.job.layers && self.is_whole(begin)? {
            begin += 1;
        }
        while begin > 1 {
            let good = self.read_back(begin - 1)?;
            if good[0].nodes() == self.nodes as u64 {
                self.turn()?;
                break;
            }
            begin -= 1;
        }
        Ok(begin)
    }

    fn files(&self, layer: u32) -> [LayerFile; L] {
        let head = |replica_id| Head {
            replica_id,
            layer,
            nodes: self.nodes as u64,
        };
        let lane = |l: usize| &self.job.lanes[l];
        std::array::from_fn(|l| LayerFile::new(lane(l).folder.clone(), head(lane(l).replica_id)))
    }

    fn is_whole(&self, layer: u32) -> Result<bool> {
        for file in self.files(layer) {
            if !file.find()?.whole {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads a layer back into the current buffer, as far as it is good in all lanes.
    fn read_back(&mut self, layer: u32) -> Result<[Good; L]> {
        let mut goods: [Good; L] = std::array::from_fn(|_| Good::default());
        for (lane, file) in self.files(layer).iter().enumerate() {
            let found = file.find()?;
            self.grow(found.marks.last().map_or(0, |m| m.nodes))?;
            let current = labels_mut::<L>(&mut self.current);
            goods[lane] = file.read(&found, |first, labels| {
                let first = usize::try_from(first).unwrap_or(usize::MAX);
                for (node, label) in current[first..].iter_mut().zip(labels) {
                    node[lane] = *label;
                }
            })?;
            if let Some(damage) = &goods[lane].damage {
                tracing::warn!(damage, "labelled again from the last good node");
                self.report.repaired.push(damage.clone());
            }
        }
        let common = goods[0].marks.iter().rev().map(|(m, _)| m.nodes).find(|n| {
            goods
                .iter()
                .all(|g| g.marks.iter().any(|(m, _)| m.nodes == *n))
        });
        for good in &mut goods {
            good.cut(common.unwrap_or(0));
        }
        Ok(goods)
    }

    /// Memory for the layer in work, up to a node.
    fn grow(&mut self, nodes: u64) -> Result<()> {
        let nodes = usize::try_from(nodes).unwrap_or(usize::MAX);
        let end = self.current.block_end(nodes.min(self.nodes) * 32 * L);
        // A layer of its own is every holder's from the start: the first one, later the one before.
        if self.previous.grown() > 0
            && let Some(holder) = &mut self.holder
        {
            while holder.growing() < end as u64 {
                let next = holder.growing() + self.current.block() as u64;
                holder.grow(next, self.job.options.stop)?;
            }
        }
        self.current.grow(end)
    }

    /// The layer in work is whole: it is the one before from now on. Its place is used again, unless
    /// others may wait for it.
    fn turn(&mut self) -> Result<()> {
        std::mem::swap(&mut self.current, &mut self.previous);
        if let Some(holder) = &mut self.holder {
            self.current.release()?;
            holder.next_layer()?;
        }
        Ok(())
    }

    /// Labels the rest of a layer and writes it.
    fn layer(&mut self, layer: u32, good: &[Good; L]) -> Result<()> {
        let mut writers = Vec::new();
        for (file, good) in self.files(layer).iter().zip(good) {
            writers.push(file.reopen(good, self.job.options.disk)?);
        }
        let from = usize::try_from(good[0].nodes()).unwrap_or(usize::MAX);
        let (to_disk, segments) = sync_channel::<Segment<L>>(WAITING);
        let (give_back, empty) = sync_channel::<Segment<L>>(WAITING + 2);
        thread::scope(|scope| {
            let writing = scope.spawn(move || write(writers, &segments, &give_back));
            let hashed = self.segments(layer, from, &to_disk, &empty);
            drop(to_disk);
            let written = writing
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            // A writer that failed has hung up: its own words say why.
            written.and(hashed)
        })
    }

    fn segments(
        &mut self,
        layer: u32,
        from: usize,
        to_disk: &SyncSender<Segment<L>>,
        empty: &Receiver<Segment<L>>,
    ) -> Result<()> {
        let begin = Instant::now();
        let size = self.job.options.segment_nodes.max(1);
        let mut at = from;
        while at < self.nodes {
            let end = (at / size * size + size).min(self.nodes);
            let mut segment = match empty.try_recv() {
                Ok(used) => used,
                Err(_) => Segment::new(size.min(self.nodes) * 32)?,
            };
            segment.bytes = 0;
            self.segment(layer, at..end, &mut segment)?;
            if to_disk.send(segment).is_err() {
                return Err(Error::Stopped);
            }
            self.report.labelled += (end - at) as u64;
            at = end;
            let seconds = begin.elapsed().as_secs_f64().max(1e-9);
            #[expect(clippy::cast_precision_loss, reason = "a rate to look at")]
            (self.job.options.progress)(Progress {
                layer,
                layers: self.job.layers,
                node: at as u64,
                nodes: self.nodes as u64,
                rate: ((at - from) * L) as f64 / seconds,
            });
        }
        self.report.labelling += begin.elapsed();
        Ok(())
    }

    /// Labels some nodes, and copies each lane's labels for its file.
    fn segment(&mut self, layer: u32, nodes: Range<usize>, out: &mut Segment<L>) -> Result<()> {
        let mut at = nodes.start;
        while at < nodes.end {
            if (self.job.options.stop)() {
                return Err(Error::Stopped);
            }
            let count = (nodes.end - at).min(BLOCK);
            self.grow((at + count) as u64)?;
            let rows = &mut self.rows[..(count + AHEAD).min(self.nodes - at)];
            self.job.rows.read(at as u64, rows)?;
            let current = labels_mut::<L>(&mut self.current);
            self.job.options.kernel.label(&mut Span {
                layer,
                first: u32::try_from(at).unwrap_or(u32::MAX),
                count,
                rows,
                replica_ids: &self.replica_ids,
                previous: labels(&self.previous),
                current,
            });
            out.add(&current[at..at + count]);
            at += count;
        }
        Ok(())
    }
}

/// The other thread: puts segments on the disk until there are no more.
fn write<const L: usize>(
    mut writers: Vec<Writer<'_>>,
    segments: &Receiver<Segment<L>>,
    give_back: &SyncSender<Segment<L>>,
) -> Result<()> {
    let whole = loop {
        let Ok(segment) = segments.recv() else {
            break writers.iter().all(Writer::is_whole);
        };
        for (lane, writer) in writers.iter_mut().enumerate() {
            writer.add(segment.labels(lane))?;
        }
        // When nobody needs the buffers any more, they are freed.
        drop(give_back.try_send(segment));
    };
    if whole {
        for writer in writers {
            writer.finish()?;
        }
    }
    Ok(())
}

fn labels<const L: usize>(buffer: &Buffer) -> &[Labels<L>] {
    buffer.bytes().as_chunks().0.as_chunks().0
}

fn labels_mut<const L: usize>(buffer: &mut Buffer) -> &mut [Labels<L>] {
    buffer.bytes_mut().as_chunks_mut().0.as_chunks_mut().0
}
