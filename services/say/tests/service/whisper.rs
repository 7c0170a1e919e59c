//! The whisper is noise, shaped: it must sound as espeak's did before 1.52 broke the generator.

use crate::support::heard;
use crate::support::say;

/// The mean of the samples, where full scale is 1.
fn mean(samples: &[i16]) -> f64 {
    samples.iter().map(|sample| f64::from(*sample)).sum::<f64>() / samples.len() as f64 / 32_768.0
}

/// Where the middle of the sound lies, in hertz: the frequency of a sine wave with the same ratio
/// of slope to size. White noise would have a quarter of the sampling rate.
fn rough_hertz(samples: &[i16]) -> f64 {
    let power =
        |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>();
    let size = power(&mut samples.iter().map(|sample| f64::from(*sample)));
    let slope = power(&mut samples.windows(2).map(|pair| f64::from(pair[1]) - f64::from(pair[0])));
    (slope / size).sqrt() / 2.0 * 22_050.0 / std::f64::consts::PI
}

/// How often the sound crosses zero, as a frequency in hertz.
fn crossings_hertz(samples: &[i16]) -> f64 {
    let crossings = samples.windows(2).filter(|pair| (pair[0] < 0) != (pair[1] < 0)).count();
    crossings as f64 / samples.len() as f64 * 22_050.0 / 2.0
}

/// espeak 1.48, espeak-ng 1.51 and 1.52 say "hello world" with means of -0.00001, -0.00000 and
/// -0.01375, at 2154, 2160 and 1880 Hz, crossing zero as often as 1639, 1643 and 1151 Hz do.
#[test]
fn the_whisper_is_the_one_before_1_52() {
    let whisper = heard(&say(), "/say/hello%20world?voice=whisper");
    let (mean, rough, crossings) =
        (mean(&whisper), rough_hertz(&whisper), crossings_hertz(&whisper));
    println!("mean {mean:.5}, {rough:.0} Hz, crossings {crossings:.0} Hz");
    assert!(mean.abs() < 0.002, "no constant part: {mean}");
    assert!((2_020.0..2_320.0).contains(&rough), "{rough} Hz");
    assert!((1_500.0..1_800.0).contains(&crossings), "{crossings} Hz");
    let seconds = whisper.len() as f64 / 22_050.0;
    assert!((1.0..1.06).contains(&seconds), "as long as theirs, 1.03 s: {seconds}");
}

/// The measures above do tell a whisper from a voice.
#[test]
fn a_voice_is_no_whisper() {
    let voice = heard(&say(), "/say/hello%20world");
    let rough = rough_hertz(&voice);
    assert!(!(2_020.0..2_320.0).contains(&rough), "{rough} Hz");
}
