//! Which files a worker has open.

use std::ffi::c_int;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;

/// The first after stdin, stdout and stderr.
const FIRST: c_int = 3;

/// Closes what this process was started with beside stdin, stdout and stderr.
///
/// For the start of a process, before it opens files: whoever has one of those would lose it.
/// `close_range` would do the same, but kernels before 5.9 do not have it, and the profile of an
/// older container engine may refuse it.
///
/// # Errors
///
/// When `/proc` is not there.
pub fn close_inherited() -> io::Result<()> {
    let mut open = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        open.extend(entry?.file_name().to_str().and_then(|number| number.parse::<c_int>().ok()));
    }
    for number in open.into_iter().filter(|number| *number >= FIRST) {
        close(number);
    }
    Ok(())
}

/// Closes all of the `files_max` files that this process may have open, but `kept`.
///
/// For a fork that uses nothing else until its end, and runs no destructors then.
pub fn close_all_but(kept: impl AsFd, files_max: u64) {
    let kept = kept.as_fd().as_raw_fd();
    let numbers = 0..c_int::try_from(files_max).unwrap_or(c_int::MAX);
    numbers.filter(|number| *number != kept).for_each(close);
}

/// Not open, `EBADF`, is as good as closed.
fn close(number: c_int) {
    // SAFETY: nobody uses the file after this: that is what both ask of their callers.
    unsafe { libc::close(number) };
}
