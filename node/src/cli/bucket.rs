//! `ashlar bucket`: what a bucket holds, and how much it may.

use super::{
    Admin,
    admin_client::{connect, told},
    print_json,
    status::size,
};
use anyhow::{anyhow, bail};
use ashlar_proto::admin as wire;
use clap::{Args, Subcommand};

#[derive(Subcommand)]
pub(super) enum Bucket {
    /// Exact numbers of objects, versions and bytes.
    Stats(Stats),
    /// Show or set the limits of a bucket.
    Quota(Quota),
}

#[derive(Args)]
pub(super) struct Stats {
    bucket: String,
    #[command(flatten)]
    admin: Admin,
}

#[derive(Args)]
pub(super) struct Quota {
    bucket: String,
    /// All versions and parts of open uploads together: `500 GiB`, or `none`.
    #[arg(long, value_name = "SIZE")]
    bytes: Option<String>,
    /// Live objects and older versions together: a number, or `none`.
    #[arg(long, value_name = "N")]
    objects: Option<String>,
    #[command(flatten)]
    admin: Admin,
}

impl Bucket {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Stats(stats) => stats.run().await,
            Self::Quota(quota) => quota.run().await,
        }
    }
}

impl Stats {
    async fn run(self) -> anyhow::Result<()> {
        let mut client = connect(&self.admin.admin).await?;
        let request = wire::BucketStatsRequest { bucket: self.bucket };
        let reply = client.bucket_stats(request).await.map_err(told)?.into_inner();
        show(&self.admin, &reply)
    }
}

impl Quota {
    /// Without limits it shows; a limit that is not named stays.
    async fn run(self) -> anyhow::Result<()> {
        let mut client = connect(&self.admin.admin).await?;
        let request = wire::BucketStatsRequest { bucket: self.bucket.clone() };
        let mut reply = client.bucket_stats(request).await.map_err(told)?.into_inner();
        if self.bytes.is_some() || self.objects.is_some() {
            let bytes = self.bytes.as_deref().map(|text| limit(text, bytes_of)).transpose()?;
            let objects = self.objects.as_deref().map(|text| limit(text, objects_of)).transpose()?;
            let request = wire::SetBucketQuotaRequest {
                bucket: self.bucket,
                bytes: bytes.unwrap_or(reply.quota_bytes),
                objects: objects.unwrap_or(reply.quota_objects),
            };
            reply = client.set_bucket_quota(request).await.map_err(told)?.into_inner();
        }
        show(&self.admin, &reply)
    }
}

fn limit(text: &str, parse: impl Fn(&str) -> anyhow::Result<u64>) -> anyhow::Result<Option<u64>> {
    if text == "none" { Ok(None) } else { parse(text).map(Some) }
}

fn objects_of(text: &str) -> anyhow::Result<u64> {
    text.parse().map_err(|_| anyhow!("`{text}` is not a number of objects; write a number, or `none`"))
}

/// A number with an optional binary unit.
fn bytes_of(text: &str) -> anyhow::Result<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        "PiB" => 50,
        _ => bail!("`{text}` is not a size such as `500 GiB`, or `none`"),
    };
    let parsed = number.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    parsed.ok_or_else(|| anyhow!("`{text}` is not a size such as `500 GiB`, or `none`"))
}

fn show(admin: &Admin, stats: &wire::BucketStatsReply) -> anyhow::Result<()> {
    if admin.json {
        return print_json(stats);
    }
    print(stats);
    Ok(())
}

fn print(stats: &wire::BucketStatsReply) {
    let of =
        |limit: Option<String>| limit.map_or_else(|| "no limit".to_owned(), |limit| format!("of {limit}"));
    println!("bucket               {} (metadata group {})", stats.bucket, stats.group);
    println!("objects              {}", stats.objects);
    println!("noncurrent versions  {}", stats.noncurrent_versions);
    println!("delete markers       {}", stats.delete_markers);
    println!("bytes                {} ({})", size(stats.bytes), stats.bytes);
    println!("open uploads         {}, {}", stats.uploads, size(stats.upload_bytes));
    println!("quota of bytes       {}", of(stats.quota_bytes.map(size)));
    println!("quota of objects     {}", of(stats.quota_objects.map(|limit| limit.to_string())));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_sizes_numbers_or_none() {
        assert_eq!(limit("none", bytes_of).unwrap(), None);
        assert_eq!(limit("500 GiB", bytes_of).unwrap(), Some(500 << 30));
        assert_eq!(limit("1KiB", bytes_of).unwrap(), Some(1024));
        assert_eq!(limit("0", objects_of).unwrap(), Some(0));
        for bad in ["", "GiB", "5 GB", "-1", "99999999999 PiB"] {
            assert!(limit(bad, bytes_of).is_err(), "{bad}");
        }
        assert!(limit("many", objects_of).is_err());
    }
}
