//! `dynaurora iam-policy`: the least AWS rights for the tables of this config.

use std::process::ExitCode;

use clap::Args;

use super::args::ConfigArgs;
use super::config_file::read;
use super::output::print_json;
use super::paste;
use crate::error::Result;
use crate::ops::iam_policy::{Options, policy};

/// Options of `iam-policy`.
#[derive(Debug, Args)]
pub struct IamPolicyArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The number of the AWS account.
    #[arg(long, value_name = "NUMBER", default_value = "ACCOUNT")]
    account: String,
    /// The region of sources without one in the config.
    #[arg(long, env = "AWS_REGION", default_value = "REGION")]
    region: String,
    /// The cluster's resource id, as `aws rds describe-db-clusters` shows it, for login by IAM.
    #[arg(long, value_name = "ID", default_value = "CLUSTER_RESOURCE_ID")]
    cluster: String,
    /// Omit rights that only backfill, verify, dead-letters retry and infer need.
    #[arg(long)]
    tail_only: bool,
    /// Also allow `backfill --from-export` from this place; repeatable.
    #[arg(long, value_name = "s3://BUCKET/PREFIX")]
    export: Vec<String>,
}

/// Prints the policy; values that the config does not have are placeholders in capitals.
///
/// # Errors
/// When the config is wrong, or an export's place is not in S3.
pub fn run(args: &IamPolicyArgs) -> Result<ExitCode> {
    let config = read(&args.config)?;
    let options = Options {
        account: args.account.clone(),
        region: args.region.clone(),
        cluster: args.cluster.clone(),
        tail_only: args.tail_only,
        exports: args.export.clone(),
    };
    print_json(&policy(&config, &options)?)?;
    anstream::eprintln!("Scan is for: backfill, verify, infer; GetItem for: verify, retry");
    if args.export.is_empty() {
        anstream::eprintln!("for backfill --from-export: --export s3://BUCKET/PREFIX");
    } else {
        anstream::eprintln!("if a KMS key encrypts the export, add kms:Decrypt on that key");
    }
    paste::next("attach it to the role that runs dynaurora, then dynaurora check");
    Ok(ExitCode::SUCCESS)
}
