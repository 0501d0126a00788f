//! Access keys and join tokens: made here, never logged.

use ashlar_rpc::Fingerprint;
use ashlar_runtime::{Rng, RngExt};
use ashlar_types::service::{AccessKey, User};
use std::fmt;

const KEY_ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const SECRET_ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/// As long as those of AWS, so that every client takes them.
const KEY_LEN: usize = 20;
/// 40 of 62 characters: 238 bits.
const SECRET_LEN: usize = 40;
/// 43 of 62 characters: 256 bits.
const TOKEN_LEN: usize = 43;

/// The identity that `cluster init` makes.
pub const ROOT_USER: &str = "root";

fn text(rng: &dyn Rng, alphabet: &[u8], len: usize) -> String {
    let bound = u64::try_from(alphabet.len()).expect("an alphabet is small");
    (0..len)
        .map(|_| {
            let index = usize::try_from(rng.below(bound)).expect("below the alphabet's length");
            char::from(alphabet[index])
        })
        .collect()
}

/// An access key for a user; `id` and `secret` are generated where empty.
pub fn access_key(rng: &dyn Rng, user: User, id: &str, secret: &str) -> AccessKey {
    let id =
        if id.is_empty() { format!("AK{}", text(rng, KEY_ALPHABET, KEY_LEN - 2)) } else { id.to_owned() };
    let secret = if secret.is_empty() { text(rng, SECRET_ALPHABET, SECRET_LEN) } else { secret.to_owned() };
    AccessKey { id, secret, user }
}

pub fn root_user() -> User {
    User { id: ROOT_USER.into(), display_name: ROOT_USER.into(), email: String::new() }
}

/// What an operator carries from a member to a node that joins: `SECRET.FINGERPRINT`. The secret lets the node in, once;
/// by the fingerprint of the cluster's authority the node knows that it speaks with that cluster and with nobody else.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    pub secret: String,
    pub authority: Fingerprint,
}

impl JoinToken {
    pub fn make(rng: &dyn Rng, authority: Fingerprint) -> Self {
        Self { secret: text(rng, SECRET_ALPHABET, TOKEN_LEN), authority }
    }

    /// `None`: it is not one, or was not copied whole.
    pub fn parse(token: &str) -> Option<Self> {
        let (secret, authority) = token.trim().split_once('.')?;
        if secret.len() != TOKEN_LEN || !secret.bytes().all(|byte| SECRET_ALPHABET.contains(&byte)) {
            return None;
        }
        let digits = authority.as_bytes();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let mut fingerprint = [0; 32];
        for (byte, pair) in fingerprint.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self { secret: secret.to_owned(), authority: Fingerprint(fingerprint) })
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.secret, self.authority)
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken").field("authority", &self.authority).finish_non_exhaustive()
    }
}

/// What the cluster keeps of a token's secret.
pub fn token_hash(secret: &str) -> [u8; 32] {
    ashlar_hashing::sha256(secret.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_runtime::RealRng;

    #[test]
    fn a_token_comes_back_and_half_of_one_is_refused() {
        let token = JoinToken::make(&RealRng, Fingerprint([0xa5; 32]));
        let text = token.to_string();
        assert_eq!(JoinToken::parse(&text), Some(token.clone()));
        assert_eq!(JoinToken::parse(&format!(" {text}\n")), Some(token.clone()));
        assert!(!format!("{token:?}").contains(&token.secret));
        let (secret, fingerprint) = text.split_once('.').unwrap();
        for bad in
            ["", ".", secret, fingerprint, &text[1..], &text[..text.len() - 1], &text.replace('.', "-")]
        {
            assert_eq!(JoinToken::parse(bad), None, "{bad}");
        }
    }
}
