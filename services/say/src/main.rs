//! `say` speaks words: `GET /say/hello%20world` answers a WAV.
mod body;
mod budget;
mod coding;
mod config;
mod engine;
mod frame;
mod gzip;
mod http;
mod metrics;
mod pool;
mod process;
mod sandbox;
mod speech;
mod text;
mod voice;
mod wav;
mod worker;

use std::process::ExitCode;

use chassis::Fatal;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == worker::ARGUMENT) {
        let limits = arguments.map(|limit| limit.to_string_lossy().into_owned());
        return worker::run(worker::Limits::parse(limits));
    }
    chassis::run(chassis::about!(), start)
}

fn start(config: config::Config) -> Result<(), Fatal> {
    engine::give_large_memory_back();
    let registry = chassis::registry(&chassis::about!())?;
    let metrics = metrics::Metrics::register(&registry)?;
    let budget = budget::Budget::new(config.memory_mib << 20);
    let plan = pool::Plan {
        workers: config.worker_count(),
        limits: config.limits(),
        queue_max: config.queue_max,
        queue_wait_max: config.queue_wait_max(),
    };
    let (pool, hello) = pool::Pool::start(plan, budget.clone(), metrics.clone())?;
    let voice = hello
        .voices
        .find(&config.voice)
        .map_err(|error| Fatal::settings(format!("voice: {error}")))?;
    let speech =
        speech::Speech::new(pool.clone(), (config.cache_mib as u64) << 20, budget, metrics);
    let state = http::State {
        speech,
        voices: hello.voices,
        voice,
        greeting: config.greeting.clone(),
        chars_max: config.chars_max,
    };
    chassis::Server::new(config.listen, config.drain(), registry)
        .health(
            move || if pool.alive() { Ok(()) } else { Err("no speech worker is alive".to_owned()) },
        )
        .run(http::routes(state))
}
