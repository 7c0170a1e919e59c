//! Takes espeak-ng and its English data from where the distribution put them, for the static link.
//!
//! The library is copied and some of its symbols are renamed or weakened in the copy, so that what
//! it asks of the C library comes to `src/engine` instead: files are served from data inside the
//! binary, noise comes from a seeded generator, and whatever would touch the system is refused.
//! Nothing else in the link is affected, as it would be with the linker's `--wrap`.
//!
//! Variables: `ESPEAK_NG_LIB_DIR` (holds `libespeak-ng.a` and `libsonic.a`), `ESPEAK_NG_DATA_DIR`
//! (holds `phontab`), `OBJCOPY` (for another target than this machine).

use std::env;
use std::error::Error;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

/// What the engine calls and `src/engine` answers, as `say_<name>`.
const REDIRECTED: [&str; 17] = [
    // Served from inside the binary: `src/engine/files.rs`.
    "fopen",
    "stat",
    "opendir",
    "readdir",
    "closedir",
    // Refused: `src/engine/refused.rs`.
    "dup2",
    "execlp",
    "fork",
    "getenv",
    "kill",
    "mkstemp",
    "open",
    "pipe",
    "pthread_create",
    "remove",
    "setlocale",
    "system",
];

/// What the engine defines and `src/engine` defines better: `src/engine/noise.rs`.
const WEAKENED: [&str; 1] = ["espeak_rand"];

const MISSING: &str = "say is built with espeak-ng 1.52: install libespeak-ng-dev, libsonic-dev and \
    espeak-ng-data (services/say/install-engine does), or set ESPEAK_NG_LIB_DIR and \
    ESPEAK_NG_DATA_DIR";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    for variable in ["ESPEAK_NG_LIB_DIR", "ESPEAK_NG_DATA_DIR", "OBJCOPY"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    let libraries = libraries()?;
    link(&libraries, &out)?;
    embed(&data(&libraries)?, &out)
}

/// The directory that holds both static libraries.
fn libraries() -> Result<PathBuf, String> {
    let triple =
        env::var_os("TARGET").unwrap_or_default().to_string_lossy().replace("-unknown", "");
    let usual = [format!("/usr/lib/{triple}"), "/usr/lib64".to_owned(), "/usr/lib".to_owned()];
    first("ESPEAK_NG_LIB_DIR", &usual, &["libespeak-ng.a", "libsonic.a"])
}

/// The directory that holds the engine's data.
fn data(libraries: &Path) -> Result<PathBuf, String> {
    let beside = libraries.join("espeak-ng-data").display().to_string();
    let usual = [beside, "/usr/share/espeak-ng-data".to_owned()];
    first("ESPEAK_NG_DATA_DIR", &usual, &["phontab", "en_dict", "lang/gmw/en", "voices/!v/whisper"])
}

/// The directory named by `variable`, else the first usual one, that has all `files`.
fn first(variable: &str, usual: &[String], files: &[&str]) -> Result<PathBuf, String> {
    let set = env::var_os(variable).map(PathBuf::from);
    let candidates: Vec<PathBuf> =
        set.map_or_else(|| usual.iter().map(PathBuf::from).collect(), |directory| vec![directory]);
    candidates
        .iter()
        .find(|directory| files.iter().all(|file| directory.join(file).exists()))
        .cloned()
        .ok_or_else(|| format!("no {} in {candidates:?}. {MISSING}", files.join(" and ")))
}

/// Links the altered copy of the engine, and sonic, which it uses for fast speech.
fn link(libraries: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    let original = libraries.join("libespeak-ng.a");
    println!("cargo:rerun-if-changed={}", original.display());
    let content = fs::read(&original)?;
    for symbol in WEAKENED {
        // Before 1.52 there is none, and the engine starts a thread, which it may not.
        if !content.windows(symbol.len()).any(|bytes| bytes == symbol.as_bytes()) {
            return Err(
                format!("{} is older than espeak-ng 1.52. {MISSING}", original.display()).into()
            );
        }
    }
    let mut objcopy =
        Command::new(env::var_os("OBJCOPY").unwrap_or_else(|| OsString::from("objcopy")));
    for symbol in REDIRECTED {
        objcopy.arg("--redefine-sym").arg(format!("{symbol}=say_{symbol}"));
    }
    for symbol in WEAKENED {
        objcopy.arg(format!("--weaken-symbol={symbol}"));
    }
    objcopy.arg(&original).arg(out.join("libsay-engine.a"));
    let status = objcopy.status().map_err(|error| format!("objcopy (of binutils): {error}"))?;
    if !status.success() {
        return Err(format!("{objcopy:?} failed: {status}").into());
    }
    println!("cargo:rustc-link-search=native={}", out.display());
    println!("cargo:rustc-link-search=native={}", libraries.display());
    println!("cargo:rustc-link-lib=static:-bundle=say-engine");
    println!("cargo:rustc-link-lib=static:-bundle=sonic");
    println!("cargo:rustc-link-lib=m");
    Ok(())
}

/// The languages whose words the English voices speak where the script is theirs, such as Greek. The
/// engine crashes when it looks for one of their dictionaries in vain.
const FOREIGN: [&str; 15] =
    ["ar", "bn", "el", "gu", "he", "hi", "hy", "ka", "kn", "ko", "ml", "pa", "si", "ta", "te"];

/// Writes `data.rs`: the files that English and its variants need, sorted by path.
fn embed(data: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    let mut files: Vec<String> =
        ["en_dict", "intonations", "phondata", "phonindex", "phontab"].map(str::to_owned).into();
    files.extend(FOREIGN.map(|language| format!("{language}_dict")));
    files.extend(names(data, "lang/gmw", |name| name == "en" || name.starts_with("en-"))?);
    files.extend(names(data, "voices/!v", |_| true)?);
    files.sort();
    let mut table = String::from("&[\n");
    for file in files {
        let path = data.join(&file);
        println!("cargo:rerun-if-changed={}", path.display());
        writeln!(table, "    ({file:?}, include_bytes!({path:?}) as &[u8]),")?;
    }
    table.push_str("]\n");
    Ok(fs::write(out.join("data.rs"), table)?)
}

/// The files of `data`/`directory` that are `wanted`, as paths below `data`.
fn names(
    data: &Path,
    directory: &str,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<String>, Box<dyn Error>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(data.join(directory))? {
        let name = entry?.file_name();
        let name = OsStr::to_str(&name).ok_or("a voice file has a name that is not UTF-8")?;
        if wanted(name) {
            names.push(format!("{directory}/{name}"));
        }
    }
    Ok(names)
}
