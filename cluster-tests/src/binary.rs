//! The `ashlar` binary under test: built once per test process, or named by `ASHLAR_BIN`.

use anyhow::{Context, Result, anyhow, bail, ensure};
use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// Path of the binary. The first caller builds it, which blocks: nothing else of a story runs by then.
pub fn ashlar() -> Result<&'static Path> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match BINARY.get_or_init(|| find_or_build().map_err(|error| format!("{error:#}"))) {
        Ok(path) => Ok(path),
        Err(error) => Err(anyhow!("no ashlar binary to test: {error}")),
    }
}

fn find_or_build() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("ASHLAR_BIN") {
        let path = PathBuf::from(path);
        ensure!(path.is_file(), "ASHLAR_BIN names {}, which is no file", path.display());
        return Ok(path.canonicalize()?);
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // Cargo itself says where the executable is, whatever the target directory and profile are.
    let output = Command::new(cargo)
        .args(["build", "--package", "ashlar-node", "--bin", "ashlar"])
        .args(["--message-format", "json-render-diagnostics"])
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!("cargo build --package ashlar-node failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "ashlar")
        .find_map(|message| Some(PathBuf::from(message["executable"].as_str()?)))
        .context("cargo built no executable named ashlar")
}
