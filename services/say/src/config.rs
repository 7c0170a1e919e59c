//! The settings of `say`.

use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::time::Duration;

use chassis::Settings;
use serde::Deserialize;

use crate::engine::SAMPLE_RATE_HZ;
use crate::text::Script;
use crate::wav::SAMPLE_BYTES;
use crate::worker::Limits;

/// Settings; each is read from `SAY__<FIELD>`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address to listen on; port 0 lets the kernel choose.
    pub listen: SocketAddr,
    /// Time for running requests to finish after SIGTERM, in seconds.
    pub drain_s: u64,
    /// The voice that speaks when the request names none.
    pub voice: String,
    /// What `/` redirects to.
    pub greeting: String,
    /// Worker processes; without it, one per processor and at most eight.
    pub workers: Option<usize>,
    /// Longest text, in characters.
    pub chars_max: usize,
    /// Longest answer, in seconds of audio.
    pub audio_s_max: u32,
    /// Time on a processor for one request, in seconds.
    pub cpu_s_max: u32,
    /// Time by the clock for one request, in seconds.
    pub wall_s_max: u32,
    /// Requests that may wait for a worker; more are told to come again.
    pub queue_max: usize,
    /// Longest wait for a worker, in seconds.
    pub queue_s_max: u64,
    /// Memory for all audio (in the making, in the cache, on its way to clients), in MiB.
    pub memory_mib: usize,
    /// Memory for the answers that are kept, in MiB; part of `memory_mib`.
    pub cache_mib: usize,
}

/// More workers than this need a setting: each has processes and audio in memory.
const WORKERS_DEFAULT_MAX: usize = 8;

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv6Addr::UNSPECIFIED, 8080)),
            drain_s: 8,
            voice: "en".to_owned(),
            greeting: "hello from hubbub".to_owned(),
            workers: None,
            chars_max: 4096,
            audio_s_max: 300,
            cpu_s_max: 5,
            wall_s_max: 10,
            queue_max: 64,
            queue_s_max: 5,
            memory_mib: 88,
            cache_mib: 32,
        }
    }
}

impl Settings for Config {
    fn health_address(&self) -> SocketAddr {
        self.listen
    }

    fn check(&self) -> Result<(), String> {
        Script::parse(&self.greeting, usize::MAX).map_err(|error| format!("greeting: {error}"))?;
        let in_range = |name: &str, value: u64, least: u64, most: u64| {
            if (least..=most).contains(&value) {
                Ok(())
            } else {
                Err(format!("{name} is {value}, it must be from {least} to {most}"))
            }
        };
        in_range("workers", self.worker_count() as u64, 1, 64)?;
        // Percent-encoded, a character can be twelve bytes of a URL, which has room for 64 KiB.
        in_range("drain_s", self.drain_s, 0, 3_600)?;
        in_range("chars_max", self.chars_max as u64, 1, 5_000)?;
        in_range("audio_s_max", self.audio_s_max.into(), 1, 3_600)?;
        in_range("cpu_s_max", self.cpu_s_max.into(), 1, 600)?;
        in_range("wall_s_max", self.wall_s_max.into(), 1, 600)?;
        in_range("queue_max", self.queue_max as u64, 1, 10_000)?;
        in_range("queue_s_max", self.queue_s_max, 1, 600)?;
        in_range("memory_mib", self.memory_mib as u64, 1, 1 << 20)?;
        // The longest answer and its compressed form, in what small answers leave to large ones.
        let least = (self.cache_mib + 2 * self.longest_bytes().div_ceil(1 << 20)) * 8 / 7 + 1;
        if self.memory_mib < least {
            return Err(format!(
                "memory_mib is {}, it must be at least {least}: room for cache_mib ({}) and for \
                 the longest answer (audio_s_max) twice",
                self.memory_mib, self.cache_mib
            ));
        }
        Ok(())
    }
}

impl Config {
    /// How many worker processes there are.
    #[must_use]
    pub fn worker_count(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.workers.unwrap_or_else(|| cores().min(WORKERS_DEFAULT_MAX))
    }

    /// What one request may cost a worker.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            samples_max: self.audio_s_max * SAMPLE_RATE_HZ,
            cpu_s_max: self.cpu_s_max,
            wall_s_max: self.wall_s_max,
        }
    }

    /// Time for running requests to finish after SIGTERM.
    #[must_use]
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_s)
    }

    /// Longest wait for a worker.
    #[must_use]
    pub fn queue_wait_max(&self) -> Duration {
        Duration::from_secs(self.queue_s_max)
    }

    /// Bytes of the longest answer.
    fn longest_bytes(&self) -> usize {
        self.audio_s_max as usize * (SAMPLE_RATE_HZ * SAMPLE_BYTES) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_good() {
        assert_eq!(Config::default().check(), Ok(()));
    }

    #[test]
    fn a_bad_setting_is_named() {
        let bad = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.check().unwrap_err()
        };
        assert!(bad(|config| config.workers = Some(0)).contains("workers"));
        assert!(bad(|config| config.chars_max = 1_000_000).contains("chars_max"));
        assert!(bad(|config| config.audio_s_max = 0).contains("audio_s_max"));
        assert!(bad(|config| config.cache_mib = 88).contains("memory_mib"));
        assert!(bad(|config| config.audio_s_max = 3_600).contains("memory_mib"));
    }
}
