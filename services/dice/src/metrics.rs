//! What `dice` counts. Names: <https://prometheus.io/docs/practices/naming/>.

use prometheus::IntCounterVec;
use prometheus::Opts;
use prometheus::Registry;

use crate::face::Face;

#[derive(Clone)]
pub struct Metrics {
    /// Dice thrown; label `face` makes six series.
    dice_thrown_total: IntCounterVec,
}

impl Metrics {
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let options = Opts::new("dice_thrown_total", "Dice thrown, by the face that came up.");
        let dice_thrown_total = IntCounterVec::new(options, &["face"])?;
        registry.register(Box::new(dice_thrown_total.clone()))?;
        for face in Face::ALL {
            dice_thrown_total.with_label_values(&[face.number().to_string()]);
        }
        Ok(Self { dice_thrown_total })
    }

    pub fn thrown(&self, face: Face) {
        self.dice_thrown_total.with_label_values(&[face.number().to_string()]).inc();
    }
}
