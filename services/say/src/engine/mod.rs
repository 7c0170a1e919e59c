//! The speech engine: espeak-ng, linked in, its data inside the binary.
//!
//! This is the one place that speaks C, hence the one place with `unsafe`. The engine is written
//! for one thread of one process, keeps its state in globals, and has known overflows that hostile
//! text reaches. So it lives in worker processes (`worker`) behind a sandbox (`sandbox`), and each
//! request gets a [`fork`] of a fresh engine: what a request leaves behind dies with it.
//!
//! Source: `speak_lib.h` of espeak-ng 1.52; the declarations below follow it.
#![expect(unsafe_code, reason = "espeak-ng is C, and fork is for who knows that no thread runs")]

mod descriptors;
mod files;
mod memory;
mod noise;
mod refused;

use std::cell::Cell;
use std::ffi::CStr;
use std::ffi::c_char;
use std::ffi::c_int;
use std::ffi::c_short;
use std::ffi::c_uint;
use std::ffi::c_void;
use std::io;
use std::marker::PhantomData;
use std::ops::ControlFlow;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::slice;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use nix::unistd::Pid;

pub use descriptors::close_all_but;
pub use descriptors::close_inherited;
pub use memory::give_large_memory_back;

/// Samples per second; all voices that are not mbrola's have this rate.
pub const SAMPLE_RATE_HZ: u32 = 22_050;

/// How much audio the engine makes between two calls of the sink, in milliseconds.
const BUFFER_MS: c_int = 400;

/// The text is UTF-8; neither SSML nor phoneme mnemonics are looked for in it.
const CHARS_UTF8: c_uint = 0x1;
/// A sentence's pause after the end, as the command line program makes it.
const END_PAUSE: c_uint = 0x1000;
/// `AUDIO_OUTPUT_SYNCHRONOUS`: the callback gets the audio, in the thread that asked.
const SYNCHRONOUS: c_int = 2;
/// Errors come back instead of ending the process.
const DO_NOT_EXIT: c_int = 0x8000;

/// `espeak_VOICE`.
#[repr(C)]
struct VoiceRecord {
    name: *const c_char,
    languages: *const c_char,
    identifier: *const c_char,
    gender: u8,
    age: u8,
    variant: u8,
    xx1: u8,
    score: c_int,
    spare: *mut c_void,
}

/// `espeak_EVENT`.
#[repr(C)]
struct EventRecord {
    kind: c_int,
    unique_identifier: c_uint,
    text_position: c_int,
    length: c_int,
    audio_position: c_int,
    sample: c_int,
    user_data: *mut c_void,
    id: [u8; 8],
}

type Callback = extern "C" fn(*mut c_short, c_int, *mut EventRecord) -> c_int;

unsafe extern "C" {
    fn espeak_Initialize(
        output: c_int,
        buffer_ms: c_int,
        path: *const c_char,
        options: c_int,
    ) -> c_int;
    fn espeak_SetSynthCallback(callback: Callback);
    fn espeak_SetVoiceByName(name: *const c_char) -> c_int;
    fn espeak_ListVoices(like: *mut VoiceRecord) -> *const *const VoiceRecord;
    fn espeak_Info(path: *mut *const c_char) -> *const c_char;
    fn espeak_Synth(
        text: *const c_void,
        size: usize,
        position: c_uint,
        position_type: c_int,
        end_position: c_uint,
        flags: c_uint,
        unique_identifier: *mut c_uint,
        user_data: *mut c_void,
    ) -> c_int;
}

/// The status that `espeak_Synth` and others end with; 0 is success.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// There is one engine in a process, and it has been started.
    #[error("the engine runs already")]
    Twice,
    /// The embedded data does not fit the engine, or memory is short.
    #[error("the engine did not start ({0})")]
    Start(c_int),
    /// The engine does not have this voice.
    #[error("the engine refused the voice ({0})")]
    Voice(c_int),
    /// The engine gave up on this text.
    #[error("the engine refused the text ({0})")]
    Speak(c_int),
}

/// A language that the engine speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Language {
    /// What people know it by, such as `en-gb`.
    pub code: String,
    /// The voice for it, as the engine knows it, such as `en`. Often the same, not always.
    pub name: String,
}

/// Takes samples as they are made; `Break` stops the engine.
type Sink<'a> = &'a mut dyn FnMut(&[i16]) -> ControlFlow<()>;

/// The engine of this process. Neither `Send` nor `Sync`: its state is C globals.
pub struct Engine {
    only_here: PhantomData<Cell<*mut c_void>>,
}

