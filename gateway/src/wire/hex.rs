//! Bytes as hexadecimal digits, without the machinery of `format!`: two ids a request are written.

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Writes `bytes` into `digits`, two lower-case digits each; what does not fit is left out.
pub fn write(digits: &mut [u8], bytes: &[u8]) {
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_is_two_digits() {
        let mut digits = *b"........";
        write(&mut digits, &[0x00, 0x9a, 0xff]);
        assert_eq!(&digits, b"009aff..");
    }
}
