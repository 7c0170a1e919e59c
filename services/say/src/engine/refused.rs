//! What the engine may not do: run programs, open files, start threads, look at the environment.
//!
//! It asks for some of this for mbrola voices, sound icons and SSML, which are not offered. The
//! sandbox would stop it; refused here, it does not get that far, and output depends on no locale.
//! Audio devices are refused too, which keeps pcaudio and a desktop's libraries out of the link.

use std::ffi::c_int;
use std::ffi::c_void;
use std::ptr;

/// Functions that fail: the engine's arguments are ignored, which the C ABI allows.
macro_rules! refuse {
    ($kind:ty, $answer:expr, $($name:ident)*) => {
        $(
            #[unsafe(no_mangle)]
            extern "C" fn $name() -> $kind {
                $answer
            }
        )*
    };
}

refuse!(c_int, -1, say_dup2 say_execlp say_fork say_kill say_mkstemp say_open say_pipe);
refuse!(c_int, -1, say_pthread_create say_remove say_system);
refuse!(c_int, -1, audio_object_open audio_object_write audio_object_drain audio_object_flush);
refuse!(*mut c_void, ptr::null_mut(), say_getenv say_setlocale);
refuse!(*mut c_void, ptr::null_mut(), create_audio_device_object audio_object_strerror);
refuse!((), (), audio_object_close audio_object_destroy);
