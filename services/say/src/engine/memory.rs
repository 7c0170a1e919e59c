//! The C library's allocator, told what this service allocates.

use std::ffi::c_int;

/// Allocations from this size on are mappings of their own, in bytes: seconds of audio.
const MAPPED_BYTES_MIN: c_int = 128 << 10;

/// Heaps that threads share.
const ARENAS_MAX: c_int = 2;

/// Lets large allocations go back to the system as soon as they are freed.
///
/// Left alone, glibc takes a large allocation that is freed as a hint to serve the next ones from
/// its heaps, one for each few threads, which then keep holes of many megabytes: twice the budget
/// for audio was seen.
pub fn give_large_memory_back() {
    // SAFETY: `mallopt` only sets parameters of the allocator; 0, a refusal, changes nothing.
    let set = unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES_MIN)
            & libc::mallopt(libc::M_ARENA_MAX, ARENAS_MAX)
    };
    if set == 0 {
        log::warn!("the allocator takes no advice: memory may stay high");
    }
}
