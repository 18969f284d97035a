//! Reads `[target]`, `[aws]` and all endpoints.

use super::reader::Fields;
use super::{Auth, AwsConfig, TargetConfig, Tls, secret};
use crate::mapping::definition::{Problem, Span, Spanned};

/// Connections for applying. Two keep the database busy while the next batch is read; more only help if one
/// process reads many shards, and each is a server process in Postgres.
pub(super) const POOL: u64 = 2;

/// Reads `[target]`.
pub(super) fn read(mut fields: Fields<'_>, problems: &mut Vec<Problem>) -> Option<TargetConfig> {
    let example = "\"postgres://user@host/database\"";
    let url = fields.required("url", example, problems);
    let url = url.and_then(|url| check_url(url, problems));
    let words = [
        ("verify-full", Tls::VerifyFull),
        ("verify-ca", Tls::VerifyCa),
        ("require", Tls::Require),
        ("disable", Tls::Disable),
    ];
    let tls = fields.choice("tls", &words, problems);
    let password =
        fields.entry("password").and_then(|entry| secret::reference(&entry.value, problems));
    let auth = fields.choice("auth", &[("iam", ())], problems);
    let ca_file = fields.string("ca_file", problems);
    let pool = fields.integer("pool", 1..=100, problems).unwrap_or(POOL);
    let migrate = fields.boolean("migrate", problems).unwrap_or(true);
    let prepared = fields.boolean("prepared_statements", problems);
    fields.finish(problems);
    let auth = match (auth, password) {
        (Some(auth), Some(_)) => {
            let message = "`auth` and `password` exclude each other";
            problems.push(Problem::at(auth.span, message));
            return None;
        }
        (Some(_), None) => Auth::Iam,
        (None, Some(password)) => Auth::Password(password),
        (None, None) => Auth::Trust,
    };
    let (url, local) = url?;
    if let Some(tls) = tls.as_ref().filter(|tls| tls.value == Tls::Disable && !local) {
        let message = "tls = \"disable\" is for a database on this machine only";
        let hint = "use \"verify-full\"; the certificates of Aurora and RDS are built in";
        problems.push(Problem::at(tls.span, message).with_hint(hint));
    }
    Some(TargetConfig {
        url: url.value,
        local,
        auth,
        tls: tls.map_or(Tls::default(), |tls| tls.value),
        ca_file: ca_file.map(|path| path.value.into()),
        pool: u32::try_from(pool).unwrap_or(u32::MAX),
        migrate,
        prepared_statements: prepared.unwrap_or(true),
    })
}

/// Reads `[aws]`.
pub(super) fn read_aws(mut fields: Fields<'_>, problems: &mut Vec<Problem>) -> AwsConfig {
    let region = fields.string("region", problems).map(|text| text.value);
    let profile = fields.string("profile", problems).map(|text| text.value);
    let endpoint = endpoint(&mut fields, problems);
    fields.finish(problems);
    AwsConfig { region, profile, endpoint }
}

/// Reads `endpoint`: plain http is allowed only to this machine, because others could read the requests.
pub(super) fn endpoint(fields: &mut Fields<'_>, problems: &mut Vec<Problem>) -> Option<String> {
    let written = fields.string("endpoint", problems)?;
    let (scheme, rest) = written.value.split_once("://").unwrap_or(("", &written.value));
    let host = host(rest.split(['/', '?']).next().unwrap_or_default());
    let problem = match scheme {
        _ if host.is_empty() => "an endpoint is a URL, as https://dynamodb.eu-west-1.amazonaws.com",
        "https" => return Some(written.value),
        "http" if is_loopback(host) => return Some(written.value),
        "http" => "a plain http endpoint must be on this machine",
        _ => "an endpoint begins with https://, or with http:// on this machine",
    };
    problems.push(Problem::at(written.span, problem));
    None
}

/// The place of a password in a URL, `postgres://user:HERE@host/…`.
pub(super) fn password_in_url(url: &Spanned<String>) -> Option<Span> {
    let (scheme, rest) = url.value.split_once("://")?;
    let authority = rest.split(['/', '?']).next()?;
    let (user, _) = authority.rsplit_once('@')?;
    let (name, password) = user.split_once(':')?;
    let before = scheme.len() + 3 + name.len() + 1;
    let plain = usize::try_from(url.span.end - url.span.start) == Ok(url.value.len() + 2);
    let offset = |at: usize| u32::try_from(at).ok().map(|at| url.span.start + 1 + at);
    match (plain, offset(before), offset(before + password.len())) {
        (true, Some(start), Some(end)) => Some(Span { start, end, ..url.span }),
        _ => Some(url.span),
    }
}

fn check_url(url: Spanned<String>, problems: &mut Vec<Problem>) -> Option<(Spanned<String>, bool)> {
    let hint = "write postgres://user@host:5432/database";
    let rest = ["postgres://", "postgresql://"].iter().find_map(|s| url.value.strip_prefix(s));
    let Some(rest) = rest else {
        problems.push(Problem::at(url.span, "not the URL of a Postgres database").with_hint(hint));
        return None;
    };
    if let Some(span) = password_in_url(&url) {
        let message = "a password must not be in the config itself";
        let hint = "take it out of the URL and write password = { file = \"…\" }, \
                    { env = \"…\" } or { credential = \"…\" }";
        problems.push(Problem::at(span, message).with_hint(hint));
        return None;
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (database, query) = path.split_once('?').unwrap_or((path, ""));
    let parameters = query.split('&').filter_map(|pair| pair.split_once('='));
    let mut socket = None;
    for (name, value) in parameters {
        match name {
            "host" => socket = Some(value),
            "password" | "sslpassword" => {
                let message = "a password must not be in the config itself";
                problems.push(Problem::at(url.span, message));
                return None;
            }
            name if name.starts_with("ssl") => {
                let message = format!("`{name}` does not belong in the URL");
                let hint = "set tls = \"verify-full\" and ca_file = \"…\" in [target]";
                problems.push(Problem::at(url.span, message).with_hint(hint));
                return None;
            }
            _ => {}
        }
    }
    if database.is_empty() {
        problems.push(Problem::at(url.span, "the URL has no database").with_hint(hint));
        return None;
    }
    let address = authority.rsplit_once('@').map_or(authority, |(_, address)| address);
    let host = socket.unwrap_or_else(|| host(address));
    let local = host.is_empty() || is_loopback(host) || is_socket(host);
    Some((url, local))
}

/// The host of `host:port` or `[::1]:port`.
fn host(address: &str) -> &str {
    match address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, _)) => host,
        None => address.split(':').next().unwrap_or_default(),
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A path means a Unix socket's folder, in a URL with escaped slashes.
fn is_socket(host: &str) -> bool {
    host.starts_with('/') || host.get(..3).is_some_and(|head| head.eq_ignore_ascii_case("%2f"))
}
