//! Access keys and join tokens: made here, never logged.

use ashlar_runtime::{Rng, RngExt};
use ashlar_types::service::{AccessKey, User};

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

pub fn join_token(rng: &dyn Rng) -> String {
    text(rng, SECRET_ALPHABET, TOKEN_LEN)
}

/// What the cluster keeps of a token.
pub fn token_hash(token: &str) -> [u8; 32] {
    ashlar_hashing::sha256(token.as_bytes())
}
