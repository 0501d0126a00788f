//! How many bytes each configured directory may use. Directories that share a device share its bytes, so that six of
//! them on one disk do not promise it six times.

use crate::config::Config;
use ashlar_runtime::Env;
use std::{io, path::PathBuf};

#[derive(Debug, thiserror::Error)]
#[error("cannot measure drive {}", path.display())]
pub struct CapacityError {
    path: PathBuf,
    source: io::Error,
}

/// Bytes per drive, in the order of the configuration. Makes directories that do not exist.
pub fn capacities(config: &Config, env: &Env) -> Result<Vec<u64>, CapacityError> {
    let mut usages = Vec::new();
    for drive in &config.drives {
        let failed = |source| CapacityError { path: drive.path.clone(), source };
        env.disk.create_dir_all(&drive.path).map_err(failed)?;
        usages.push(env.disk.usage(&drive.path).map_err(failed)?);
    }
    let share = |(drive, usage): (&crate::config::DriveConfig, &ashlar_runtime::DiskUsage)| {
        let sharing = usages.iter().filter(|other| other.device == usage.device).count();
        let sharing = u64::try_from(sharing.max(1)).expect("a configuration names few directories");
        drive.capacity.unwrap_or(usage.total_bytes / sharing)
    };
    Ok(config.drives.iter().zip(&usages).map(share).collect())
}
