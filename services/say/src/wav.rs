//! The head of a WAV file: mono, 16 bits, little endian, at the engine's rate, with true lengths.
//!
//! Source: Multimedia Programming Interface and Data Specifications 1.0 (IBM and Microsoft, 1991),
//! chapter 3, "Waveform Audio File Format".

use crate::engine::SAMPLE_RATE_HZ;

/// Bytes before the samples.
pub const HEAD_BYTES: usize = 44;

/// Bytes of one sample.
pub const SAMPLE_BYTES: u32 = 2;

/// The head for `data_bytes` of samples.
#[must_use]
pub fn head(data_bytes: u32) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    let parts: [&[u8]; 13] = [
        b"RIFF",
        &data_bytes.saturating_add(36).to_le_bytes(),
        b"WAVE",
        b"fmt ",
        &16_u32.to_le_bytes(),
        &1_u16.to_le_bytes(), // PCM
        &1_u16.to_le_bytes(), // one channel
        &SAMPLE_RATE_HZ.to_le_bytes(),
        &(SAMPLE_RATE_HZ * SAMPLE_BYTES).to_le_bytes(),
        &2_u16.to_le_bytes(),  // bytes of one sample of all channels
        &16_u16.to_le_bytes(), // bits of one sample
        b"data",
        &data_bytes.to_le_bytes(),
    ];
    let mut at = 0;
    for part in parts {
        head[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_says_what_follows() {
        let head = head(1000);
        assert_eq!(head[..4], *b"RIFF");
        assert_eq!(head[4..8], 1036_u32.to_le_bytes(), "all bytes after this field");
        assert_eq!(head[8..16], *b"WAVEfmt ");
        assert_eq!(head[24..28], 22_050_u32.to_le_bytes());
        assert_eq!(head[28..32], 44_100_u32.to_le_bytes(), "bytes a second");
        assert_eq!(head[36..40], *b"data");
        assert_eq!(head[40..], 1000_u32.to_le_bytes());
    }
}