impl Engine {
    /// Starts the engine with the embedded data. One process has one.
    ///
    /// # Errors
    ///
    /// On a second call, or when the data does not fit the engine.
    pub fn start() -> Result<Self, EngineError> {
        static STARTED: AtomicBool = AtomicBool::new(false);
        if STARTED.swap(true, Ordering::Relaxed) {
            return Err(EngineError::Twice);
        }
        // SAFETY: the path is a C string that outlives the call, and STARTED makes this the only call.
        let rate =
            unsafe { espeak_Initialize(SYNCHRONOUS, BUFFER_MS, files::ROOT.as_ptr(), DO_NOT_EXIT) };
        if u32::try_from(rate) != Ok(SAMPLE_RATE_HZ) {
            return Err(EngineError::Start(rate));
        }
        // SAFETY: the engine has been started; the callback is a function, so it lives for ever.
        unsafe { espeak_SetSynthCallback(hear) };
        Ok(Self { only_here: PhantomData })
    }

    /// The engine's own version, such as `1.52.0`.
    #[must_use]
    pub fn version(&self) -> String {
        // SAFETY: a null path is allowed; the result is a C string in the engine's read-only data.
        let version = unsafe { CStr::from_ptr(espeak_Info(std::ptr::null_mut())) };
        version.to_string_lossy().into_owned()
    }

    /// The languages it speaks, in the order of their codes, each code once.
    #[must_use]
    pub fn languages(&self) -> Vec<Language> {
        // SAFETY: null asks for all voices but the variants.
        unsafe { languages(std::ptr::null_mut()) }
    }

    /// The names of the variants a language can be spoken in, such as `whisper`.
    #[must_use]
    pub fn variants(&self) -> Vec<String> {
        files::names(c"/@/voices/!v")
    }

    /// Speaks with this voice from now on, such as `en-us+f3`.
    ///
    /// The engine takes any path for a voice (`en+../../x`), so `name` must come from a list of
    /// known ones.
    ///
    /// # Errors
    ///
    /// When the engine does not have the voice; the next voice should then be set on a fresh engine.
    pub fn set_voice(&mut self, name: &CStr) -> Result<(), EngineError> {
        // SAFETY: the engine has been started, and copies at most 60 bytes of the C string.
        match unsafe { espeak_SetVoiceByName(name.as_ptr()) } {
            0 => Ok(()),
            status => Err(EngineError::Voice(status)),
        }
    }

    /// Speaks `text` into `sink`; with `pause`, a sentence's pause follows.
    ///
    /// # Errors
    ///
    /// When the engine gives up. That `sink` breaks is no error.
    pub fn speak(
        &mut self,
        text: &CStr,
        pause: bool,
        mut sink: Sink<'_>,
    ) -> Result<(), EngineError> {
        let flags = if pause { CHARS_UTF8 | END_PAUSE } else { CHARS_UTF8 };
        // SAFETY: the text is a C string of this size; in synchronous mode the engine keeps neither
        // it nor the pointer to `sink` after the call, and `hear` alone uses the latter, as a `Sink`.
        let status = unsafe {
            espeak_Synth(
                text.as_ptr().cast(),
                text.count_bytes() + 1,
                0,
                1,
                0,
                flags,
                std::ptr::null_mut(),
                (&raw mut sink).cast(),
            )
        };
        if status == 0 { Ok(()) } else { Err(EngineError::Speak(status)) }
    }
}

/// The engine's callback: hands the samples to the [`Sink`] behind `user_data`; 1 stops the engine.
extern "C" fn hear(samples: *mut c_short, count: c_int, events: *mut EventRecord) -> c_int {
    if samples.is_null() || events.is_null() {
        return 0;
    }
    let Ok(count) = usize::try_from(count) else { return 1 };
    // SAFETY: the engine ends every list with an event that carries the `user_data` of
    // `Engine::speak`, which is a live `Sink` until that returns, used by nobody else; `samples`
    // are `count` samples of the engine's buffer.
    let flow = unsafe {
        let Some(sink) = (*events).user_data.cast::<Sink<'_>>().as_mut() else { return 1 };
        sink(slice::from_raw_parts(samples, count))
    };
    c_int::from(flow.is_break())
}

