//! The engine's files, served from inside the binary under `/@`; there are no others for it.
//!
//! `build.rs` makes the engine call these in place of the C library's functions of the same names.

use std::ffi::CStr;
use std::ffi::CString;
use std::ffi::c_char;
use std::ffi::c_int;
use std::ffi::c_void;
use std::ptr;

/// Where the engine is told that its data is.
pub const ROOT: &CStr = c"/@";

/// Path below [`ROOT`] and content, sorted by path.
static FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/data.rs"));

/// What is at a path.
#[derive(Debug, PartialEq, Eq)]
enum Entry {
    File(&'static [u8]),
    Directory,
}

fn find(path: &CStr) -> Option<Entry> {
    let path = path.to_str().ok()?.strip_prefix("/@")?;
    if path.is_empty() {
        return Some(Entry::Directory);
    }
    let path = path.strip_prefix('/')?.trim_end_matches('/');
    if let Ok(at) = FILES.binary_search_by(|(name, _)| (*name).cmp(path)) {
        return Some(Entry::File(FILES[at].1));
    }
    let inside = |name: &str| name.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
    FILES.iter().any(|(name, _)| inside(name)).then_some(Entry::Directory)
}

/// The names in a directory, each once; none when there is no such directory.
pub fn names(directory: &CStr) -> Vec<String> {
    let Some(path) = directory.to_str().ok().and_then(|path| path.strip_prefix("/@")) else {
        return Vec::new();
    };
    let path = path.trim_matches('/');
    let inside = |name: &'static str| match path {
        "" => Some(name),
        path => name.strip_prefix(path)?.strip_prefix('/'),
    };
    let mut names: Vec<String> = FILES
        .iter()
        .filter_map(|(name, _)| inside(name)?.split('/').next())
        .map(str::to_owned)
        .collect();
    names.sort();
    names.dedup();
    names
}

/// An open directory.
struct Listing {
    names: std::vec::IntoIter<String>,
    entry: libc::dirent,
}

/// `fopen`, for reading.
#[unsafe(no_mangle)]
extern "C" fn say_fopen(path: *const c_char, _mode: *const c_char) -> *mut libc::FILE {
    // SAFETY: the engine passes a C string.
    let found = find(unsafe { CStr::from_ptr(path) });
    let Some(Entry::File(content)) = found else { return ptr::null_mut() };
    // SAFETY: opened for reading, nothing is written to the static content.
    unsafe { libc::fmemopen(content.as_ptr() as *mut c_void, content.len(), c"r".as_ptr()) }
}

/// `stat`: kind and length, which is what the engine looks at.
#[unsafe(no_mangle)]
extern "C" fn say_stat(path: *const c_char, status: *mut libc::stat) -> c_int {
    // SAFETY: the engine passes a C string.
    let found = find(unsafe { CStr::from_ptr(path) });
    // SAFETY: zeroes are a valid `stat`.
    let mut answer: libc::stat = unsafe { std::mem::zeroed() };
    match found {
        None => return -1,
        Some(Entry::Directory) => answer.st_mode = libc::S_IFDIR | 0o555,
        Some(Entry::File(content)) => {
            answer.st_mode = libc::S_IFREG | 0o444;
            answer.st_size = content.len().try_into().unwrap_or(libc::off_t::MAX);
        }
    }
    // SAFETY: the engine passes a place for the answer.
    unsafe { status.write(answer) };
    0
}

/// `opendir`.
#[unsafe(no_mangle)]
extern "C" fn say_opendir(path: *const c_char) -> *mut c_void {
    // SAFETY: the engine passes a C string.
    let path = unsafe { CStr::from_ptr(path) };
    if find(path) != Some(Entry::Directory) {
        return ptr::null_mut();
    }
    // SAFETY: zeroes are a valid `dirent`.
    let entry = unsafe { std::mem::zeroed() };
    Box::into_raw(Box::new(Listing { names: names(path).into_iter(), entry })).cast()
}

/// `readdir`: the name, which is what the engine looks at.
#[unsafe(no_mangle)]
extern "C" fn say_readdir(directory: *mut c_void) -> *mut libc::dirent {
    // SAFETY: the engine passes what `say_opendir` made, and uses it in no other way.
    let Some(listing) = (unsafe { directory.cast::<Listing>().as_mut() }) else {
        return ptr::null_mut();
    };
    let Some(name) = listing.names.next().and_then(|name| CString::new(name).ok()) else {
        return ptr::null_mut();
    };
    let place = &mut listing.entry.d_name;
    let bytes = name.as_bytes_with_nul();
    if bytes.len() > place.len() {
        return ptr::null_mut();
    }
    for (to, from) in place.iter_mut().zip(bytes) {
        *to = c_char::from_ne_bytes([*from]);
    }
    &raw mut listing.entry
}

/// `closedir`.
#[unsafe(no_mangle)]
extern "C" fn say_closedir(directory: *mut c_void) -> c_int {
    // SAFETY: the engine passes what `say_opendir` made, and does not use it again.
    drop(unsafe { Box::from_raw(directory.cast::<Listing>()) });
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_directories_are_found_by_path() {
        assert_eq!(find(c"/@"), Some(Entry::Directory));
        assert_eq!(find(c"/@/lang"), Some(Entry::Directory));
        assert_eq!(find(c"/@/lang/gmw/"), Some(Entry::Directory));
        assert!(matches!(find(c"/@/lang/gmw/en"), Some(Entry::File(bytes)) if bytes.len() > 50));
        for path in [c"/@/lang/gmw/e", c"/@/lan", c"/@lang", c"/etc/passwd", c"", c"/@/../etc"] {
            assert_eq!(find(path), None, "{path:?}");
        }
    }

    #[test]
    fn a_directory_lists_each_name_once() {
        assert_eq!(names(c"/@/lang"), ["gmw"]);
        assert!(names(c"/@").contains(&"phontab".to_owned()));
        assert!(names(c"/@/voices/!v").len() > 90);
        assert!(names(c"/@/nothing").is_empty());
    }
}
