//! The effective config: every option with its value, including overrides and defaults.
//!
//! Secrets are shown as references, the mapping only by its tables.

use std::fmt::Write;

use super::{Auth, Config, LogFormat, OnGap, SecretRef, Tls};
use crate::mapping::Unmatched;
use crate::mapping::toml_text::{key, string};

impl Config {
    /// The effective options, as TOML.
    #[must_use]
    pub fn effective(&self) -> String {
        let mut out = String::from("version = 1\n");
        self.write_target(&mut out);
        for source in &self.sources {
            section(&mut out, &format!("source.{}", key(&source.name)));
            option(&mut out, "table", string(&source.table));
            text(&mut out, "region", source.region.as_deref());
            text(&mut out, "endpoint", source.endpoint.as_deref());
            let on_gap = match source.on_gap {
                OnGap::Halt => "halt",
                OnGap::Resync => "resync",
            };
            text(&mut out, "on_gap", Some(on_gap));
            let unmatched = match source.mapper.unmatched() {
                Unmatched::Ignore => "ignore",
                Unmatched::Count => "count",
                Unmatched::DeadLetter => "dead_letter",
                Unmatched::Halt => "halt",
            };
            text(&mut out, "unmatched", Some(unmatched));
            for table in source.mapper.tables() {
                line(&mut out, &format!("# {} -> {}", table.entity, table.name));
            }
        }
        section(&mut out, "aws");
        text(&mut out, "region", self.aws.region.as_deref());
        text(&mut out, "profile", self.aws.profile.as_deref());
        text(&mut out, "endpoint", self.aws.endpoint.as_deref());
        self.write_worker(&mut out);
        section(&mut out, "telemetry");
        option(&mut out, "listen", string(&self.telemetry.listen.to_string()));
        let format = match self.telemetry.log_format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        };
        text(&mut out, "log_format", Some(format));
        text(&mut out, "log_level", Some(&self.telemetry.log_level));
        out
    }

    fn write_target(&self, out: &mut String) {
        let target = &self.target;
        section(out, "target");
        option(out, "url", string(&target.url));
        match &target.auth {
            Auth::Trust => {}
            Auth::Iam => text(out, "auth", Some("iam")),
            Auth::Password(place) => {
                let (kind, place) = match place {
                    SecretRef::File(path) => ("file", path.display().to_string()),
                    SecretRef::Env(name) => ("env", name.clone()),
                    SecretRef::Credential(name) => ("credential", name.clone()),
                    SecretRef::SecretsManager { arn, .. } => ("secretsmanager", arn.clone()),
                };
                let field = match &target.auth {
                    Auth::Password(SecretRef::SecretsManager { field: Some(field), .. }) => {
                        format!(", field = {}", string(field))
                    }
                    _ => String::new(),
                };
                option(out, "password", format!("{{ {kind} = {}{field} }}", string(&place)));
            }
        }
        let tls = match target.tls {
            Tls::VerifyFull => "verify-full",
            Tls::VerifyCa => "verify-ca",
            Tls::Require => "require",
            Tls::Disable => "disable",
        };
        text(out, "tls", Some(tls));
        let ca_file = target.ca_file.as_ref().map(|path| path.display().to_string());
        text(out, "ca_file", ca_file.as_deref());
        option(out, "pool", target.pool);
        option(out, "migrate", target.migrate);
        option(out, "prepared_statements", target.prepared_statements);
    }

    fn write_worker(&self, out: &mut String) {
        let worker = &self.worker;
        section(out, "worker");
        option(out, "lease_ttl_secs", worker.lease_ttl_secs);
        option(out, "poll_min_ms", worker.poll_min_ms);
        option(out, "poll_idle_max_ms", worker.poll_idle_max_ms);
        option(out, "discovery_interval_secs", worker.discovery_interval_secs);
        option(out, "batch_rows_max", worker.batch_rows_max);
        option(out, "batch_bytes_max", worker.batch_bytes_max);
        option(out, "partitions_max", worker.partitions_max);
        option(out, "grace_secs", worker.grace_secs);
        option(out, "reject_share_max", format!("{:?}", worker.reject_share_max));
        option(out, "sweep_share_max", format!("{:?}", worker.sweep_share_max));
    }
}

fn section(out: &mut String, name: &str) {
    line(out, &format!("\n[{name}]"));
}

fn text(out: &mut String, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        option(out, name, string(value));
    }
}

fn option(out: &mut String, name: &str, value: impl std::fmt::Display) {
    line(out, &format!("{name} = {value}"));
}

fn line(out: &mut String, text: &str) {
    writeln!(out, "{text}").expect("a string takes any text");
}
