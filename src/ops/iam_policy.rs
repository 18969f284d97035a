//! The least that AWS must allow, for the tables of one config.

use serde_json::{Value, json};

use super::wire::postgres_options;
use crate::config::{Auth, Config, SourceConfig};
use crate::error::{Error, ErrorKind, Result};

/// What the config does not say.
#[derive(Debug, Clone)]
pub struct Options {
    /// The number of the AWS account.
    pub account: String,
    /// The region of sources without one in the config.
    pub region: String,
    /// The cluster's resource id, for login by IAM.
    pub cluster: String,
    /// Whether only the daemon is meant, which reads no table.
    pub tail_only: bool,
    /// The places of exports that are loaded.
    pub exports: Vec<String>,
}

/// The policy.
///
/// # Errors
/// `Usage` for a place that no export can have, `Config` for a target's URL that is none of Postgres.
pub fn policy(config: &Config, options: &Options) -> Result<Value> {
    let arn = |source: &SourceConfig| {
        let region =
            source.region.as_ref().or(config.aws.region.as_ref()).unwrap_or(&options.region);
        let (partition, account) = (partition(region), &options.account);
        format!("arn:{partition}:dynamodb:{region}:{account}:table/{}", source.table)
    };
    let mut tables: Vec<String> = config.sources.iter().map(arn).collect();
    tables.sort();
    tables.dedup();
    let streams: Vec<String> = tables.iter().map(|table| format!("{table}/stream/*")).collect();
    let mut statements = vec![
        statement("DescribeTable", &["dynamodb:DescribeTable"], &tables),
        statement(
            "TailStream",
            &["dynamodb:DescribeStream", "dynamodb:GetShardIterator", "dynamodb:GetRecords"],
            &streams,
        ),
    ];
    if !options.tail_only {
        statements.push(statement("BackfillVerifyInfer", &["dynamodb:Scan"], &tables));
        statements.push(statement("VerifyRetry", &["dynamodb:GetItem"], &tables));
    }
    if !options.exports.is_empty() {
        let region = config.aws.region.as_ref().unwrap_or(&options.region);
        let objects = options.exports.iter().map(|place| objects(place, partition(region)));
        let objects = objects.collect::<Result<Vec<_>>>()?;
        statements.push(statement("LoadExport", &["s3:GetObject"], &objects));
    }
    if config.target.auth == Auth::Iam {
        let user = postgres_options(&config.target)?;
        // The login is signed for the region of the database, which is that of `[aws]`.
        let region = config.aws.region.as_ref().unwrap_or(&options.region);
        let user = format!(
            "arn:{}:rds-db:{region}:{}:dbuser:{}/{}",
            partition(region),
            options.account,
            options.cluster,
            user.get_username()
        );
        statements.push(statement("ConnectToAurora", &["rds-db:connect"], &[user]));
    }
    Ok(json!({ "Version": "2012-10-17", "Statement": statements }))
}

/// The objects under one export's place, or a prefix of several.
fn objects(place: &str, partition: &str) -> Result<String> {
    let path = place.strip_prefix("s3://").unwrap_or_default().trim_end_matches('/');
    if path.is_empty() || path.starts_with('/') || path.contains(['*', '?']) {
        let what = format!("{place} is not a place of exports in S3");
        return Err(Error::new(ErrorKind::Usage, what).with_hint("--export s3://BUCKET/PREFIX"));
    }
    Ok(format!("arn:{partition}:s3:::{path}/*"))
}

fn statement(sid: &str, actions: &[&str], resources: &[String]) -> Value {
    let one_or_many = |values: Vec<&str>| match values.as_slice() {
        [one] => json!(one),
        many => json!(many),
    };
    json!({
        "Sid": sid,
        "Effect": "Allow",
        "Action": one_or_many(actions.to_vec()),
        "Resource": one_or_many(resources.iter().map(String::as_str).collect()),
    })
}

/// The part of AWS that a region belongs to, as its ARNs name it.
fn partition(region: &str) -> &'static str {
    if region.starts_with("cn-") {
        "aws-cn"
    } else if region.starts_with("us-gov-") {
        "aws-us-gov"
    } else {
        "aws"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(more: &str, tail_only: bool) -> Value {
        with_exports(more, tail_only, &[]).unwrap()
    }

    fn with_exports(more: &str, tail_only: bool, exports: &[&str]) -> Result<Value> {
        let text = format!(
            "version = 1\n[target]\nurl = \"postgres://elf@db.example.com/reads\"\n\
             auth = \"iam\"\n[aws]\nregion = \"eu-north-1\"\n[source.a]\ntable = \"A\"\n\
             primary_key = [\"id\"]\n[source.a.columns]\nid = \"id\"\n{more}"
        );
        let config = Config::parse(&text, "t", &[], std::iter::empty())
            .unwrap_or_else(|problems| panic!("{}", problems.render(false)));
        let options = Options {
            account: "123456789012".to_owned(),
            region: "us-east-1".to_owned(),
            cluster: "cluster-X".to_owned(),
            tail_only,
            exports: exports.iter().map(ToString::to_string).collect(),
        };
        policy(&config, &options)
    }

    #[test]
    fn it_names_the_tables_of_the_config_and_nothing_else() {
        let more = "[source.b]\ntable = \"B\"\nregion = \"cn-north-1\"\nprimary_key = [\"id\"]\n\
                    [source.b.columns]\nid = \"id\"\n";
        let policy = printed(more, false);
        let statements = policy["Statement"].as_array().unwrap();
        let resources = |at: usize| statements[at]["Resource"].clone();
        let a = "arn:aws:dynamodb:eu-north-1:123456789012:table/A";
        let b = "arn:aws-cn:dynamodb:cn-north-1:123456789012:table/B";
        assert_eq!(resources(0), json!([b, a]));
        assert_eq!(resources(1), json!([format!("{b}/stream/*"), format!("{a}/stream/*")]));
        let user = "arn:aws:rds-db:eu-north-1:123456789012:dbuser:cluster-X/elf";
        assert_eq!(statements[4]["Resource"], user);
    }

    #[test]
    fn exports_are_read_below_their_places_only() {
        let policy = with_exports("", true, &["s3://b/p/", "s3://c"]).unwrap();
        let statements = policy["Statement"].as_array().unwrap();
        let own = statements.iter().find(|own| own["Sid"] == "LoadExport").unwrap();
        assert_eq!(own["Action"], "s3:GetObject");
        assert_eq!(own["Resource"], json!(["arn:aws:s3:::b/p/*", "arn:aws:s3:::c/*"]));
        for wrong in ["s3://", "/exports", "b/p", "s3:///p", "s3://b/*"] {
            let error = with_exports("", false, &[wrong]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{wrong}");
        }
        assert!(!printed("", false).to_string().contains("s3"));
    }

    #[test]
    fn tailing_alone_reads_no_table() {
        let text = printed("", true).to_string();
        assert!(!text.contains("Scan") && !text.contains("GetItem"), "{text}");
        assert!(printed("", false).to_string().contains("GetItem"));
    }
}
