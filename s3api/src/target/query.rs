//! The parameters of a query string, parsed once.

use super::decode;
use crate::error::{S3Error, S3Result};
use crate::operation::is_known_parameter;

/// Parameters in the order sent. Names are case-sensitive, as S3's are. A parameter without `=` has an empty value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a raw query. A parameter that means something may be there only once: two readers must not be able to
    /// pick different ones.
    pub fn parse(raw: &str) -> S3Result<Self> {
        let mut parameters: Vec<(String, String)> = Vec::new();
        for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            if is_known_parameter(&name) && parameters.iter().any(|(known, _)| *known == name) {
                return Err(S3Error::invalid_argument(name, value, "The parameter is there more than once."));
            }
            parameters.push((name, value));
        }
        Ok(Self(parameters))
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// As [`Self::get`], but an empty value counts as absent.
    pub fn filled(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorCode;

    #[test]
    fn parameters_are_decoded_in_order() {
        let query = Query::parse("prefix=a%26b%3D&&delete&Prefix=c&x=1=2").unwrap();
        assert_eq!(
            query.iter().collect::<Vec<_>>(),
            [("prefix", "a&b="), ("delete", ""), ("Prefix", "c"), ("x", "1=2")]
        );
        assert!(query.has("delete") && query.filled("delete").is_none());
        assert_eq!(query.get("PREFIX"), None);
    }

    #[test]
    fn a_known_parameter_is_there_once() {
        for raw in ["versionId=a&versionId=b", "acl&acl", "prefix=a&prefi%78=b", "X-Amz-Date=1&X-Amz-Date=2"]
        {
            assert_eq!(Query::parse(raw).map_err(|e| e.code), Err(ErrorCode::InvalidArgument), "{raw}");
        }
        assert!(Query::parse("own=1&own=2").is_ok());
    }
}
