//! The metrics that every process has.

use prometheus::IntGauge;
use prometheus::Opts;
use prometheus::Registry;
use prometheus::process_collector::ProcessCollector;

use crate::About;
use crate::Fatal;

/// A registry with `process_*` (memory, CPU, files, start time) and `hubbub_build_info`.
///
/// # Errors
///
/// Never for a fresh registry; registering is fallible by its type.
pub fn registry(about: &About) -> Result<Registry, Fatal> {
    let registry = Registry::new();
    registry.register(Box::new(ProcessCollector::for_self()))?;
    let build = IntGauge::with_opts(
        Opts::new("hubbub_build_info", "Always 1; the labels say what runs here.")
            .const_label("name", about.name)
            .const_label("version", about.version),
    )?;
    build.set(1);
    registry.register(Box::new(build))?;
    Ok(registry)
}
