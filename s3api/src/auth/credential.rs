//! Credential scopes and the signing keys derived for them.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;

pub(super) const SERVICE: &str = "s3";
pub(super) const TERMINAL: &str = "aws4_request";

/// `KEY-ID/YYYYMMDD/REGION/SERVICE/aws4_request`, taken apart but not checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Credential {
    pub(super) access_key_id: String,
    pub(super) date: String,
    pub(super) region: String,
    pub(super) service: String,
    pub(super) terminal: String,
}

impl Credential {
    /// From the right, because a key id may contain slashes.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut fields = text.rsplitn(5, '/').map(str::to_owned);
        let (terminal, service, region, date) =
            (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let access_key_id = fields.next().filter(|id| !id.is_empty())?;
        Some(Self { access_key_id, date, region, service, terminal })
    }

    /// All but the key id.
    pub(super) fn scope(&self) -> String {
        format!("{}/{}/{}/{}", self.date, self.region, self.service, self.terminal)
    }

    pub(super) fn signing_key(&self, secret: &str) -> SigningKey {
        SigningKey::derive(secret, &self.date, &self.region, &self.service)
    }
}

/// Signs for one secret, day, region and service. As good as the secret for that day.
#[derive(Clone)]
pub(super) struct SigningKey([u8; 32]);

impl SigningKey {
    pub(super) fn derive(secret: &str, date: &str, region: &str, service: &str) -> Self {
        let day = hmac(format!("AWS4{secret}").as_bytes(), date.as_bytes());
        let region = hmac(&day, region.as_bytes());
        let service = hmac(&region, service.as_bytes());
        Self(hmac(&service, TERMINAL.as_bytes()))
    }

    pub(super) fn sign(&self, text: &[u8]) -> [u8; 32] {
        hmac(&self.0, text)
    }
}

impl fmt::Debug for SigningKey {
    /// The key is never shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_read_from_the_right() {
        let credential = Credential::parse("a/b/20130524//s3/aws4_request").unwrap();
        assert_eq!(credential.access_key_id, "a/b");
        assert_eq!(credential.scope(), "20130524//s3/aws4_request");
        for text in ["", "a", "20130524/r/s3/aws4_request", "/20130524/r/s3/aws4_request"] {
            assert_eq!(Credential::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_signing_key_is_not_shown() {
        let key = SigningKey::derive("secret", "20130524", "us-east-1", "s3");
        assert_eq!(format!("{key:?}"), "SigningKey(..)");
    }
}
