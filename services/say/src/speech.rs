//! Speech for the asking: made once, kept while there is room, made for several askers at once.

use std::sync::Arc;

use actix_web::rt::task::spawn_blocking;
use bytes::Bytes;
use moka::future::Cache;

use crate::budget::Budget;
use crate::budget::Counted;
use crate::coding::Coding;
use crate::gzip;
use crate::metrics::Metrics;
use crate::pool::Failure;
use crate::pool::Pool;
use crate::text::Script;
use crate::voice::Voice;

/// Larger audio is compressed off the request's thread, in bytes: about 5 ms of work.
const INLINE_BYTES_MAX: usize = 1 << 20;

/// What an entry of the cache takes beside its body, in bytes; an upper estimate.
const ENTRY_BYTES: usize = 512;

/// Which speech: equal keys have equal bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Who speaks.
    pub voice: Voice,
    /// What.
    pub script: Script,
    /// How the answer is coded.
    pub coding: Coding,
}

/// An answer's body and its name.
#[derive(Clone, Debug)]
pub struct Audio {
    /// The bytes, as they are sent; clones share them.
    pub body: Bytes,
    /// A hash of the body, in hex.
    pub tag: Arc<str>,
}

/// Where speech is had from.
#[derive(Clone)]
pub struct Speech {
    pool: Pool,
    cache: Cache<Key, Audio>,
    budget: Budget,
    metrics: Metrics,
}

impl Speech {
    /// Speech by `pool`, with `cache_bytes` of it kept.
    #[must_use]
    pub fn new(pool: Pool, cache_bytes: u64, budget: Budget, metrics: Metrics) -> Self {
        let cache = Cache::builder().max_capacity(cache_bytes).weigher(weight).build();
        Self { pool, cache, budget, metrics }
    }

    /// The audio for `key`.
    ///
    /// # Errors
    ///
    /// When there is none, and why. Failures are not kept.
    pub async fn audio(&self, key: Key) -> Result<Audio, Failure> {
        if let Some(audio) = self.cache.get(&key).await {
            self.metrics.cache_request(true, 1);
            return Ok(audio);
        }
        let made = self.cache.entry_by_ref(&key).or_try_insert_with(self.make(&key)).await;
        let fresh = made.as_ref().map_or(true, moka::Entry::is_fresh);
        self.metrics.cache_request(!fresh, 1);
        if fresh {
            // Else entries beyond the capacity would stay for a while, and memory is counted.
            self.cache.run_pending_tasks().await;
        }
        made.map(moka::Entry::into_value).map_err(|failure| *failure)
    }

    /// Makes the audio: from the other coding when that is there, else by the engine.
    async fn make(&self, key: &Key) -> Result<Audio, Failure> {
        let other = match key.coding {
            Coding::Gzip => Coding::Identity,
            Coding::Identity => Coding::Gzip,
        };
        let there = self.cache.get(&Key { coding: other, ..key.clone() }).await;
        match (key.coding, there) {
            (Coding::Gzip, Some(wav)) => self.recode(wav.body, gzip::compress).await,
            (Coding::Identity, Some(gzip)) => self.recode(gzip.body, gzip::expand).await,
            (coding, None) => {
                let wav = self.pool.speak(key.voice.clone(), key.script.clone()).await?;
                match coding {
                    Coding::Gzip => self.recode(Bytes::from_owner(wav), gzip::compress).await,
                    Coding::Identity => Ok(named(wav)),
                }
            }
        }
    }

    async fn recode(&self, body: Bytes, recode: gzip::Recode) -> Result<Audio, Failure> {
        let reservation = self.budget.reserve();
        let recoded = if body.len() <= INLINE_BYTES_MAX {
            recode(&body, reservation)
        } else {
            spawn_blocking(move || recode(&body, reservation)).await.unwrap_or(None)
        };
        match recoded {
            Some(recoded) => Ok(named(recoded)),
            None => {
                self.metrics.busy_total.inc();
                Err(Failure::Busy)
            }
        }
    }
}

fn weight(key: &Key, audio: &Audio) -> u32 {
    u32::try_from(key.script.bytes() + audio.body.len() + ENTRY_BYTES).unwrap_or(u32::MAX)
}

/// The body with its name: 64 bits of `SipHash`, keyed the same in every process.
fn named(body: Counted) -> Audio {
    use std::hash::Hasher;
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(body.as_ref());
    let tag = format!("{:016x}", hasher.finish()).into();
    Audio { body: Bytes::from_owner(body), tag }
}
