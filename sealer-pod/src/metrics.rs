//! Metrics in the text format of Prometheus. Labels are names of variants, never text.

use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

/// The metrics of both roles.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    /// Finished tasks by kind and outcome.
    pub(crate) tasks: IntCounterVec,
    /// How long tasks took, by kind.
    pub(crate) seconds: HistogramVec,
    /// Task processes that run now.
    pub(crate) running: IntGauge,
    /// Whether the pod has the CPUs that it was promised.
    pub(crate) placed: IntGauge,
    /// Failed calls, by what was called.
    pub(crate) call_errors: IntCounterVec,
    /// Sectors left out of proofs.
    pub(crate) skipped: IntCounterVec,
}

impl Metrics {
    /// All at zero.
    ///
    /// # Errors
    /// Never with the names below; the library checks them while running.
    pub(crate) fn new() -> prometheus::Result<Self> {
        // From 10 ms (2 KiB) to 11 hours (64 GiB).
        let buckets = prometheus::exponential_buckets(0.01, 4.0, 12)?;
        let seconds = HistogramOpts::new("filstar_pod_task_seconds", "How long tasks took.");
        let counters = |name: &str, help: &str, labels: &[&str]| {
            IntCounterVec::new(Opts::new(name, help), labels)
        };
        let metrics = Self {
            registry: Registry::new(),
            tasks: counters(
                "filstar_pod_tasks_total",
                "Finished tasks.",
                &["kind", "outcome"],
            )?,
            seconds: HistogramVec::new(seconds.buckets(buckets), &["kind"])?,
            running: IntGauge::new("filstar_pod_tasks_running", "Task processes that run now.")?,
            placed: IntGauge::new(
                "filstar_pod_placement_verified",
                "1 when the kernel gave the pod the CPUs that it was promised.",
            )?,
            call_errors: counters("filstar_pod_call_errors_total", "Failed calls.", &["to"])?,
            skipped: counters(
                "filstar_pod_skipped_sectors_total",
                "Sectors left out of window proofs.",
                &["class"],
            )?,
        };
        let registry = &metrics.registry;
        registry.register(Box::new(metrics.tasks.clone()))?;
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.running.clone()))?;
        registry.register(Box::new(metrics.placed.clone()))?;
        registry.register(Box::new(metrics.call_errors.clone()))?;
        registry.register(Box::new(metrics.skipped.clone()))?;
        Ok(metrics)
    }
}

impl crate::http::Exposed for Metrics {
    fn text(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if let Err(e) = TextEncoder::new().encode(&self.registry.gather(), &mut out) {
            tracing::error!(error = %e, "metrics cannot be written");
        }
        out
    }
}