/// The languages of the voices in the engine's list that are like `like`.
///
/// Several voices may have the same code: `en-gb` is a code of the voice `en`, and in the second
/// place one of `en-gb-x-rp`. Then the voice that ranks it best has it.
///
/// # Safety
///
/// The engine must have been started, and `like` must be null or a valid record.
unsafe fn languages(like: *mut VoiceRecord) -> Vec<Language> {
    let mut ranked = Vec::new();
    // SAFETY: the engine answers an array of valid records that ends with null.
    unsafe {
        let mut next = espeak_ListVoices(like);
        while let Some(voice) = (*next).as_ref() {
            let name = name(voice);
            for (rank, code) in codes(voice) {
                // A voice's own name beats any rank: what the engine would understand, it means.
                let rank = if code == name { 0 } else { rank.max(1) };
                ranked.push((code, rank, name.clone()));
            }
            next = next.add(1);
        }
    }
    ranked.sort();
    ranked.dedup_by(|next, best| next.0 == best.0);
    ranked.into_iter().map(|(code, _, name)| Language { code, name }).collect()
}

/// What the engine knows a voice by: its file's name, in any case. It knows no code that is not
/// also that.
///
/// # Safety
///
/// `voice` must be from the engine's list.
unsafe fn name(voice: &VoiceRecord) -> String {
    // SAFETY: the identifier is a C string, the file's path below `lang`.
    let path = unsafe { CStr::from_ptr(voice.identifier) }.to_string_lossy();
    path.rsplit('/').next().unwrap_or_default().to_ascii_lowercase()
}

/// The language codes of a voice with their ranks, the best of which is the least: pairs of a
/// byte and a C string, ended by a zero byte.
///
/// # Safety
///
/// `voice` must be from the engine's list.
unsafe fn codes(voice: &VoiceRecord) -> Vec<(u8, String)> {
    let mut codes = Vec::new();
    let mut next = voice.languages;
    // SAFETY: the engine wrote the list in this form.
    unsafe {
        while *next != 0 {
            let code = CStr::from_ptr(next.add(1));
            codes.push((next.cast::<u8>().read(), code.to_string_lossy().into_owned()));
            next = next.add(code.count_bytes() + 2);
        }
    }
    codes
}

/// Runs `work` in a fork of this process, which ends with its exit code and returns to nobody.
///
/// Only for a process with one thread, such as a worker: a lock that another thread held would
/// stay locked in the fork.
///
/// # Errors
///
/// When the kernel has no process or memory left.
pub fn fork(work: impl FnOnce() -> u8) -> io::Result<Pid> {
    // SAFETY: this process has one thread, so the fork may do whatever this process may do.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let code = catch_unwind(AssertUnwindSafe(work)).unwrap_or(101);
            // SAFETY: ends the fork without running what the parent registered for its own exit.
            unsafe { libc::_exit(c_int::from(code)) }
        }
        pid => Ok(Pid::from_raw(pid)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test, since a process has one engine, and `cargo test` runs tests as threads.
    #[test]
    fn the_engine_speaks_from_embedded_data_alone() {
        let mut engine = Engine::start().unwrap();
        assert_eq!(Engine::start().err(), Some(EngineError::Twice));
        assert!(engine.version().starts_with("1.5"), "{}", engine.version());
        let languages = engine.languages();
        for (code, name) in [("en", "en"), ("en-gb", "en"), ("en-gb-x-rp", "en-gb-x-rp")] {
            let language = Language { code: code.to_owned(), name: name.to_owned() };
            assert!(languages.contains(&language), "{language:?} of {languages:?}");
        }
        assert!(languages.is_sorted_by(|one, next| one.code < next.code), "{languages:?}");
        assert!(engine.variants().contains(&"whisper".to_owned()), "{:?}", engine.variants());
        assert!(matches!(engine.set_voice(c"xx"), Err(EngineError::Voice(_))));

        for language in languages {
            let name = std::ffi::CString::new(language.name).unwrap();
            assert_eq!(engine.set_voice(&name), Ok(()), "{name:?}");
        }
        engine.set_voice(c"en").unwrap();
        let mut heard = Vec::new();
        engine
            .speak(c"hello world", true, &mut |samples| {
                heard.extend_from_slice(samples);
                ControlFlow::Continue(())
            })
            .unwrap();
        let seconds = heard.len() as f64 / f64::from(SAMPLE_RATE_HZ);
        assert!((0.8..1.4).contains(&seconds), "{seconds} s");
        assert!(heard.iter().any(|sample| sample.abs() > 5_000), "it is loud enough");

        let mut calls = 0;
        engine
            .speak(c"one two three four five six seven eight nine ten", true, &mut |_| {
                calls += 1;
                ControlFlow::Break(())
            })
            .unwrap();
        assert_eq!(calls, 1, "a break stops the engine");
    }
}
