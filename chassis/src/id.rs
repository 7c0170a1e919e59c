//! Names for requests.

use std::fmt::Write;

/// 128 random bits as 32 hexadecimal digits: what a request is called in every log it passes.
///
/// # Panics
///
/// When the kernel gives no randomness, which Linux does not do once it has booted.
#[must_use]
pub fn random_id() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the kernel gives randomness");
    bytes.iter().fold(String::with_capacity(32), |mut id, byte| {
        write!(id, "{byte:02x}").expect("a string takes any text");
        id
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_32_hexadecimal_digits_and_new_each_time() {
        let (one, two) = (random_id(), random_id());
        assert_eq!(one.len(), 32);
        assert!(one.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_ne!(one, two);
    }
}
