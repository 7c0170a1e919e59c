//! Keys and certificates on disk: written beside, synced, then renamed, so that a file is either
//! the old one or the new one; what is damaged is set aside, never deleted.

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::fs::TryLockError;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::chown;
use std::os::unix::fs::fchown;
use std::path::Path;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

/// Nothing that we keep is larger; what is, is damaged.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Between two tries to get a lock.
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Makes the folder `path` (and what it is in), with `mode` when it is new.
///
/// # Errors
///
/// What the file system said.
pub fn folder(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path)
}

/// The text in `path`, or `None` when there is no such file.
///
/// # Errors
///
/// What the file system said; `InvalidData` for what is too long or no text.
pub fn read(path: &Path) -> io::Result<Option<String>> {
    let mut text = String::new();
    match File::open(path) {
        Ok(file) => file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is too long"));
    }
    Ok(Some(text))
}

/// Puts `text` into `path` with exactly `mode`, in one step as others see it.
///
/// # Errors
///
/// What the file system said; `path` is then as it was.
pub fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    write_for(path, text, mode, None)
}

/// The same, for a `group` where there is one.
///
/// # Errors
///
/// What the file system said; `path` is then as it was.
pub fn write_for(path: &Path, text: &str, mode: u32, group: Option<u32>) -> io::Result<()> {
    let beside = suffixed(path, ".new");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // New, so that it has the mode from its first byte on.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
    if group.is_some() {
        fchown(&file, None, group)?;
    }
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    keep_names(path)
}

/// Removes `path`.
///
/// # Errors
///
/// What the file system said.
pub fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    keep_names(path)
}

/// Names are kept by the folder, not by the file.
fn keep_names(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Renames `path` out of the way, for the reason that `word` names, and says what it is called now;
/// `None` when it is not there.
///
/// # Errors
///
/// What the file system said.
pub fn set_aside(path: &Path, word: &str) -> io::Result<Option<PathBuf>> {
    let now_s = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
    let mut aside = suffixed(path, &format!(".{word}-{now_s}"));
    for n in 2.. {
        if !fs::exists(&aside)? {
            break;
        }
        aside = suffixed(path, &format!(".{word}-{now_s}-{n}"));
    }
    match fs::rename(path, &aside) {
        Ok(()) => Ok(Some(aside)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Gives `path` the `mode`, and the `group` where there is one; true when others than those could use
/// it before.
///
/// # Errors
///
/// What the file system said.
pub fn settle(path: &Path, mode: u32, group: Option<u32>) -> io::Result<bool> {
    let found = fs::metadata(path)?;
    let rights = found.permissions().mode() & 0o777;
    let of_group = group.is_none_or(|group| found.gid() == group);
    let open = rights & !mode & 0o077 != 0 || (!of_group && rights & 0o070 != 0);
    if !of_group {
        chown(path, None, group)?;
    }
    if rights != mode {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    Ok(open)
}

/// What to do about `error` at or below `folder`, when it is about rights; else nothing.
pub fn remedy(folder: &Path, error: &io::Error) -> Option<String> {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return None;
    }
    let user = nix::unistd::geteuid();
    let group = nix::unistd::getegid();
    // Who may not look at a folder is told about the one it is in.
    let found = folder.ancestors().find_map(|path| Some((path, fs::metadata(path).ok()?)));
    let found = found.map(|(path, found)| {
        let (owner, mode) = (found.uid(), found.permissions().mode() & 0o7777);
        format!("{} belongs to user {owner} with mode {mode:04o}, ", path.display())
    });
    let (found, folder) = (found.unwrap_or_default(), folder.display());
    Some(format!(
        "{found}and the gateway, user {user}, has to write there; as root: \
         chown -R {user}:{group} {folder} (of a volume: docker run --rm -v VOLUME:{folder} busybox \
         chown -R {user}:{group} {folder})"
    ))
}

/// Keeps other gateways on the same volume out until the file is dropped. Blocks for `patience`.
///
/// # Errors
///
/// What the file system said; `TimedOut` when another one holds it.
#[expect(clippy::disallowed_methods, reason = "no lock of the kernel waits for a certain time")]
pub fn lock(folder: &Path, patience: Duration) -> io::Result<File> {
    let path = folder.join(".lock");
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path)?;
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if start.elapsed() >= patience => {
                let held = format!("another gateway holds {}", path.display());
                return Err(io::Error::new(io::ErrorKind::TimedOut, held));
            }
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_PAUSE),
        }
    }
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_written_file_has_its_text_and_mode_and_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write(&path, "one", 0o644).unwrap();
        // Left by a writer that was killed.
        fs::write(suffixed(&path, ".new"), "half").unwrap();
        write(&path, "two", 0o600).unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some("two"));
        assert_eq!(mode(&path), 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_not_there_is_not_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("none");
        assert_eq!(read(&path).unwrap(), None);
        assert_eq!(set_aside(&path, "damaged").unwrap(), None);
    }

    #[test]
    fn what_is_set_aside_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let mut kept = Vec::new();
        for text in ["one", "two", "three"] {
            fs::write(&path, text).unwrap();
            kept.push((set_aside(&path, "damaged").unwrap().unwrap(), text));
        }
        for (path, text) in kept {
            assert_eq!(fs::read_to_string(path).unwrap(), text);
        }
    }

    #[test]
    fn a_file_that_is_too_long_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("long");
        fs::write(&path, vec![b'x'; 2 << 20]).unwrap();
        assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_key_that_others_can_read_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write(&path, "x", 0o640).unwrap();
        assert!(settle(&path, 0o600, None).unwrap());
        assert_eq!(mode(&path), 0o600);
        assert!(!settle(&path, 0o600, None).unwrap());
        let group = fs::metadata(&path).unwrap().gid();
        assert!(!settle(&path, 0o640, Some(group)).unwrap());
        assert_eq!(mode(&path), 0o640);
        write_for(&path, "y", 0o640, Some(group)).unwrap();
        assert!(!settle(&path, 0o640, Some(group)).unwrap());
    }

    #[test]
    fn the_remedy_names_the_owner_the_mode_and_the_user() {
        let folder = tempfile::tempdir().unwrap();
        let owner = fs::metadata(folder.path()).unwrap().uid();
        let mode = mode(folder.path());
        let user = nix::unistd::geteuid();
        let below = folder.path().join("not-there");
        let text = remedy(&below, &io::ErrorKind::PermissionDenied.into()).unwrap();
        for part in [
            format!("{} belongs to user {owner} with mode {mode:04o}", folder.path().display()),
            format!("the gateway, user {user}, has to write there"),
            format!("chown -R {user}:{} {}", nix::unistd::getegid(), below.display()),
        ] {
            assert!(text.contains(&part), "{text}");
        }
        assert_eq!(remedy(&below, &io::ErrorKind::StorageFull.into()), None);
    }

    #[test]
    fn a_lock_that_another_holds_is_waited_for_and_not_forever() {
        let folder = tempfile::tempdir().unwrap();
        let held = lock(folder.path(), Duration::ZERO).unwrap();
        let error = lock(folder.path(), Duration::from_millis(100)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(error.to_string().contains("another gateway holds"), "{error}");
        let path = folder.path().to_owned();
        let waiting = thread::spawn(move || lock(&path, Duration::from_secs(60)).map(drop));
        drop(held);
        waiting.join().unwrap().unwrap();
    }
}
