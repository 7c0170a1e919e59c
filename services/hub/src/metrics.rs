//! What the hub counts; names and meaning are upstream's, so that its dashboards go on working.

use prometheus::{IntGauge, Registry};

/// The farm's counts; three series.
#[derive(Clone)]
pub struct Gauges {
    registered: IntGauge,
    reserved: IntGauge,
    waiting: IntGauge,
}

impl Gauges {
    /// Registers them.
    ///
    /// # Errors
    /// When a name is taken.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let gauge = |name, help| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        Ok(Self {
            registered: gauge("not_my_board_places_registered", "Number of registered places")?,
            reserved: gauge("not_my_board_places_reserved", "Number of reserved places")?,
            waiting: gauge(
                "not_my_board_reservation_queue_length",
                "Number of pending reservation requests",
            )?,
        })
    }

    /// Shows the counts.
    pub fn set(&self, registered: usize, reserved: usize, waiting: usize) {
        let shown = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.registered.set(shown(registered));
        self.reserved.set(shown(reserved));
        self.waiting.set(shown(waiting));
    }
}
