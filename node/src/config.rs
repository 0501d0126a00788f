//! `node.toml`: what one node is told on its own machine. Parsed, validated, then immutable; unknown keys fail.
//!
//! Cluster-wide settings are not here: they live in the cluster map.

use ashlar_placement::Labels;
use ashlar_types::limits::{GIB, KIB, MIB, TIB};
use serde::Deserialize;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// Segments of a drive, if it is not so small that this would leave it with few of them.
const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// Default of `memory_limit` on machines with 16 GiB or more; a quarter of the memory on smaller ones.
const MEMORY_LIMIT_MAX: u64 = 4 * GIB;
/// Below this a node cannot hold its metadata and the rows of a few concurrent requests.
pub const MEMORY_LIMIT_MIN: u64 = 256 * MIB;

/// A validated node configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Identity, metadata groups and the admin socket.
    pub data_dir: PathBuf,
    pub drives: Vec<DriveConfig>,
    pub s3_listen: SocketAddr,
    pub rpc_listen: SocketAddr,
    /// `host:port` under which other nodes reach this one; default: `rpc_listen`.
    pub rpc_advertise: Option<String>,
    /// URL under which clients reach this node, for status and tools; default: the host of `rpc_advertise` and the
    /// port of `s3_listen`.
    pub s3_advertise: Option<String>,
    pub metrics_listen: Option<SocketAddr>,
    pub labels: Labels,
    /// Bytes of buffers of this process, all roles together.
    pub memory_limit: u64,
    /// Length of the drives' segments at most, which counts when they are formatted.
    pub segment_bytes_max: u64,
    /// Region names that clients are told; any is accepted in signatures.
    pub region: String,
    /// Answers as the conformance suite wants them where it differs from AWS; `dev` only.
    pub conformance: bool,
}

#[derive(Clone, Debug)]
pub struct DriveConfig {
    pub path: PathBuf,
    /// Bytes; default: the device's size, divided between the directories that share it.
    pub capacity: Option<u64>,
}

/// Why a configuration is not usable; the text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {}; pass --config PATH of a readable file", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}: {message}", path.display())]
    Syntax { path: PathBuf, message: String },
    #[error("{}: `{key}`: {problem}", path.display())]
    Value { path: PathBuf, key: &'static str, problem: String },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    data_dir: PathBuf,
    drives: Vec<FileDrive>,
    s3_listen: SocketAddr,
    rpc_listen: SocketAddr,
    rpc_advertise: Option<String>,
    s3_advertise: Option<String>,
    metrics_listen: Option<SocketAddr>,
    #[serde(default)]
    labels: FileLabels,
    memory_limit: Option<Size>,
    #[serde(default)]
    s3: FileS3,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileDrive {
    path: PathBuf,
    capacity: Option<Size>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileLabels {
    #[serde(default)]
    rack: String,
    #[serde(default)]
    zone: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileS3 {
    domain: Option<String>,
    region: Option<String>,
    #[serde(default)]
    sigv2: bool,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
}

/// Bytes as a number or as text with a unit: `1073741824`, `"512 MiB"`, `"4GiB"`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Size {
    Bytes(u64),
    Text(String),
}

impl Size {
    fn bytes(&self) -> Result<u64, String> {
        match self {
            Self::Bytes(bytes) => Ok(*bytes),
            Self::Text(text) => parse_size(text),
        }
    }
}

/// Parses `"512 MiB"` and the like; units are binary.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "" | "B" => 1,
        "KiB" => KIB,
        "MiB" => MIB,
        "GiB" => GIB,
        "TiB" => TIB,
        other => return Err(format!("unknown unit `{other}`; use B, KiB, MiB, GiB or TiB")),
    };
    let number: u64 = number.parse().map_err(|_| format!("`{text}` is not a size such as \"4 GiB\""))?;
    number.checked_mul(factor).ok_or_else(|| format!("`{text}` is too large"))
}

impl Config {
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    /// `path` only names the file in errors.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let file: File = toml::from_str(text)
            .map_err(|error| ConfigError::Syntax { path: path.to_owned(), message: error.to_string() })?;
        let wrong = |key, problem: String| ConfigError::Value { path: path.to_owned(), key, problem };

