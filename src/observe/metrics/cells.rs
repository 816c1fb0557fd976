//! What counts: cells without a lock, of which a request costs one atomic addition.

use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::{MetricType, TypedMetric};

use super::labels::Label;

/// One counter for each value of a closed list.
pub struct Counts<L> {
    cells: Arc<[AtomicU64]>,
    of: PhantomData<L>,
}

impl<L: Label> Counts<L> {
    /// Counts one.
    pub fn add(&self, label: L) {
        if let Some(cell) = self.cells.get(label.index()) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many so far.
    pub fn count(&self, label: L) -> u64 {
        self.cells
            .get(label.index())
            .map_or(0, |cell| cell.load(Ordering::Relaxed))
    }
}

impl<L: Label> Default for Counts<L> {
    fn default() -> Self {
        Counts {
            cells: L::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            of: PhantomData,
        }
    }
}

impl<L> Clone for Counts<L> {
    fn clone(&self) -> Self {
        Counts {
            cells: self.cells.clone(),
            of: PhantomData,
        }
    }
}

impl<L> fmt::Debug for Counts<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.cells.iter()).finish()
    }
}

impl<L: Label> EncodeMetric for Counts<L> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for &label in L::ALL {
            let labels = [(L::NAME, label.text())];
            ConstCounter::new(self.count(label)).encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

/// Upper bounds of [`Durations`] in microseconds: from a cached static answer to a slow report.
const BOUNDS: [u64; 14] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    5_000_000, 30_000_000,
];

/// A histogram of durations without a lock.
#[derive(Clone, Debug, Default)]
pub struct Durations(Arc<DurationCells>);

#[derive(Debug, Default)]
struct DurationCells {
    /// One for each bound and one for what is above all.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

impl Durations {
    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let place = BOUNDS.partition_point(|bound| *bound < micros);
        if let Some(bucket) = self.0.buckets.get(place) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.0.micros.fetch_add(micros, Ordering::Relaxed);
    }
}

impl EncodeMetric for Durations {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let upper = BOUNDS
            .iter()
            .map(|bound| *bound as f64 / 1e6)
            .chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = upper
            .zip(&self.0.buckets)
            .map(|(bound, bucket)| (bound, bucket.load(Ordering::Relaxed)))
            .collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = self.0.micros.load(Ordering::Relaxed) as f64 / 1e6;
        let exemplars: Option<&HashMap<usize, Exemplar<NoLabelSet, f64>>> = None;
        encoder.encode_histogram(sum, count, &buckets, exemplars)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

impl TypedMetric for Durations {
    const TYPE: MetricType = MetricType::Histogram;
}

/// Raises a gauge by one for as long as it lives.
#[derive(Debug)]
pub struct Held(Gauge);

impl Held {
    /// Raises the gauge.
    pub fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Held(gauge.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}