        if file.drives.is_empty() {
            return Err(wrong(
                "drives",
                "name at least one directory: drives = [{ path = \"/mnt/d1\" }]".into(),
            ));
        }
        let mut drives = Vec::new();
        for drive in file.drives {
            if drives.iter().any(|other: &DriveConfig| other.path == drive.path) {
                return Err(wrong("drives", format!("{} is named twice", drive.path.display())));
            }
            let capacity = match drive.capacity {
                Some(size) => Some(size.bytes().map_err(|problem| wrong("drives", problem))?),
                None => None,
            };
            drives.push(DriveConfig { path: drive.path, capacity });
        }
        for (key, set) in [
            ("s3.domain", file.s3.domain.is_some()),
            ("s3.sigv2", file.s3.sigv2),
            ("s3.tls_cert", file.s3.tls_cert.is_some()),
            ("s3.tls_key", file.s3.tls_key.is_some()),
        ] {
            if set {
                return Err(wrong(key, "is not supported by this version; remove it".into()));
            }
        }
        match &file.rpc_advertise {
            Some(address) => check_advertised(address).map_err(|problem| wrong("rpc_advertise", problem))?,
            None if file.rpc_listen.ip().is_unspecified() => {
                return Err(wrong(
                    "rpc_advertise",
                    format!(
                        "is needed where rpc_listen is {}: give the host:port under which other nodes reach this one",
                        file.rpc_listen
                    ),
                ));
            }
            None => {}
        }
        let s3_schemes = ["http://", "https://"];
        if let Some(url) = &file.s3_advertise
            && !s3_schemes.iter().any(|scheme| url.len() > scheme.len() && url.starts_with(scheme))
        {
            return Err(wrong("s3_advertise", format!("`{url}` is not a URL such as \"http://n1:9000\"")));
        }
        let memory_limit = match file.memory_limit {
            Some(size) => size.bytes().map_err(|problem| wrong("memory_limit", problem))?,
            None => default_memory_limit(),
        };
        if memory_limit < MEMORY_LIMIT_MIN {
            return Err(wrong("memory_limit", format!("is {memory_limit} bytes; give at least 256 MiB")));
        }
        Ok(Self {
            data_dir: file.data_dir,
            drives,
            s3_listen: file.s3_listen,
            rpc_listen: file.rpc_listen,
            rpc_advertise: file.rpc_advertise,
            s3_advertise: file.s3_advertise,
            metrics_listen: file.metrics_listen,
            labels: Labels { rack: file.labels.rack, zone: file.labels.zone },
            memory_limit,
            segment_bytes_max: SEGMENT_BYTES_MAX,
            region: file.s3.region.unwrap_or_else(|| "us-east-1".into()),
            conformance: false,
        })
    }
}

/// `host:port` that others can connect to.
pub fn check_advertised(address: &str) -> Result<(), String> {
    if let Ok(literal) = address.parse::<SocketAddr>() {
        if literal.ip().is_unspecified() || literal.port() == 0 {
            return Err(format!("nobody can connect to {address}: give the address that others use"));
        }
        return Ok(());
    }
    let name = |host: &str| {
        !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.')
    };
    match address.rsplit_once(':') {
        Some((host, port)) if name(host) && port.parse().is_ok_and(|port: u16| port != 0) => Ok(()),
        Some(_) | None => Err(format!("`{address}` is not an address of the form host:port")),
    }
}

/// A quarter of the machine's memory, at most 4 GiB.
pub fn default_memory_limit() -> u64 {
    let total = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    let total = total.map_or(MEMORY_LIMIT_MAX, |kib| kib * KIB);
    (total / 4).clamp(MEMORY_LIMIT_MIN, MEMORY_LIMIT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        data_dir = "/var/lib/ashlar"
        drives = [{ path = "/mnt/d1" }, { path = "/mnt/d2", capacity = "1 TiB" }]
        s3_listen = "0.0.0.0:9000"
        rpc_listen = "127.0.0.1:9100"
        labels = { rack = "r1" }
        memory_limit = "1GiB"
    "#;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(Path::new("node.toml"), text)
    }

    #[test]
    fn a_good_file_is_taken_as_written() {
        let config = parse(GOOD).unwrap();
        assert_eq!(config.drives[1].capacity, Some(TIB));
        assert_eq!((config.labels.rack.as_str(), config.memory_limit), ("r1", GIB));
    }

    #[test]
    fn mistakes_are_named() {
        for (change, told) in [
            (GOOD.replace("labels", "lables"), "lables"),
            (GOOD.replace("rack", "rak"), "rak"),
            (GOOD.replace("\"1GiB\"", "\"1GB\""), "unknown unit `GB`"),
            (GOOD.replace("\"1GiB\"", "1000"), "at least 256 MiB"),
            (GOOD.replace("/mnt/d2", "/mnt/d1"), "named twice"),
            (GOOD.replace("9000\"", "9000x\""), "s3_listen"),
            (format!("{GOOD}\ns3 = {{ sigv2 = true }}"), "s3.sigv2"),
            (GOOD.replace("127.0.0.1:9100", "0.0.0.0:9100"), "rpc_advertise"),
            (GOOD.replace("127.0.0.1:9100", "[::]:9100"), "rpc_advertise"),
            (format!("{GOOD}\ns3_advertise = \"n1:9000\""), "s3_advertise"),
        ] {
            let error = parse(&change).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn an_advertised_address_is_one_that_others_can_connect_to() {
        let listen = GOOD.replace("127.0.0.1:9100", "0.0.0.0:9100");
        let config = parse(&format!("{listen}\nrpc_advertise = \"n1.example:9100\"")).unwrap();
        assert_eq!(config.rpc_advertise.as_deref(), Some("n1.example:9100"));
        for good in ["10.0.0.1:9100", "[fd00::1]:9100", "n1:1"] {
            assert_eq!(check_advertised(good), Ok(()), "{good}");
        }
        for bad in
            ["", ":9100", "n1", "n1:", "n1:0", "n1:65536", "0.0.0.0:9100", "[::]:1", "10.0.0.1:0", "a b:1"]
        {
            assert!(check_advertised(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(parse_size("3 KiB"), Ok(3072));
        assert_eq!(parse_size("7"), Ok(7));
        for bad in ["", "KiB", "1 kb", "99999999999 TiB", "-1"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}
